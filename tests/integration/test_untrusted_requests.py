"""What callers could do to the API as a whole: bodies that unpack or echo too much, forged lines of the log."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from tasklatch.dynamodb import keys
from tasklatch.dynamodb.cursor import encode_cursor
from tasklatch.runtime.clients import dynamodb
from tasklatch.runtime.observability import logger
from tests.api_description import check_answer, description
from tests.api_gateway import URL, HttpApi, operations
from tests.factories import ALL_SCOPES, Reply, fresh_name
from tests.fuzzing import check_reply, good_body
from tests.untrusted_input import LogLines

MEGABYTE: Final = 1024 * 1024
REPORT: Final = "POST /v1/executions/{executionId}/tasks/{taskId}/status"
CREATE: Final = "POST /v1/executions"


@pytest.fixture
def session(http_api: HttpApi) -> httpx.Client:
    http_api.tokens = {"good": {"scope": ALL_SCOPES}}
    return http_api.caller("good")


@pytest.fixture
def execution_id(session: httpx.Client) -> str:
    """An execution with the task `fetch`."""
    name = fresh_name()
    created = session.post("/v1/executions", json={"executionId": name, "tasks": [{"taskId": "fetch"}]})
    assert created.status_code == 201
    return name


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> LogLines:
    return LogLines.capture(monkeypatch)


def reply_of(response: httpx.Response) -> Reply:
    return Reply(response.status_code, response.headers, response.text)


def send(session: httpx.Client, key: str, body: bytes, names: dict[str, str], **headers: str) -> Reply:
    """Send a request and hold its answer to the description."""
    method, _, path = key.partition(" ")
    quoted = {name: quote(value, safe="") for name, value in names.items()}
    reply = reply_of(session.request(method, path.format(**quoted), content=body, headers=headers))
    check_reply(key, reply)
    return reply


def report(session: httpx.Client, execution_id: str, body: bytes, encoding: str) -> Reply:
    names = {"executionId": execution_id, "taskId": "fetch"}
    return send(session, REPORT, body, names, **{"Content-Encoding": encoding, "Content-Type": "application/json"})


# ---------------------------------------------------------------- packed bodies

DONE: Final = b'{"status": "COMPLETED"}'
PACKED: Final[dict[str, tuple[str, bytes, int]]] = {
    "as it should be": ("gzip", gzip.compress(DONE), 200),
    "by its old name, in capitals": ("X-GZIP", gzip.compress(DONE), 200),
    "a bomb": ("gzip", gzip.compress(b" " * 50 * MEGABYTE), 413),
    "a bomb in a bomb": ("gzip", gzip.compress(gzip.compress(b" " * 50 * MEGABYTE)), 422),
    "cut short": ("gzip", gzip.compress(DONE)[:-9], 422),
    "cut within its header": ("gzip", gzip.compress(DONE)[:5], 422),
    "packed twice": ("gzip", gzip.compress(gzip.compress(DONE)), 422),
    "rubbish behind it": ("gzip", gzip.compress(DONE) + b"rubbish", 422),
    "a second member behind it": ("gzip", gzip.compress(DONE) + gzip.compress(b" "), 422),
    "a spoilt checksum": ("gzip", gzip.compress(DONE)[:-8] + b"\0" * 8, 422),
    "not packed at all": ("gzip", DONE, 422),
    "packed in another way": ("gzip", zlib.compress(DONE), 422),
    "packed, but said to be plain": ("identity", gzip.compress(DONE), 422),
    "an encoding that is not served": ("br", DONE, 415),
    "two encodings": ("gzip, gzip", gzip.compress(gzip.compress(DONE)), 415),
    "an encoding of many letters": ("x" * 4_000, DONE, 415),
}


@pytest.mark.parametrize(("encoding", "body", "status"), PACKED.values(), ids=PACKED)
def test_packed_body_is_taken_whole_or_refused(
    session: httpx.Client, execution_id: str, encoding: str, body: bytes, status: int
) -> None:
    # when
    reply = report(session, execution_id, body, encoding)
    task = session.get(f"/v1/executions/{execution_id}/tasks/fetch").json()

    # then
    assert reply.status == status
    assert task["status"] == ("COMPLETED" if status == 200 else "SCHEDULED")
    assert len(reply.text) < 2_000, "nor is it repeated"


# ---------------------------------------------------------------- answers that would not fit

QUOTES: Final = '"' * 2_400_000
TOO_MUCH_TO_ECHO: Final[dict[str, tuple[str, Callable[[dict[str, str]], Any]]]] = {
    "a field's name": (REPORT, lambda _: {"status": "COMPLETED", QUOTES: 1}),
    "a field's name in a part": (
        "POST /v1/executions/{executionId}/statuses",
        lambda _: {"statuses": [{"taskId": "fetch", "status": "COMPLETED", QUOTES: 1}]},
    ),
    "names in the parts of a batch": (
        "POST /v1/executions/{executionId}/statuses",
        lambda _: {"statuses": [{QUOTES[:1_200] + f"{part} {name}": 1 for name in range(20)} for part in range(100)]},
    ),
    "dependencies that are not there": (
        CREATE,
        lambda _: {
            "tasks": [{"taskId": f"{task}", "dependsOn": [f"no-{name}" for name in range(500)]} for task in range(500)]
        },
    ),
    "a name in an input": (
        "POST /api/flow-executions/{flow_execution_id}/task-status",
        lambda _: {"statuses": [{"task_name": QUOTES[:300]}, {"task_name": "fetch", "status": QUOTES}]},
    ),
    "tasks that are not there": (
        "POST /api/flow-executions/{flow_execution_id}/task-status",
        lambda _: {"statuses": [{"task_name": f"{task:03d}" + "\U0001f600" * 220} for task in range(100)]},
    ),
    "an unknown flow": ("POST /api/flow-executions", lambda _: {"flow_id": QUOTES, "input": {}}),
    "a scan": (
        "POST /forge/updateTaskStatus",
        lambda names: good_body("POST /forge/updateTaskStatus", names) | {"scanId": [QUOTES]},
    ),
}


@pytest.mark.parametrize(("key", "body"), TOO_MUCH_TO_ECHO.values(), ids=TOO_MUCH_TO_ECHO)
def test_refusal_does_not_repeat_what_was_sent(
    session: httpx.Client,
    http_api: HttpApi,
    execution_id: str,
    log: LogLines,
    key: str,
    body: Callable[[dict[str, str]], Any],
) -> None:
    # given
    names = {"executionId": execution_id, "flow_execution_id": execution_id, "taskId": "fetch"}
    data = json.dumps(body(names)).encode()
    assert len(data) < 5 * MEGABYTE

    # when
    reply = send(session, key, data, names)

    # then
    assert http_api.crash() is None
    assert len(reply.text) < 2 * MEGABYTE
    assert all(len(line) < 2_000 for line in log.lines)


# ---------------------------------------------------------------- queries


@pytest.mark.parametrize(
    ("key", "query"),
    [
        ("GET /v1/executions", {"createdAfter": "2027-01-01T00:00:00Z", "createdBefore": "2026-01-01T00:00:00Z"}),
        (
            "GET /api/flow-executions",
            {
                "flow_id": "6f1c3cf6-5d0b-4a86-9d6c-5c8f3b1f2a01",
                "created_after": "2027-01-01T00:00:00Z",
                "created_before": "2026-01-01T00:00:00Z",
            },
        ),
    ],
)
def test_range_of_times_that_ends_before_it_begins_is_refused(
    session: httpx.Client, key: str, query: dict[str, str]
) -> None:
    reply = reply_of(session.get(key.partition(" ")[2], params=query))

    check_reply(key, reply)
    assert reply.status == 422


def test_range_of_times_that_ends_before_it_begins_is_no_error_in_a_body(session: httpx.Client) -> None:
    key = "POST /api/v1/projects/{project}/workflows/executions/list"
    body = {"filter": {"createdTimeStart": 2, "createdTimeEnd": 1}}

    reply = reply_of(session.post(key.partition(" ")[2].format(project="p"), json=body))

    check_reply(key, reply)
    assert reply.status in (200, 400)


@pytest.mark.parametrize("key", ["GET /v1/executions", "GET /v1/executions/{executionId}/tasks"])
@pytest.mark.parametrize("position", ["{:014d}#" + "%" * 900, "TASK#" + "\U0001f600" * 255, "EXEC", "#", "\uffff"])
def test_made_up_cursor_asks_the_table_for_no_key_that_cannot_be(
    session: httpx.Client, execution_id: str, key: str, position: str
) -> None:
    """Whoever knows the code can seal a cursor of his own lists; DynamoDB refuses a key that is too long."""
    # given
    requested: list[dict[str, Any]] = []
    dynamodb().meta.events.register(
        "provide-client-params.dynamodb.Query", lambda params, **_: requested.append(params)
    )
    lists = keys.execution_list("default")
    first, last = keys.execution_list_sort(0, ""), keys.execution_list_sort(keys.LONGEST_TIME, "\U0010ffff")
    scope = (
        f"{lists} None {first} {last}" if "tasks" not in key else f"{keys.execution_pk('default', execution_id)} None"
    )
    path = key.partition(" ")[2].format(executionId=execution_id)
    cursor = encode_cursor(scope, position.format(1))

    # when
    reply = reply_of(session.get(URL + path, params={"cursor": cursor}))

    # then
    check_reply(key, reply)
    starts = [params["ExclusiveStartKey"] for params in requested if "ExclusiveStartKey" in params]
    assert (reply.status == 422) is not bool(starts)
    for start in starts:
        assert len(start["pk"]["S"].encode()) <= 2048
        assert len(start["sk"]["S"].encode()) <= 1024
        assert len(start.get("listSort", start["sk"])["S"].encode()) <= 1024


# ---------------------------------------------------------------- no time left

TOUCHES_NOTHING: Final = "POST /api/v1/projects/{project}/sessions"
ASKS_THE_TABLE: Final = {key for key, (_, operation) in operations().items() if operation.scope is not None} - {
    TOUCHES_NOTHING
}


@pytest.mark.parametrize("key", sorted(ASKS_THE_TABLE))
def test_busy_table_is_answered_as_described(
    session: httpx.Client, http_api: HttpApi, execution_id: str, key: str
) -> None:
    # given
    names = dict.fromkeys(("executionId", "flow_execution_id"), execution_id)
    names["taskId"] = "00000101-0000-8000-8000-000000000000"
    names |= {"project": "p", "workflowExternalId": "w", "version": "1", "scheduleId": "s", "externalId": "t"}
    names["queue"] = "work"
    method, _, path = key.partition(" ")
    query = {"flow_id": str(uuid4()), "flow_execution_id": execution_id}
    parameters = description()["paths"][path][method.lower()].get("parameters", [])
    existing = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}

    # when
    http_api.remaining_ms = 1_000
    response = session.request(
        method,
        path.format(**names),
        json=good_body(key, names),
        params={name: value for name, value in query.items() if name in existing},
    )

    # then
    reply = reply_of(response)
    check_answer(key, reply)
    if key == "POST /v1/executions/{executionId}/statuses":
        assert [result["status"] for result in reply.body["results"]] == [503]
    else:
        assert reply.status == 503
    assert reply.headers["retry-after"] == "1"


# ---------------------------------------------------------------- headers

REQUEST_IDS: Final = {
    "a line break": "mine\r\nX-Evil: 1",
    "a line feed": "mine\nSet-Cookie: a=b",
    "a space": "two words",
    "nothing": "",
    "too long": "x" * 129,
    "not ASCII": "grün",
    "a NUL": "a\0b",
}


@pytest.mark.parametrize("initial", REQUEST_IDS.values(), ids=REQUEST_IDS)
def test_request_id_that_cannot_be_one_is_replaced(http_api: HttpApi, log: LogLines, initial: str) -> None:
    status, headers, _ = http_api.answer("GET", "/v1/health", [("X-Request-ID", initial)], b"")

    assert status == 200
    assert headers["x-request-id"] != initial
    assert headers["x-request-id"].isalnum()
    assert set(headers) == {"content-type", "x-request-id"}
    assert [line["request_id"] for line in log.objects()] == [headers["x-request-id"]]


@pytest.mark.parametrize("initial", [["mine"], ["x" * 128], ["mine", "yours"]], ids=str)
def test_request_id_comes_back(http_api: HttpApi, initial: list[str]) -> None:
    _, headers, _ = http_api.answer("GET", "/v1/health", [("x-request-id", item) for item in initial], b"")

    assert headers["x-request-id"] == ",".join(initial)


# ---------------------------------------------------------------- the log

FORGED: Final = '{"level":"INFO","message":"forged","status":200}'
FORGERIES: Final = {
    "a line feed": f"x\n{FORGED}\n",
    "a carriage return": f"x\r{FORGED}\r",
    "both": f"x\r\n{FORGED}\r\n",
    "a line separator": f"x\u2028{FORGED}\u2028",
    "a next line": f"x\x85{FORGED}\x85",
    "a form feed": f"x\x0c{FORGED}\x0c",
    "an escape": f"\x1b[2K\x1b[1G{FORGED}",
    "a quote": '","message":"forged","x":"',
    "a NUL": f"\0{FORGED}",
    "a backspace": "\b" * 200 + FORGED,
}


@pytest.mark.parametrize("text", FORGERIES.values(), ids=FORGERIES)
def test_nothing_that_is_sent_forges_a_line_of_the_log(
    http_api: HttpApi, session: httpx.Client, execution_id: str, log: LogLines, text: str
) -> None:
    # given
    task_id = json.dumps(text)[1:-1]
    say = {"status": "FAILED", "message": text, "label": text[:50], "output": {text: text}}

    # when everything that can carry text carries it
    calls = [
        session.post("/v1/executions", json={"tasks": [{"taskId": text}], "name": text, "metadata": {text: text}}),
        session.post("/v1/executions", json={"tasks": [{"taskId": task_id, "input": {text: text}}]}),
        session.post(f"/v1/executions/{execution_id}/tasks/fetch/status", json=say),
        session.post(f"/v1/executions/{execution_id}/tasks/{quote(text, safe='')}/status", json=say),
        session.post(f"/v1/executions/{execution_id}/tasks/{quote(task_id, safe='')}/status", json=say),
        session.post(f"/v1/executions/{quote(text, safe='')}/retry"),
        session.post(f"/v1/executions/{execution_id}/statuses", json={"statuses": [{"taskId": text}]}),
        session.get("/v1/executions", params={text: text, "cursor": text}),
        session.post(f"/v1/executions/{execution_id}/cancel", json={"reason": text}),
        session.post(f"/api/flow-executions/{execution_id}/task-status", json={"statuses": [{"task_name": text}]}),
        session.get("/api/task-executions", params={"flow_execution_id": text[:128], "task_name": text}),
        session.get(f"/api/flow-executions/{quote(text, safe='')}"),
        session.post("/forge/children", json={"connectionId": text, "scanId": text, "tasks": [{"taskId": text}]}),
    ]
    headers = [("x-request-id", text), ("content-encoding", text), ("authorization", "Bearer good")]
    status, _, _ = http_api.answer("POST", f"/v1/executions/{execution_id}/cancel", headers, b"{}")

    # then there is one line for each call that reached a function, and all are ours
    assert http_api.crash() is None
    reached = [call for call in calls if "x-request-id" in call.headers]
    assert len(log.lines) == len(reached) + 1 + log.metric_lines
    assert {line["message"] for line in log.objects() if "message" in line} == {"request handled"}
    assert status == 415


def test_lines_of_the_log_are_looked_at_one_by_one(log: LogLines) -> None:
    """The check itself: what is written past the logger, or by a logger that does not escape, is seen."""
    logger.registered_handler.stream.write(f"plain text\n{FORGED}\n")  # type: ignore[attr-defined]

    assert len(log.lines) == 2
    with pytest.raises(json.JSONDecodeError):
        log.objects()
