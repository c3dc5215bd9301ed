"""The AWS emulator with patches: streams, encoded bodies, paths and permissions then behave as on AWS.

Faults of ministack 1.5 that this module repairs:

- PartiQL statements put no record on the table's stream. This service creates tasks and records batches by them.
- A restart keeps the position of a function in a stream, but not the stream itself: the function then waits for as many
  records as it had read before.
- The positions are saved some time after the table: writes of a function in between are lost, and their records are not
  delivered again. A task's history would lack these changes.
- A batch of a stream counts as done although its function reports records as failed, as functions do if the table was
  too busy. The changes that depend on these records would be lost for good.
- A body with a JSON content type is read as text even if it is gzip, which corrupts its bytes. On AWS an encoded body
  arrives as base64.
- ``%25`` in a path is not decoded, so an id arrives as another id. On AWS, as live captures show, a path is decoded and
  ends at a decoded question mark, and a parameter is decoded once more.
- Enforcing IAM, it uses action names for batches of statements and of messages that IAM does not have, assigns every
  schedule to the default group, and lets every principal pass every role.

The patches for alarms, HTTP APIs, layers, processes and queues are in `local/cloud/emulator_*.py`. Run this module as a
program in place of ``python -m ministack``.
"""

import copy
import json
import logging
import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import unquote

from ministack.app import main
from ministack.core import iam_actions, iam_evaluator
from ministack.services import apigateway, dynamodb, lambda_svc

from local.cloud.emulator_alarms import store_metric_math_alarms
from local.cloud.emulator_http_apis import import_http_apis
from local.cloud.emulator_layers import share_unpacked_layers
from local.cloud.emulator_processes import bound_queue_processes
from local.cloud.emulator_queues import keep_queues_on_any_port

_STATEMENTS: Final = ("_partiql_insert", "_partiql_update", "_partiql_delete")

# Index of the request's headers among the arguments of `_invoke_lambda_proxy`
_HEADERS: Final = 5
# Index of the request's body among the arguments, after the service, of `extract_resource_arn`
_BODY: Final = 3

_STREAMS: Final = ("_stream_records", "_stream_trimmed")
_SEQUENCE: Final = "_stream_seq_counter"
_POSITIONS: Final = "dynamodb_stream_positions"
# As in the template's mappings: redeliveries of a record before it goes to the failure destination
_REDELIVERIES: Final = 10
_LONGEST_WAIT: Final = 5.0

# Service Authorization Reference: IAM authorizes each PartiQL statement by its kind, on the table that it names
_STATEMENTS_OF: Final = {
    "dynamodb:BatchExecuteStatement": "Statements",
    "dynamodb:ExecuteTransaction": "TransactStatements",
}
_PARTIQL_ACTIONS: Final = {
    "DELETE": "dynamodb:PartiQLDelete",
    "INSERT": "dynamodb:PartiQLInsert",
    "SELECT": "dynamodb:PartiQLSelect",
    "UPDATE": "dynamodb:PartiQLUpdate",
}
_STATEMENTS_TABLE: Final = re.compile(
    r'^\s*(?:UPDATE|INSERT\s+INTO|DELETE\s+FROM|SELECT\b.*?\bFROM)\s+"([^"]+)"', re.DOTALL
)
_CREATE_SCHEDULE: Final = "scheduler:CreateSchedule"
_ROLE_ACTION: Final = "iam:PassRole"

_logger: Final = logging.getLogger("iam")

_in_statement: Final = ContextVar("_in_statement", default=False)
_is_encoded: Final = ContextVar("_is_encoded", default=False)
_passed_role: ContextVar[str | None] = ContextVar("_passed_role", default=None)
_refused: ContextVar[str | None] = ContextVar("_refused", default=None)


def announce_partiql_writes() -> None:
    """Patch the emulator's PartiQL statements to put their changes on the table's stream."""
    for name in _STATEMENTS:
        setattr(dynamodb, name, _announcing(getattr(dynamodb, name)))
    put, remove = dynamodb._set_item, dynamodb._remove_item  # noqa: SLF001 - it has no other place for this

    def set_item(table: dict[str, Any], hash_key: str, range_key: str, item: dict[str, Any]) -> Any:
        before = put(table, hash_key, range_key, item)
        _announce(table, "INSERT" if before is None else "MODIFY", before, item)
        return before

    def remove_item(table: dict[str, Any], hash_key: str, range_key: str) -> Any:
        before = remove(table, hash_key, range_key)
        if before is not None:
            _announce(table, "REMOVE", before, None)
        return before

    dynamodb._set_item = set_item  # noqa: SLF001
    dynamodb._remove_item = remove_item  # noqa: SLF001


def keep_streams() -> None:
    """Patch the emulator to save its streams over a restart, with the read positions as of the table's saved state."""
    get_state, load_state = dynamodb.get_state, dynamodb.load_persisted_state
    get_functions = lambda_svc.get_state
    saved: dict[str, Any] = {}

    def get_state_with_streams() -> dict[str, Any]:
        # Save the positions before the table: a record that is delivered twice does no harm, a lost one does
        saved[_POSITIONS] = get_functions()[_POSITIONS]
        streams = {name: copy.deepcopy(getattr(dynamodb, name)) for name in (*_STREAMS, _SEQUENCE)}
        return {**get_state(), **streams}

    def load_state_with_streams(state: dict[str, Any]) -> None:
        load_state(state)
        for name in _STREAMS:
            getattr(dynamodb, name).update(state.get(name, {}))
        setattr(dynamodb, _SEQUENCE, state.get(_SEQUENCE, 0))

    def get_functions_as_noted() -> dict[str, Any]:
        return {**get_functions(), **saved}

    lambda_svc.get_state = get_functions_as_noted
    dynamodb.get_state = get_state_with_streams
    dynamodb.load_persisted_state = load_state_with_streams


def redeliver_reported_records() -> None:
    """Patch the emulator to deliver a stream's batch again, from the first record that its function reports as failed.

    After ten redeliveries a record goes to the failure destination.
    """
    execute = lambda_svc._execute_function  # noqa: SLF001

    def execute_until_done(function: dict[str, Any], event: Any) -> dict[str, Any]:
        records = (event.get("Records") if isinstance(event, dict) else None) or []
        result: dict[str, Any] = execute(function, event)
        again = 0
        while (first := _first_reported(records, result)) is not None:
            again = again + 1 if first == 0 else 1
            records = records[first:]
            if again > _REDELIVERIES:
                _set_aside(function, records[0], result)
                records, again = records[1:], 0
            if not records:
                break
            time.sleep(min(again, _LONGEST_WAIT))
            result = execute(function, {**event, "Records": records})
        return result

    lambda_svc._execute_function = execute_until_done  # noqa: SLF001


def keep_encoded_bodies() -> None:
    """Patch the emulator to deliver a body with a Content-Encoding as base64."""
    invoke, is_text = apigateway._invoke_lambda_proxy, apigateway._v2_request_body_is_text  # noqa: SLF001

    async def invoke_with_bytes(*args: Any, **kwargs: Any) -> Any:
        headers = args[_HEADERS]
        token = _is_encoded.set("content-encoding" in headers)
        try:
            return await invoke(*args, **kwargs)
        finally:
            _is_encoded.reset(token)

    apigateway._invoke_lambda_proxy = invoke_with_bytes  # noqa: SLF001
    apigateway._v2_request_body_is_text = lambda kind: not _is_encoded.get() and is_text(kind)  # noqa: SLF001


def read_paths_as_api_gateway_does() -> None:
    """Patch the emulator to decode paths, cut them at a decoded question mark, and decode parameters once more."""
    match = apigateway._extract_path_params  # noqa: SLF001

    def decode(raw_path: str) -> str:
        return unquote(raw_path, errors="replace").partition("?")[0]

    def match_and_decode(route_path: str, request_path: str) -> dict[str, str] | None:
        parameters: dict[str, str] | None = match(route_path, request_path)
        if parameters is None:
            return None
        return {name: unquote(value, errors="replace") for name, value in parameters.items()}

    apigateway.decode_http_api_path = decode
    apigateway._extract_path_params = match_and_decode  # noqa: SLF001


def authorize_as_iam_does() -> None:
    """Patch the emulator to check the same actions and resources as AWS when it enforces IAM."""
    action_of, checks = iam_actions.extract_iam_action, iam_actions.dynamodb_transaction_checks
    resource_arn, refusal = iam_actions.extract_resource_arn, iam_actions.access_denied_response
    enforce = iam_evaluator.enforce

    def action_of_batch(service: str, *request: Any) -> str | None:
        action: str | None = action_of(service, *request)
        return action.removesuffix("Batch") if action and service == "sqs" else action

    def checks_of_statements(action: str, body: bytes, region: str, account: str) -> list[tuple[str, str]]:
        if action == "dynamodb:ExecuteStatement":
            return [_action_and_table(json.loads(body)["Statement"], region, account)]
        if action in _STATEMENTS_OF:
            statements = json.loads(body)[_STATEMENTS_OF[action]]
            return list(
                dict.fromkeys(_action_and_table(statement["Statement"], region, account) for statement in statements)
            )
        required_checks: list[tuple[str, str]] = checks(action, body, region, account)
        return required_checks

    def resource_in_its_group(service: str, *request: Any) -> str:
        arn: str = resource_arn(service, *request)
        body = request[_BODY]
        schedule_request = json.loads(body) if service == "scheduler" and body else {}
        _passed_role.set(schedule_request.get("Target", {}).get("RoleArn"))
        _refused.set(None)
        return arn.replace(":schedule/default/", f":schedule/{schedule_request.get('GroupName', 'default')}/")

    def enforce_with_roles(key: str, action: str, service: str, region: str, *more: Any, **kwargs: Any) -> Any:
        denied = enforce(key, action, service, region, *more, **kwargs)
        role = _passed_role.get()
        if denied or action != _CREATE_SCHEDULE or not role:
            return denied
        denied = enforce(key, _ROLE_ACTION, service, region, resource_arn=role)
        _refused.set(_ROLE_ACTION if denied else None)
        return denied

    def name_what_is_refused(service: str, action: str, principal: str, *more: Any, **kwargs: Any) -> Any:
        denied_action = _refused.get() or action
        # Only the function gets the error response, and may not log it
        _logger.warning("%s is not authorized to perform: %s", principal, denied_action)
        return refusal(service, denied_action, principal, *more, **kwargs)

    iam_actions.extract_iam_action = action_of_batch
    iam_actions.dynamodb_transaction_checks = checks_of_statements
    iam_actions.extract_resource_arn = resource_in_its_group
    iam_actions.access_denied_response = name_what_is_refused
    iam_evaluator.enforce = enforce_with_roles


def _action_and_table(statement: str, region: str, account: str) -> tuple[str, str]:
    """Return the IAM action and the table's ARN of a PartiQL statement."""
    table = _STATEMENTS_TABLE.match(statement)
    if table is None:
        raise ValueError(f"no table is named by {statement!r}")
    action = _PARTIQL_ACTIONS[statement.split(maxsplit=1)[0].upper()]
    return action, f"arn:aws:dynamodb:{region}:{account}:table/{table[1]}"


def _first_reported(records: list[Any], result: dict[str, Any]) -> int | None:
    """Return the index of the first record of a stream that its function reports as failed; None without one."""
    if result.get("error") or not records or records[0].get("eventSource") != "aws:dynamodb":
        return None
    body = result.get("body")
    answer = json.loads(body) if isinstance(body, str) and body else body
    failures = (answer or {}).get("batchItemFailures") or []
    reported = {failure["itemIdentifier"] for failure in failures}
    numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
    return next((index for index, number in enumerate(numbers) if number in reported), None)


def _set_aside(function: dict[str, Any], record: dict[str, Any], result: dict[str, Any]) -> None:
    """Send a record whose redeliveries are exhausted to the failure destination of its mapping."""
    name, stream = (function.get("config") or function)["FunctionName"], record["eventSourceARN"]
    for _, _, mapping in lambda_svc._iter_all_esms():  # noqa: SLF001
        if mapping["FunctionName"] == name and mapping.get("EventSourceArn") == stream:
            why = "RetryAttemptsExhausted"
            lambda_svc._send_ddb_stream_failure_record(mapping, function, [record], stream, result, why)  # noqa: SLF001


def _announcing(statement: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        token = _in_statement.set(True)
        try:
            return statement(*args, **kwargs)
        finally:
            _in_statement.reset(token)

    return run


def _announce(table: dict[str, Any], event: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
    if _in_statement.get():
        images = copy.deepcopy((before, after))
        dynamodb._emit_stream_event(table["TableName"], event, *images)  # noqa: SLF001


if __name__ == "__main__":
    announce_partiql_writes()
    keep_streams()
    redeliver_reported_records()
    keep_encoded_bodies()
    keep_queues_on_any_port()
    share_unpacked_layers()
    bound_queue_processes()
    import_http_apis()
    read_paths_as_api_gateway_does()
    store_metric_math_alarms()
    authorize_as_iam_does()
    main()
