"""Emulator patches: with IAM enforced, the same actions and resources are checked as on AWS."""

import json
import logging
import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Final

from ministack.core import iam_actions, iam_evaluator
from ministack.services import dynamodb

# Service Authorization Reference: IAM authorizes each PartiQL statement by its kind, on the table that it names
_STATEMENT_LISTS: Final = {
    "dynamodb:BatchExecuteStatement": "Statements",
    "dynamodb:ExecuteTransaction": "TransactStatements",
}
_PARTIQL_ACTIONS: Final = {
    "DELETE": "dynamodb:PartiQLDelete",
    "INSERT": "dynamodb:PartiQLInsert",
    "SELECT": "dynamodb:PartiQLSelect",
    "UPDATE": "dynamodb:PartiQLUpdate",
}
_STATEMENT_TABLE: Final = re.compile(
    r'^\s*(?:UPDATE|INSERT\s+INTO|DELETE\s+FROM|SELECT\b.*?\bFROM)\s+"([^"]+)"', re.DOTALL
)
_WRITE_SCHEDULE: Final = ("scheduler:CreateSchedule", "scheduler:UpdateSchedule")
_ROLE_ACTION: Final = "iam:PassRole"

# Index of the request's body among the arguments, after the service, of `extract_resource_arn`
_BODY: Final = 3

_logger: Final = logging.getLogger("iam")

_role_to_pass: ContextVar[str | None] = ContextVar("_role_to_pass", default=None)
_denied_action: ContextVar[str | None] = ContextVar("_denied_action", default=None)


class IamTransport:
    """Requests that count as encrypted in transit.

    Fault of ministack 1.5: it speaks HTTP only, so a policy that refuses what is not encrypted refuses everything.
    """

    def __init__(self) -> None:
        self._resolve = iam_evaluator._resolve_condition_key  # noqa: SLF001 - it has no other place for this

    def install(self) -> None:
        """Patch the emulator."""
        iam_evaluator._resolve_condition_key = self.resolve  # noqa: SLF001

    def resolve(self, key: str, context: Any) -> Any:
        """Return the value of a condition's key."""
        return "true" if key.lower() == "aws:securetransport" else self._resolve(key, context)


class IamActionNames:
    """Action names of batches.

    Fault of ministack 1.5: for batches of statements and of messages it checks action names that IAM does not have.
    """

    def __init__(self) -> None:
        self._extract_action = iam_actions.extract_iam_action
        self._transaction_checks = iam_actions.dynamodb_transaction_checks

    def install(self) -> None:
        """Patch the emulator."""
        iam_actions.extract_iam_action = self.extract_action
        iam_actions.dynamodb_transaction_checks = self.transaction_checks

    def extract_action(self, service: str, *request: Any) -> str | None:
        """Return the action of a request; of a batch of messages, that of one message."""
        action: str | None = self._extract_action(service, *request)
        return action.removesuffix("Batch") if action and service == "sqs" else action

    def transaction_checks(self, action: str, body: bytes, region: str, account: str) -> list[tuple[str, str]]:
        """Return the actions and resources to check for a request to DynamoDB."""
        if action == "dynamodb:ExecuteStatement":
            return [_statement_check(json.loads(body)["Statement"], region, account)]
        if action in _STATEMENT_LISTS:
            statements = json.loads(body)[_STATEMENT_LISTS[action]]
            return list(
                dict.fromkeys(_statement_check(statement["Statement"], region, account) for statement in statements)
            )
        checks: list[tuple[str, str]] = self._transaction_checks(action, body, region, account)
        return checks


class IamLeadingKeys:
    """Condition key `dynamodb:LeadingKeys`: the partition keys that a request names.

    Fault of ministack 1.5: requests to DynamoDB do not carry it, so that every condition on it holds.
    """

    def __init__(self) -> None:
        self._context = iam_actions.dynamodb_service_context

    def install(self) -> None:
        """Patch the emulator."""
        iam_actions.dynamodb_service_context = self.context

    def context(self, body: bytes) -> dict[str, Any]:
        """Return the condition keys of a request to DynamoDB."""
        context: dict[str, Any] = self._context(body)
        values = list(dict.fromkeys(_partition_keys(json.loads(body))))
        return {**context, "dynamodb:LeadingKeys": values} if values else context


class IamScheduleGroups:
    """Groups of schedules.

    Fault of ministack 1.5: it checks every schedule as a schedule of the default group.
    """

    def __init__(self) -> None:
        self._extract_arn = iam_actions.extract_resource_arn

    def install(self) -> None:
        """Patch the emulator."""
        iam_actions.extract_resource_arn = self.extract_arn

    def extract_arn(self, service: str, *request: Any) -> str:
        """Return the ARN of a request's resource; a schedule's ARN has the name of its group."""
        arn: str = self._extract_arn(service, *request)
        group = _schedule(service, request).get("GroupName", "default")
        return arn.replace(":schedule/default/", f":schedule/{group}/")


class IamPassRole:
    """Permission to pass a role to a schedule.

    Fault of ministack 1.5: it lets every principal pass every role.
    """

    def __init__(self) -> None:
        self._extract_arn = iam_actions.extract_resource_arn
        self._enforce = iam_evaluator.enforce
        self._denial = iam_actions.access_denied_response

    def install(self) -> None:
        """Patch the emulator."""
        iam_actions.extract_resource_arn = self.extract_arn
        iam_actions.access_denied_response = self.denial
        iam_evaluator.enforce = self.enforce

    def extract_arn(self, service: str, *request: Any) -> str:
        """Return the ARN of a request's resource, and note the role that the request passes."""
        arn: str = self._extract_arn(service, *request)
        _role_to_pass.set(_schedule(service, request).get("Target", {}).get("RoleArn"))
        _denied_action.set(None)
        return arn

    def enforce(self, key: str, action: str, service: str, region: str, *more: Any, **kwargs: Any) -> Any:
        """Check a request and, if it writes a schedule, the passing of the schedule's role."""
        denied = self._enforce(key, action, service, region, *more, **kwargs)
        role = _role_to_pass.get()
        if denied or action not in _WRITE_SCHEDULE or not role:
            return denied
        denied = self._enforce(key, _ROLE_ACTION, service, region, resource_arn=role)
        _denied_action.set(_ROLE_ACTION if denied else None)
        return denied

    def denial(self, service: str, action: str, principal: str, *more: Any, **kwargs: Any) -> Any:
        """Return the error response with the action that was denied, and log it."""
        denied_action = _denied_action.get() or action
        # Only the function gets the error response, and may not log it
        _logger.warning("%s is not authorized to perform: %s", principal, denied_action)
        return self._denial(service, denied_action, principal, *more, **kwargs)


def _schedule(service: str, request: tuple[Any, ...]) -> dict[str, Any]:
    """Return the body of a request to EventBridge Scheduler, or its group; empty for other services."""
    if service != "scheduler":
        return {}
    body, query = request[_BODY : _BODY + 2]
    if not body:
        # A request without a body has the group in its query
        return {"GroupName": query.get("groupName", ["default"])[0]}
    schedule: dict[str, Any] = json.loads(body)
    return schedule


def _partition_keys(request: dict[str, Any]) -> Iterator[str]:
    """Yield the values of the partition keys that a request names, statements and the parts of batches included."""
    for table, parts in request.get("RequestItems", {}).items():
        if isinstance(parts, dict):
            requests = [{"Key": key} for key in parts["Keys"]]
        else:
            requests = [change for part in parts for change in part.values()]
        for part in requests:
            yield from _values_of_key(table, part)
    for action in request.get("TransactItems", []):
        for part in action.values():
            yield from _values_of_key(part["TableName"], part)
    for statement in request.get("Statements", []):
        yield from _stated_key(statement["Statement"], statement.get("Parameters", []))
    if isinstance(request.get("TableName"), str):
        yield from _values_of_key(request["TableName"], request)


def _values_of_key(table: str, part: dict[str, Any]) -> Iterator[str]:
    """Yield the partition key's value in an item or a key."""
    value = (part.get("Item") or part.get("Key") or {}).get(_partition_key(table))
    if value is not None:
        yield from value.values()


def _stated_key(text: str, parameters: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the value of the partition key in a statement, which is a parameter."""
    table = _STATEMENT_TABLE.match(text)
    name = _partition_key(table[1]) if table is not None else None
    stated = re.search(rf"""["']{name}["']\s*[:=]\s*\?""", text)
    if stated is not None:
        yield from parameters[text.count("?", 0, stated.start())].values()


def _partition_key(table: str) -> str | None:
    """Return the name of a table's partition key; None if there is no such table."""
    schema = dynamodb._tables.get(table, {}).get("KeySchema", [])  # noqa: SLF001 - it has no other place for this
    return next((part["AttributeName"] for part in schema if part["KeyType"] == "HASH"), None)


def _statement_check(statement: str, region: str, account: str) -> tuple[str, str]:
    """Return the IAM action and the table's ARN of a PartiQL statement."""
    table = _STATEMENT_TABLE.match(statement)
    if table is None:
        raise ValueError(f"no table in PartiQL statement {statement!r}")
    action = _PARTIQL_ACTIONS[statement.split(maxsplit=1)[0].upper()]
    return action, f"arn:aws:dynamodb:{region}:{account}:table/{table[1]}"
