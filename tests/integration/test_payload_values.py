"""What comes back is what was sent, or is refused: numbers, repeated keys, depth, on every route of every contract."""

import json
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from local.handlers import load_handler
from tasklatch.domain.attempt_id import task_execution_id
from tasklatch.domain.json_text import MAX_NESTING
from tasklatch.runtime import services
from tests.api_description import check_answer
from tests.api_gateway import HttpApi, operations
from tests.factories import ALL_SCOPES, Context, Reply, api_event, call_api, fresh_name
from tests.fuzzing import good_body
from tests.workflow_helpers import FakeClient

NAMES: Final = {
    "executionId": "none",
    "externalId": "none",
    "flow_execution_id": "none",
    "project": "default",
    "scheduleId": "none",
    "taskId": task_execution_id("default", "none", "a", 1),
    "version": "1",
    "workflowExternalId": "none",
    "queue": "none",
}
WITH_BODY: Final = sorted(key for key, (_, operation) in operations().items() if operation.request is not None)
_WORKFLOWS: Final = "/api/v1/projects/default/workflows"


@pytest.fixture
def session(http_api: HttpApi) -> httpx.Client:
    http_api.tokens = {"good": {"scope": ALL_SCOPES}}
    return http_api.caller("good")


def send(session: httpx.Client, key: str, body: bytes, **headers: str) -> Reply:
    """Send a request about what is not there, and hold its answer to the description."""
    method, _, path = key.partition(" ")
    quoted = {name: quote(value, safe="") for name, value in NAMES.items()}
    sent = {"Content-Type": "application/json"} | headers
    response = session.request(method, path.format(**quoted), content=body, headers=sent)
    reply = Reply(response.status_code, response.headers, response.text)
    check_answer(key, reply)
    return reply


def with_field(key: str, text: str) -> bytes:
    """A body that is good but for a field more."""
    good = json.dumps(good_body(key, NAMES))
    return (good[:-1] + (", " if good != "{}" else "") + f'"more": {text}}}').encode()


REFUSED: Final = {
    "a repeated key": ('{"in": [{"k": 1, "k": 2}]}', "more.in.0.k", "repeated"),
    "a number over a double's range": ('{"n": 1e400}', "more.n", "double"),
    "a number of too many digits": ('{"n": [0.12345678901234567890]}', "more.n.0", "double"),
    "no number": ('{"n": NaN}', "more.n", "NaN"),
    "too many levels": ("[" * MAX_NESTING + "]" * MAX_NESTING, "", "nested"),
    "half of a surrogate pair": ('"\\ud800"', "", "surrogate"),
}


@pytest.mark.parametrize("fault", REFUSED)
@pytest.mark.parametrize("key", WITH_BODY)
def test_body_that_parsers_read_differently_is_refused_in_the_contracts_words(
    session: httpx.Client, key: str, fault: str
) -> None:
    # given
    text, path, word = REFUSED[fault]

    # when
    reply = send(session, key, with_field(key, text))

    # then
    platform = operations()[key][1].error_format
    assert reply.status == platform.status(422)  # type: ignore[arg-type]
    assert word in reply.text
    if "problem" in reply.headers["content-type"] or "detail" in reply.body:
        (messages,) = reply.body["errors"] if "errors" in reply.body else reply.body["detail"]
        assert ".".join(map(str, messages["loc"][1:])) == path
    else:
        assert path in reply.text


@pytest.mark.parametrize("key", WITH_BODY)
def test_key_repeated_at_the_top_is_refused(session: httpx.Client, key: str) -> None:
    body = b'{"status": "COMPLETED", "status": "FAILED"}'
    assert send(session, key, body).status == operations()[key][1].error_format.status(422)  # type: ignore[arg-type]


ENCODED: Final[dict[str, tuple[bytes, dict[str, str], int]]] = {
    "a byte order mark": (b"\xef\xbb\xbf{}", {}, 422),
    "UTF-16": ("{}".encode("utf-16"), {}, 422),
    "not UTF-8": (b'{"\xff": 1}', {}, 422),
    "another charset": (b"{}", {"Content-Type": "application/json; charset=iso-8859-1"}, 415),
    "another charset in quotes": (b"{}", {"Content-Type": 'application/json; Charset="UTF-16"'}, 415),
}


@pytest.mark.parametrize(("body", "headers", "status"), ENCODED.values(), ids=ENCODED)
@pytest.mark.parametrize("key", WITH_BODY)
def test_body_in_another_encoding_is_refused(
    session: httpx.Client, key: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    expected = operations()[key][1].error_format.status(status)  # type: ignore[arg-type]
    assert send(session, key, body, **headers).status == expected


def test_charset_of_json_may_be_named(session: httpx.Client) -> None:
    for charset in ("utf-8", "UTF-8", '"utf8"', "us-ascii"):
        headers = {"Content-Type": f"application/json; charset={charset}"}
        body = b'{"tasks": [{"taskId": "a"}]}'
        assert session.post("/v1/executions", content=body, headers=headers).status_code == 201


@pytest.mark.parametrize(
    "url",
    [
        "/v1/executions?limit=1&limit=1",
        "/v1/executions?status=RUNNING&limit=1&status=FAILED",
        "/v1/executions?cursor=&cursor=",
        "/api/task-executions?flow_execution_id=a&task_name=a&task_name=b",
        f"{_WORKFLOWS}?limit=1&limit=2",
    ],
)
def test_query_parameter_that_comes_twice_is_refused(session: httpx.Client, url: str) -> None:
    reply = session.get(url)
    assert reply.status_code in (400, 422)
    assert "more than once" in reply.text


def test_statuses_of_superai_may_come_one_by_one(session: httpx.Client) -> None:
    assert session.get(f"/api/flow-executions?flow_id={uuid4()}&status=running&status=failed").status_code == 200


# ---------------------------------------------------------------- numbers

NUMBERS: Final = {
    "integers": "[0, 9007199254740993, -170141183460469231731687303715884105728, 123456789012345678901234567890]",
    "decimals": "[0.1, 1.0, -0.0, 3.141592653589793, 1e100, 5e-324, 1.7976931348623157e308, 123456789.123]",
}
SAME: Final = "[1e2, 1E+2, 100.00, 0.10000000000000001, -0]"
"""What comes back in other words: the same doubles."""


def as_text(value: Any) -> str:
    return json.dumps(value)


@pytest.mark.parametrize("sent", [*NUMBERS.values(), SAME], ids=[*NUMBERS, "in other words"])
def test_numbers_come_back_through_v1_and_references(session: httpx.Client, sent: str) -> None:
    # given
    expected = as_text(json.loads(sent.replace("-0]", "-0.0]")))
    name = fresh_name()
    body = (
        f'{{"executionId": "{name}", "metadata": {{"n": {sent}}}, "tasks": ['
        f'{{"taskId": "a", "input": {{"n": {sent}}}}},'
        f'{{"taskId": "b", "dependsOn": ["a"], "input": {{"i": "${{a.input.n}}", "o": "${{a.output.n}}"}}}}]}}'
    )

    # when
    created = session.post("/v1/executions", content=body)
    report = f'{{"status": "COMPLETED", "attempt": 1, "output": {{"n": {sent}}}}}'
    session.post(f"/v1/executions/{name}/tasks/a/status", content=report)
    settled = {"detail": {"tenant": "default", "executionId": name, "taskId": "a"}}
    load_handler("workflow_advancer").handler(
        {"Records": [{"messageId": "1", "body": json.dumps(settled)}]}, Context(60_000)
    )

    # then
    first, second = (session.get(f"/v1/executions/{name}/tasks/{task}").json() for task in ("a", "b"))
    assert as_text(created.json()["metadata"]["n"]) == expected
    assert as_text(first["input"]["n"]) == as_text(first["output"]["n"]) == expected
    assert as_text(second["input"]["i"]) == as_text(second["input"]["o"]) == expected


@pytest.mark.parametrize("sent", NUMBERS.values(), ids=NUMBERS)
def test_numbers_come_back_through_the_platforms(session: httpx.Client, sent: str) -> None:
    expected = as_text(json.loads(sent))

    # Forge: what a taskRunner is called with
    scan, task = fresh_name(), str(uuid4())
    root = f'{{"taskId": "{task}", "taskMetadata": {{"n": {sent}}}}}'
    body = f'{{"connectionId": "c", "scanId": "{scan}", "tasks": [{root}]}}'
    assert session.post("/forge/scans", content=body).status_code == 201
    initial = session.get(f"/v1/executions/{scan}/tasks/{task}").json()["input"]
    assert as_text(initial["taskMetadata"]["n"]) == expected

    # SuperAI: a flow's input
    flow = f'{{"flow_id": "{uuid4()}", "input": {{"n": {sent}}}}}'
    assert as_text(session.post("/api/flow-executions", content=flow).json()["input"]["n"]) == expected

    # Cognite: parameters, the run's input, and outputs that are merged
    name = fresh_name()
    function = f'{{"function": {{"externalId": "f", "data": {{"n": {sent}, "w": "${{workflow.input.n}}"}}}}}}'
    tasks = f'[{{"externalId": "t", "type": "function", "parameters": {function}}}]'
    version = f'{{"workflowExternalId": "{name}", "version": "1", "workflowDefinition": {{"tasks": {tasks}}}}}'
    session.post(_WORKFLOWS, json={"items": [{"externalId": name}]})
    assert session.post(f"{_WORKFLOWS}/versions", content=f'{{"items": [{version}]}}').status_code == 200
    run = f'{{"authentication": {{"nonce": "{fresh_name()}"}}, "input": {{"n": {sent}}}}}'
    execution_id = session.post(f"{_WORKFLOWS}/{name}/versions/1/run", content=run).json()["id"]
    shown = session.get(f"{_WORKFLOWS}/executions/{execution_id}").json()
    data = shown["executedTasks"][0]["input"]["function"]["data"]
    assert as_text(shown["input"]["n"]) == as_text(data["n"]) == as_text(data["w"]) == expected
    update = f"{_WORKFLOWS}/tasks/{shown['executedTasks'][0]['id']}/update"
    session.post(update, content=f'{{"status": "FAILED", "output": {{"n": {sent}}}}}')
    merged = session.post(update, content=f'{{"status": "COMPLETED", "output": {{"m": {sent}}}}}').json()["output"]
    assert as_text(merged["n"]) == as_text(merged["m"]) == expected


@pytest.mark.parametrize("text", ["-0", "-0.0", "0.0005", "5e-324", "86400"])
def test_seconds_are_kept_to_the_thousandth(session: httpx.Client, text: str) -> None:
    name = fresh_name()
    session.post("/v1/executions", json={"executionId": name, "tasks": [{"taskId": "a"}]})
    path = f"/v1/executions/{name}/tasks/a"
    report = f'{{"status": "FAILED", "attempt": 1, "retryAfterSeconds": {text}}}'
    assert session.post(f"{path}/heartbeat", content='{"attempt": 1, "progress": -0.0}').status_code == 200
    assert session.post(f"{path}/status", content=report).status_code == 200
    assert session.get(path).json()["progress"] == 0
    assert "-0" not in json.dumps(session.get(path).json()["progress"])


@pytest.mark.parametrize("text", ["1e400", "123456789012345678901234567890", "-1e-999", "true", '"1"', "NaN"])
def test_seconds_that_are_none_are_refused(session: httpx.Client, text: str) -> None:
    reply = session.post(
        "/v1/executions/x/tasks/a/status", content=f'{{"status": "FAILED", "attempt": 1, "retryAfterSeconds": {text}}}'
    )
    assert reply.status_code == 422


# ---------------------------------------------------------------- errors that nobody foresees


def failing(error: Exception) -> Callable[[], FakeClient]:
    class Failing:
        def __getattr__(self, name: str) -> Any:
            raise error

    client: Any = Failing()
    return lambda: client


NEEDS_NO_TABLE: Final = {"POST /api/v1/projects/{project}/sessions"}
NEEDED_QUERY: Final = {
    "GET /api/flow-executions": {"flow_id": str(uuid4())},
    "GET /api/task-executions": {"flow_execution_id": "none"},
}


@pytest.mark.usefixtures("scheduler")
@pytest.mark.parametrize("key", sorted(key for key, (_, item) in operations().items() if item.scope is not None))
def test_error_that_nobody_foresees_is_answered_in_the_contracts_words(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    function, operation = operations()[key]
    monkeypatch.setattr(services, "dynamodb", failing(RecursionError("deep")))

    # when
    event = api_event(key, path=NAMES, body=good_body(key, NAMES), query=NEEDED_QUERY.get(key, {}))
    reply = call_api(load_handler(function).handler, event, Context(60_000))

    # then
    if key in NEEDS_NO_TABLE:
        assert reply.status == 200
        return
    assert reply.status == 500, reply.text
    check_answer(key, reply)
    assert reply.headers["content-type"] == operation.error_format.media_type
    assert "RecursionError" not in reply.text


def test_watcher_whom_an_unforeseen_error_keeps_out_is_told_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    module = load_handler("live_connection")
    monkeypatch.setattr(services, "dynamodb", failing(KeyError("x")))
    event = {
        "requestContext": {"routeKey": "$connect", "connectionId": "c"},
        "queryStringParameters": {"ticket": "t" * 43},
    }

    # then
    assert module.handler(event, Context()) == {"statusCode": 500}


def test_execution_whose_input_cannot_be_made_is_answered_and_can_be_retried(session: httpx.Client) -> None:
    # given a chain of which each task wraps the input of the one before
    name, levels = fresh_name(), 30
    tasks: list[dict[str, Any]] = [{"taskId": "t0", "input": {"a": 1}}]
    for number in range(1, 5):
        initial = f'{{"a":{"[" * levels}"${{t{number - 1}.input}}"{"]" * levels}}}'
        tasks.append({"taskId": f"t{number}", "dependsOn": [f"t{number - 1}"], "input": json.loads(initial)})
    assert session.post("/v1/executions", json={"executionId": name, "tasks": tasks}).status_code == 201
    advancer = load_handler("workflow_advancer").handler

    def advance(**detail: str) -> None:
        event = {"detail": {"tenant": "default", "executionId": name, **detail}}
        answer = advancer({"Records": [{"messageId": "1", "body": json.dumps(event)}]}, Context(60_000))
        assert answer == {"batchItemFailures": []}

    # when
    for task in ("t0", "t1"):
        session.post(f"/v1/executions/{name}/tasks/{task}/status", json={"status": "COMPLETED", "attempt": 1})
        advance(taskId=task)
    advance(taskId="t2")

    # then
    failed = session.get(f"/v1/executions/{name}/tasks/t2").json()
    assert failed["status"] == "FAILED_WITH_TERMINAL_ERROR"
    assert "nested more than 60 levels" in failed["message"]
    assert session.get(f"/v1/executions/{name}").json()["status"] == "FAILED"
    retried = session.post(f"/v1/executions/{name}/retry")
    assert (retried.status_code, retried.json()["status"]) == (200, "RUNNING")
