"""Tokens, tickets, secrets and what workers say stay out of the log, whatever happens to them on the way."""

import base64
import gzip
import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from botocore.exceptions import ClientError

from local.handlers import FUNCTIONS, ROOT, load_handler
from tasklatch.runtime import services
from tasklatch.runtime.observability import logger
from tests.api_gateway import HttpApi, operations
from tests.factories import ALL_SCOPES, Context, fresh_name
from tests.fuzzing import good_body
from tests.untrusted_input import MARKER, SECRET_FIELDS, LogLines, marked
from tests.workflow_helpers import FakeClient

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SAMPLES: Final = sorted((ROOT / "events").rglob("*.json"))
NAMES: Final = sorted(path.parent.name for path in FUNCTIONS.glob("*/handler.py"))


def marked_event(sample: Path) -> Any:
    event = json.loads(sample.read_text())
    if event.get("isBase64Encoded"):
        try:
            body = json.loads(gzip.decompress(base64.b64decode(event["body"])))
        except (OSError, ValueError):
            return marked(event)
        packed = base64.b64encode(gzip.compress(json.dumps(marked(body)).encode())).decode()
        return marked({**event, "body": ""}) | {"body": packed}
    return marked(event)


class Refusing:
    """An AWS client that refuses whatever it is asked, and has the item and the request in its error."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def refuse(**request: Any) -> Any:
            response: Any = {
                "Error": {"Code": self._code, "Message": "no"},
                "Item": {"message": {"S": MARKER}, "payload": {"S": MARKER}},
                "CancellationReasons": [{"Code": self._code, "Item": {"message": {"S": MARKER}}}],
                "Request": request,
            }
            raise ClientError(response, operation)

        return refuse


@contextmanager
def other_clients(monkeypatch: pytest.MonkeyPatch, make: Callable[[str], Any]) -> Iterator[None]:
    """Let all functions have other AWS clients."""
    with monkeypatch.context() as patched:
        for name in ("dynamodb", "sqs", "scheduler", "events", "live_callback"):
            patched.setattr(services, name, partial(_give, make(name)))
        yield


def _give(client: Any, *_: Any) -> Any:
    return client


def run(function: str, event: Any, log: LogLines, context: Any) -> None:
    """Run a function as Lambda does: what it raises goes into the log, with its traceback."""
    try:
        load_handler(function).handler(event, context)
    except Exception:  # noqa: BLE001 - whatever it is
        log.written.write(json.dumps(traceback.format_exc()) + "\n")


def check_secrecy(log: LogLines) -> None:
    assert MARKER not in log.text
    assert log.objects(), "something was logged"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[LogLines]:
    """Everything that is logged, by whoever: the functions' own lines, and those of other loggers from INFO on."""
    lines = LogLines.capture(monkeypatch)
    with caplog.at_level("INFO"):
        yield lines
        assert MARKER not in caplog.text


@pytest.fixture
def helpful(ministack: "DynamoDBClient") -> Callable[[str], Any]:
    """Clients that do what they are asked: the table is an emulator's."""
    fakes: dict[str, Any] = {
        "dynamodb": ministack,
        "sqs": FakeClient(send_message_batch={"Successful": []}, send_message={"MessageId": "1"}),
        "scheduler": FakeClient(create_schedule={"ScheduleArn": "arn"}),
        "events": FakeClient(put_events=lambda Entries, **_: {"FailedEntryCount": 0, "Entries": [{} for _ in Entries]}),  # noqa: N803
        "live_callback": FakeClient(post_to_connection={}, delete_connection={}),
    }
    return fakes.__getitem__


def test_samples_carry_the_marker() -> None:
    carrying = [sample.name for sample in SAMPLES if MARKER in json.dumps(marked_event(sample))]
    assert len(carrying) > 50
    assert len(SAMPLES) > 70


def test_event_or_item_in_the_log_would_be_found(log: LogLines, caplog: pytest.LogCaptureFixture) -> None:
    """The check itself, on the two ways in which it could happen."""
    # given an event that is logged, and an error that tells of an item
    event = marked_event(ROOT / "events" / "http_api" / "report-success.json")
    logger.info("an event", extra={"event": event})
    with pytest.raises(AssertionError):
        check_secrecy(log)
    log.written.truncate(0)
    try:
        int(event["body"])
    except ValueError:
        logger.exception("an error")

    # when, then
    with pytest.raises(AssertionError):
        check_secrecy(log)
    assert MARKER in caplog.text
    caplog.clear()


@pytest.mark.parametrize("function", NAMES)
def test_no_function_logs_what_is_secret_in_any_event(
    function: str, helpful: Callable[[str], Any], log: LogLines, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    with other_clients(monkeypatch, helpful):
        for sample in SAMPLES:
            run(function, marked_event(sample), log, Context())

    check_secrecy(log)
    record_property("events", str(len(SAMPLES)))


@pytest.mark.parametrize("code", ["AccessDeniedException", "ConditionalCheckFailedException"])
@pytest.mark.parametrize("function", NAMES)
def test_error_of_aws_brings_nothing_secret_into_the_log(
    function: str, code: str, log: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    with other_clients(monkeypatch, lambda _name: Refusing(code)):
        for sample in SAMPLES:
            run(function, marked_event(sample), log, Context(remaining_ms=4_600))

    check_secrecy(log)


class Anything(dict[str, str]):
    """Names, and one for each that is not there."""

    def __missing__(self, _name: str) -> str:
        return "x"


class Garbling:
    """A table in whose items all that is secret is there, but spoilt."""

    def __init__(self, client: "DynamoDBClient") -> None:
        self._client = client

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            return _garbled(getattr(self._client, operation)(**request))

        return call


def _garbled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: {"S": f"{{{MARKER}"} if name in SECRET_FIELDS else _garbled(item) for name, item in value.items()}
    return [_garbled(element) for element in value] if isinstance(value, list) else value


def test_callers_secrets_stay_out_of_the_log(http_api: HttpApi, log: LogLines) -> None:
    # given a token that is a secret, and a caller who says secrets wherever there is room
    http_api.tokens = {MARKER: {"scope": ALL_SCOPES}}
    caller = http_api.caller(MARKER)
    execution_id = fresh_name()
    messages = {"text": MARKER}
    task = {"taskId": "fetch", "input": messages}

    # when
    replies = [
        caller.post("/v1/executions", json={"executionId": execution_id, "metadata": messages, "tasks": [task]}),
        caller.post("/v1/executions", json={"executionId": execution_id, "name": MARKER, "tasks": [task]}),
        caller.post(f"/v1/executions/{execution_id}/tasks/fetch/status", json={"status": "FAILED", "message": MARKER}),
        caller.post(
            f"/v1/executions/{execution_id}/tasks/fetch/status",
            json={"status": "COMPLETED", "output": messages, "message": MARKER, "label": MARKER},
        ),
        caller.post(f"/v1/executions/{execution_id}/tasks/fetch/status", json={MARKER: MARKER, "status": MARKER}),
        caller.post(f"/v1/executions/{execution_id}/tasks/fetch/status", content=MARKER),
        caller.post(f"/v1/executions/{execution_id}/tasks/fetch/status", content=f'{{"output": "{MARKER}'),
        caller.get(f"/v1/executions/{execution_id}/tasks/fetch"),
        caller.get("/v1/executions", params={"cursor": MARKER}),
        caller.get("/v1/executions", params={MARKER: MARKER}),
        caller.post(f"/v1/executions/{execution_id}/cancel", json={"reason": MARKER}),
        caller.post("/v1/executions", json={"tasks": [task]}, headers={"Idempotency-Key": MARKER}),
        caller.post("/forge/updateTaskStatus", json={**_UPDATE, "scanId": {"token": MARKER}}),
        caller.post(
            "/api/flow-executions", json={"flow_id": "6f1c3cf6-5d0b-4a86-9d6c-5c8f3b1f2a01", "input": messages}
        ),
        caller.post("/api/flow-executions", json={"flow_id": MARKER, "input": messages}),
    ]

    # then they were read and answered, and none was logged
    assert {reply.status_code for reply in replies} >= {200, 201, 404, 409, 422}
    assert http_api.crash() is None
    assert sum(MARKER in reply.text for reply in replies) >= 3
    assert len([line for line in log.objects() if line.get("message") == "request handled"]) == len(replies)
    check_secrecy(log)


_UPDATE: Final = {
    "connectionId": MARKER,
    "status": "success",
    "task": {"taskId": "0b6f5a52-7d0e-4a53-9a52-5c2f1e7d9010"},
    "failureReason": None,
}


def test_ticket_stays_out_of_the_log(http_api: HttpApi, log: LogLines) -> None:
    # given
    http_api.tokens = {MARKER: {"scope": ALL_SCOPES}}
    caller = http_api.caller(MARKER)
    execution_id = caller.post("/v1/executions", json={"tasks": [{"taskId": "a"}]}).json()["executionId"]
    issued = caller.post(f"/v1/executions/{execution_id}/watch").json()

    # when it is used, twice
    event = {
        "requestContext": {"routeKey": "$connect", "connectionId": fresh_name()},
        "queryStringParameters": {"ticket": issued["ticket"]},
    }
    statuses = [load_handler("live_connection").handler(event, Context())["statusCode"] for _ in range(2)]

    # then
    assert statuses == [200, 403]
    assert issued["ticket"] not in log.text
    check_secrecy(log)


def test_item_that_cannot_be_read_stays_out_of_the_log(
    http_api: HttpApi, ministack: "DynamoDBClient", log: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given tasks, and a table that gives something else for what lies in it
    http_api.tokens = {"good": {"scope": ALL_SCOPES}}
    caller = http_api.caller("good")
    tasks = [{"taskId": "fetch", "input": {"a": 1}}, {"taskId": "parse"}]
    body = {"tasks": tasks, "metadata": {"a": 1}}
    execution_id = caller.post("/v1/executions", json=body).json()["executionId"]
    names = {"executionId": execution_id, "flow_execution_id": execution_id, "taskId": "fetch"}

    # when
    crashed = 0
    with other_clients(monkeypatch, lambda _name: Garbling(ministack)):
        for key, (_, operation) in operations().items():
            if operation.scope is None:
                continue
            method, _, path = key.partition(" ")
            reply = caller.request(method, path.format_map(Anything(names)), json=good_body(key, names))
            crashed += reply.status_code == 500

    # then
    assert http_api.crash() is None
    assert crashed > 3, "it is no answer either"
    check_secrecy(log)
