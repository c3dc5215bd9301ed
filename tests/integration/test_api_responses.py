"""The functions' handlers in this process, over an emulated table: every answer fits the description they serve."""

import base64
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import pytest

from tasklatch.domain.execution import Execution
from tasklatch.domain.history import change_entry
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_to_item
from tasklatch.ledger.history import History
from tasklatch.runtime.settings import get_settings
from tests.api_description import check_answer, description
from tests.factories import NOW, Reply, a_task, api_event, call_api, fresh_name, stored_item
from tests.integration.emulators import Table, make_backoff

CREATE: Final = "POST /v1/executions"
ADD: Final = "POST /v1/executions/{executionId}/tasks"
EXECUTIONS: Final = "GET /v1/executions"
EXECUTION: Final = "GET /v1/executions/{executionId}"
TASKS: Final = "GET /v1/executions/{executionId}/tasks"
TASK: Final = "GET /v1/executions/{executionId}/tasks/{taskId}"
HISTORY: Final = "GET /v1/executions/{executionId}/tasks/{taskId}/history"
REPORT: Final = "POST /v1/executions/{executionId}/tasks/{taskId}/status"
BATCH: Final = "POST /v1/executions/{executionId}/statuses"
HEARTBEAT: Final = "POST /v1/executions/{executionId}/tasks/{taskId}/heartbeat"
REPORT_STATUS_ROUTES: Final = {REPORT, BATCH, HEARTBEAT}


@dataclass(frozen=True)
class Api:
    """The handlers, called as API Gateway calls them; each answer is held to the description."""

    load: Callable[[str, Any], ModuleType]
    table: Table

    def __call__(self, route: str, *path: str, body: Any = None, **more: Any) -> Reply:
        function = "report_status" if route in REPORT_STATUS_ROUTES else "executions"
        parameters = dict(zip(("executionId", "taskId"), path, strict=False))
        event = api_event(route, path=parameters, body=body, **more)
        reply = call_api(self.load(function, self.table.client).handler, event)
        check_answer(route, reply)
        return reply

    def items(self, execution_id: str) -> list[dict[str, Any]]:
        return self.table.items(keys.execution_pk("default", execution_id))


@pytest.fixture
def api(load: Callable[[str, Any], ModuleType], statements_table: Table) -> Api:
    return Api(load, statements_table)


@pytest.fixture
def execution_id(api: Api) -> str:
    """An execution with the tasks `fetch` and, after it, `parse`."""
    name = fresh_name()
    tasks = [
        {"taskId": "fetch", "input": {"url": "a"}, "heartbeatTimeoutSeconds": 30, "timeoutSeconds": 60},
        {"taskId": "parse", "dependsOn": ["fetch"], "retryPolicy": {"maxAttempts": 2}, "onFailure": "continue"},
    ]
    body = {"executionId": name, "name": "Nightly", "metadata": {"by": "cron"}, "tasks": tasks}
    assert api(CREATE, body=body).status == 201
    return name


def test_life_of_a_task_is_answered_as_described(api: Api, execution_id: str) -> None:
    started = api(REPORT, execution_id, "fetch", body={"status": "IN_PROGRESS", "attempt": 1, "label": "working"})
    alive = api(HEARTBEAT, execution_id, "fetch", body={"attempt": 1, "progress": 0.5})
    failed = api(
        REPORT,
        execution_id,
        "fetch",
        body={
            "status": "FAILED",
            "taskExecutionId": started.body["task"]["taskExecutionId"],
            "failureReason": "RATE_LIMITED",
            "message": "x" * 2000,
            "retryAfterSeconds": 30,
        },
    )
    silent = api(HEARTBEAT, execution_id, "fetch", body={})
    rescued = api(REPORT, execution_id, "fetch", body={"status": "COMPLETED", "attempt": 1, "output": {"pages": 3}})
    late = api(REPORT, execution_id, "fetch", body={"status": "FAILED", "attempt": 1})
    detail = api(TASK, execution_id, "fetch")

    assert [reply.status for reply in (started, alive, failed, silent, rescued, late, detail)] == [200] * 7
    assert started.body["task"]["label"] == "working"
    assert alive.body["continue"] is True
    assert alive.body["task"]["progress"] == 0.5
    assert failed.body["retry"]["willRetry"] is True
    assert failed.body["retry"]["nextAttempt"] == 2
    assert (len(failed.body["task"]["message"]), failed.body["task"]["messageTruncated"]) == (1024, True)
    assert silent.body["continue"] is False
    assert rescued.body["verdict"] == "applied"
    assert "retry" not in rescued.body, "the pending retry is called off"
    assert late.body["verdict"] == "ignored_after_success"
    assert (detail.body["status"], detail.body["output"]) == ("COMPLETED", {"pages": 3})
    assert (detail.body["input"], detail.body["dependsOn"]) == ({"url": "a"}, [])


def test_lists_and_counts_are_answered_as_described(api: Api, execution_id: str) -> None:
    shown = api(EXECUTION, execution_id)
    assert shown.body["counts"] == {"SCHEDULED": 1, "PENDING": 1}
    assert shown.body["taskCount"] == 2
    assert shown.body["metadata"] == {"by": "cron"}

    first = api(TASKS, execution_id, query={"limit": "1"})
    second = api(TASKS, execution_id, query={"limit": "1", "cursor": first.body["nextCursor"]})
    assert [item["taskId"] for item in first.body["items"] + second.body["items"]] == ["fetch", "parse"]
    pending = api(TASKS, execution_id, query={"status": "PENDING"})
    assert [element["taskId"] for element in pending.body["items"]] == ["parse"]

    listed = api(EXECUTIONS, query={"limit": "100", "createdAfter": shown.body["createdAt"]})
    assert execution_id in [entry["executionId"] for entry in listed.body["items"]]
    assert api(EXECUTIONS, query={"createdBefore": "1970-01-01T00:00:00Z"}).body == {"items": []}
    more = api(ADD, execution_id, body={"tasks": [{"taskId": "archive", "dependsOn": ["parse"]}]})
    assert more.body["items"][0]["status"] == "PENDING"


def test_history_shows_changes_and_ignored_reports(api: Api, execution_id: str) -> None:
    # given a success and a failure that came too late
    before = a_task(execution_id=execution_id, task_id="fetch", version=2)
    api(REPORT, execution_id, "fetch", body={"status": "COMPLETED"}, request_id="first")
    api(REPORT, execution_id, "fetch", body={"status": "FAILED", "attempt": 1, "message": "late"}, request_id="second")
    after = a_task(TaskStatus.COMPLETED, execution_id=execution_id, task_id="fetch", version=3, request_id="first")

    # when the table's stream has told of the success, twice
    history = History(api.table.client, api.table.settings, make_backoff())
    for _ in range(2):
        history.put([(after, change_entry(after, before))])
    listed = api(HISTORY, execution_id, "fetch").body["items"]

    # then
    assert [(item["verdict"], item["status"], item["requestId"]) for item in listed] == [
        ("applied", "COMPLETED", "first"),
        ("ignored_after_success", "FAILED", "second"),
    ]
    assert listed[0]["previousStatus"] == "IN_PROGRESS"
    assert listed[1]["message"] == "late"


def test_repeat_of_a_creation_is_200_with_the_same_body(api: Api) -> None:
    # given
    key, body = fresh_name(), {"tasks": [{"taskId": "fetch"}]}

    # when
    first = api(CREATE, body=body, headers={"idempotency-key": key})
    second = api(CREATE, body=body, headers={"idempotency-key": key})
    other = api(CREATE, body=body, headers={"idempotency-key": key + "x"})
    clash = api(CREATE, body={"tasks": [{"taskId": "parse"}]}, headers={"idempotency-key": key})

    # then
    assert [first.status, second.status, other.status, clash.status] == [201, 200, 201, 409]
    assert second.body == first.body
    assert first.headers["location"] == f"/v1/executions/{first.body['executionId']}"
    assert other.body["executionId"] != first.body["executionId"]


MISSING: Final = [
    (EXECUTION, None),
    (TASKS, None),
    (TASK, None),
    (HISTORY, None),
    (ADD, {"tasks": [{"taskId": "a"}]}),
    (REPORT, {"status": "COMPLETED"}),
    (HEARTBEAT, {}),
]


@pytest.mark.parametrize(("route", "body"), MISSING, ids=[route for route, _ in MISSING])
def test_what_is_not_there_is_404(api: Api, route: str, body: Any) -> None:
    reply = api(route, fresh_name(), "fetch", body=body)
    assert (reply.status, reply.body["type"]) == (404, "urn:tasklatch:problem:not-found")


def zipped(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data)).decode()


BAD_REPORTS: Final[dict[str, tuple[Any, int]]] = {
    "no JSON": ("{", 422),
    "nothing": ("", 422),
    "not an object": ([], 422),
    "NaN": ('{"status":"COMPLETED","retryAfterSeconds":NaN}', 422),
    "infinity in the output": ('{"status":"COMPLETED","output":{"a":1e999}}', 422),
    "infinity": ('{"status":"COMPLETED","retryAfterSeconds":1e999}', 422),
    "huge integer": ('{"status":"COMPLETED","attempt":' + "9" * 4000 + "}", 422),
    "deep nesting": ('{"status":"COMPLETED","output":' + '{"a":' * 3000 + "1" + "}" * 3001, 422),
    "lone surrogate": ('{"status":"COMPLETED","message":"\\ud800"}', 422),
    "unknown status": ({"status": "EXPLODED"}, 422),
    "status of the service's own": ({"status": "CANCELED"}, 422),
    "unknown reason": ({"status": "FAILED", "failureReason": "BAD_MOOD"}, 422),
    "unknown field": ({"status": "COMPLETED", "surprise": 1}, 422),
    "no status": ({}, 422),
    "attempt 0": ({"status": "COMPLETED", "attempt": 0}, 422),
    "attempt as text": ({"status": "COMPLETED", "attempt": "1"}, 422),
    "attempt as truth": ({"status": "COMPLETED", "attempt": True}, 422),
    "attempt past the last": ({"status": "COMPLETED", "attempt": 2**24}, 422),
    "output as list": ({"status": "COMPLETED", "output": []}, 422),
    "output too large": ({"status": "COMPLETED", "output": {"a": "x" * 102_400}}, 413),
    "negative wait": ({"status": "FAILED", "retryAfterSeconds": -1}, 422),
    "endless wait": ({"status": "FAILED", "retryAfterSeconds": 1e9}, 422),
    "sequence below zero": ({"status": "IN_PROGRESS", "sequence": -1}, 422),
    "sequence past what every parser reads": ({"status": "IN_PROGRESS", "sequence": 2**53}, 422),
    "empty label": ({"status": "COMPLETED", "label": ""}, 422),
    "attempt never opened": ({"status": "COMPLETED", "attempt": 2}, 409),
    "output of an attempt never opened": ({"status": "COMPLETED", "attempt": 2, "output": {"rows": 3}}, 409),
    "id of another task": (
        {"status": "COMPLETED", "taskExecutionId": "00000100-0000-8000-8000-000000000000"},
        409,
    ),
}


@pytest.mark.parametrize(("body", "status"), BAD_REPORTS.values(), ids=BAD_REPORTS)
def test_bad_report_is_refused_and_writes_nothing(api: Api, execution_id: str, body: Any, status: int) -> None:
    # given
    before = api.items(execution_id)

    # when
    reply = api(REPORT, execution_id, "fetch", body=body)

    # then
    assert (reply.status, reply.body["status"]) == (status, status)
    assert api.items(execution_id) == before


@pytest.mark.parametrize("status", ["IN_PROGRESS", "COMPLETED", "FAILED", "FAILED_WITH_TERMINAL_ERROR"])
def test_task_that_waits_can_be_neither_reported_nor_kept_alive(api: Api, execution_id: str, status: str) -> None:
    # given
    before = api.items(execution_id)
    body = {"status": status, "attempt": 1, "output": {"rows": 3}}

    # when
    reported = api(REPORT, execution_id, "parse", body=body)
    batched = api(BATCH, execution_id, body={"statuses": [{"taskId": "parse", **body}]})
    alive = api(HEARTBEAT, execution_id, "parse", body={"attempt": 1})

    # then
    (result,) = batched.body["results"]
    for status_code, problem in (
        (reported.status, reported.body),
        (result["status"], result["problem"]),
        (alive.status, alive.body),
    ):
        assert (status_code, problem["type"]) == (409, "urn:tasklatch:problem:attempt-not-open")
        assert "the task waits" in problem["detail"]
    assert api.items(execution_id) == before
    assert api(HISTORY, execution_id, "parse").body["items"] == []


def in_one(api: Api, execution_id: str, body: dict[str, Any]) -> Any:
    return api(REPORT, execution_id, "fetch", body=body).body["verdict"]


def in_a_batch(api: Api, execution_id: str, body: dict[str, Any]) -> Any:
    return api(BATCH, execution_id, body={"statuses": [{"taskId": "fetch", **body}]}).body["results"][0]["verdict"]


@pytest.mark.parametrize("says", [in_one, in_a_batch])
def test_what_a_worker_said_of_its_attempt_is_kept_unless_it_says_something_else(
    api: Api, execution_id: str, says: Callable[[Api, str, dict[str, Any]], Any]
) -> None:
    # when
    verdicts = [
        says(api, execution_id, {"status": "IN_PROGRESS", "attempt": 1, "output": {"ack": 1}, "message": "begun"}),
        says(api, execution_id, {"status": "IN_PROGRESS", "attempt": 1, "output": {"ack": 1}, "message": "begun"}),
        says(api, execution_id, {"status": "IN_PROGRESS", "attempt": 1, "output": {"ack": 2}}),
        says(api, execution_id, {"status": "IN_PROGRESS", "output": {"ack": 3}, "sequence": 3}),
        says(api, execution_id, {"status": "IN_PROGRESS", "attempt": 1, "output": {"ack": 0}, "sequence": 2}),
    ]
    under_way = api(TASK, execution_id, "fetch").body
    verdicts += [says(api, execution_id, {"status": "COMPLETED", "attempt": 1, "sequence": 9})]
    done = api(TASK, execution_id, "fetch").body

    # then
    assert verdicts == ["applied", "duplicate", "applied", "applied", "duplicate", "applied"]
    assert (under_way["status"], under_way["output"], under_way["message"]) == ("IN_PROGRESS", {"ack": 3}, "begun")
    assert (done["status"], done["output"]) == ("COMPLETED", {"ack": 3})


@pytest.mark.parametrize("says", [in_one, in_a_batch])
def test_checkpoint_that_comes_late_fills_the_output_of_a_success_that_had_none(
    api: Api, execution_id: str, says: Callable[[Api, str, dict[str, Any]], Any]
) -> None:
    # given
    says(api, execution_id, {"status": "COMPLETED", "attempt": 1})

    # when
    filled = says(api, execution_id, {"status": "IN_PROGRESS", "attempt": 1, "output": {"ack": 1}})
    other = says(api, execution_id, {"status": "IN_PROGRESS", "attempt": 1, "output": {"ack": 2}})

    # then
    assert (filled, other) == ("applied", "ignored_after_success")
    done = api(TASK, execution_id, "fetch").body
    assert (done["status"], done["output"]) == ("COMPLETED", {"ack": 1})


BAD_EXECUTIONS: Final[dict[str, tuple[Any, int]]] = {
    "no tasks": ({"tasks": []}, 422),
    "501 tasks": ({"tasks": [{"taskId": f"{number}"} for number in range(501)]}, 422),
    "the same task twice": ({"tasks": [{"taskId": "a"}, {"taskId": "a"}]}, 422),
    "a dependency cycle": ({"tasks": [{"taskId": "a", "dependsOn": ["b"]}, {"taskId": "b", "dependsOn": ["a"]}]}, 422),
    "an unknown dependency": ({"tasks": [{"taskId": "a", "dependsOn": ["b"]}]}, 422),
    "a control character": ({"tasks": [{"taskId": "a\nb"}]}, 422),
    "a task without a name": ({"tasks": [{"taskId": ""}]}, 422),
    "a name of 256 characters": ({"tasks": [{"taskId": "x" * 256}]}, 422),
    "a name of 1,020 bytes": ({"tasks": [{"taskId": "\U0001f600" * 255}]}, 422),
    "a slash in the id": ({"executionId": "a/b", "tasks": [{"taskId": "a"}]}, 422),
    "an input too large": ({"tasks": [{"taskId": "a", "input": {"a": "x" * 102_400}}]}, 413),
    "metadata too large": ({"metadata": {"a": "x" * 102_400}, "tasks": [{"taskId": "a"}]}, 413),
    "zero attempts": ({"tasks": [{"taskId": "a", "retryPolicy": {"maxAttempts": 0}}]}, 422),
    "an unknown field": ({"tasks": [{"taskId": "a", "colour": "red"}]}, 422),
    "dependencies past an item": (
        {
            "tasks": [
                {"taskId": "a", "dependsOn": [f"{number:03d}" + "\U0001f600" * 220 for number in range(400)]},
                *({"taskId": f"{number:03d}" + "\U0001f600" * 220} for number in range(400)),
            ]
        },
        422,
    ),
}


@pytest.mark.parametrize(("body", "status"), BAD_EXECUTIONS.values(), ids=BAD_EXECUTIONS)
def test_bad_execution_is_refused_and_writes_nothing(api: Api, body: dict[str, Any], status: int) -> None:
    execution_id = fresh_name()
    reply = api(CREATE, body={"executionId": execution_id} | body)
    assert (reply.status, reply.body["status"]) == (status, status)
    assert api.items(execution_id) == []


def test_bad_idempotency_key_is_refused(api: Api) -> None:
    reply = api(CREATE, body={"tasks": [{"taskId": "a"}]}, headers={"idempotency-key": "x" * 256})
    assert reply.status == 422


BAD_QUERIES: Final = [
    {"limit": "0"},
    {"limit": "101"},
    {"limit": "many"},
    {"status": "EXPLODED"},
    {"cursor": "garbage"},
    {"cursor": "ä"},
    {"createdAfter": "yesterday"},
    {"createdAfter": "2026-01-01T00:00:00"},
    {"createdAfter": "2027-01-01T00:00:00Z", "createdBefore": "2026-01-01T00:00:00Z"},
    {"surprise": "1"},
]


@pytest.mark.parametrize("query", BAD_QUERIES, ids=json.dumps)
def test_bad_query_is_refused(api: Api, query: dict[str, str]) -> None:
    assert api(EXECUTIONS, query=query).status == 422


@pytest.mark.parametrize(
    "query",
    [
        {"createdAfter": "0001-01-01T00:00:00+14:00", "createdBefore": "9999-12-31T23:59:59-14:00"},
        {"createdAfter": "9999-12-31T23:59:59-14:00"},
        {"createdBefore": "0001-01-01T00:00:00+14:00"},
        {"createdAfter": "5000-01-01T00:00:00Z", "createdBefore": "6000-01-01T00:00:00Z"},
    ],
    ids=json.dumps,
)
def test_times_far_off_are_no_error(api: Api, query: dict[str, str]) -> None:
    assert api(EXECUTIONS, query=query).status == 200


@pytest.mark.parametrize("tiny", [1e-200, 5e-324, 0.0])
def test_numbers_too_small_for_the_table_are_taken(api: Api, tiny: float) -> None:
    # given
    policy = {"initialSeconds": tiny, "maxSeconds": tiny, "jitter": tiny, "multiplier": 1.0000000000000002}
    execution_id = fresh_name()
    body = {"executionId": execution_id, "tasks": [{"taskId": "fetch", "retryPolicy": policy}]}

    # when
    replies = [
        api(CREATE, body=body),
        api(HEARTBEAT, execution_id, "fetch", body={"progress": tiny}),
        api(
            BATCH, execution_id, body={"statuses": [{"taskId": "fetch", "status": "FAILED", "retryAfterSeconds": tiny}]}
        ),
        api(REPORT, execution_id, "fetch", body={"status": "FAILED", "retryAfterSeconds": tiny}),
    ]

    # then
    assert [reply.status for reply in replies] == [201, 200, 200, 200]
    assert replies[2].body["results"][0]["status"] == 200


@pytest.mark.parametrize("count", [0, 101])
def test_batch_of_no_or_too_many_reports_is_refused_as_a_whole(api: Api, execution_id: str, count: int) -> None:
    reply = api(BATCH, execution_id, body={"statuses": [{"taskId": "fetch", "status": "COMPLETED"}] * count})
    assert reply.status == 422
    assert api(TASK, execution_id, "fetch").body["status"] == "SCHEDULED"


def test_largest_page_of_executions_fits_into_an_answer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a tenant of its own, whose executions carry all the metadata they may
    tenant = fresh_name()
    monkeypatch.setenv("TENANT_CLAIM", "org")
    get_settings.cache_clear()
    claims = {"scope": "tasklatch/read", "org": tenant}
    text = json.dumps({"a": "é" * 8_180}, ensure_ascii=False)
    executions = (
        Execution(
            tenant=tenant,
            execution_id=f"run-{number:03d}",
            status=ExecutionStatus.RUNNING,
            version=1,
            created_at=NOW,
            updated_at=NOW,
            definition="0" * 16,
            metadata=text,
        )
        for number in range(100)
    )
    api.table.put(*map(execution_to_item, executions))

    # when
    reply = api(EXECUTIONS, query={"limit": "100"}, claims=claims)

    # then
    assert len(reply.body["items"]) == 100
    assert len(json.dumps(reply.text).encode()) < 6 * 1024 * 1024, "as Lambda counts its answers"


def test_largest_page_of_tasks_fits_into_an_answer(api: Api, execution_id: str) -> None:
    # given as many as can be asked for at once, in characters that take the most room
    parameters = description()["paths"]["/v1/executions/{executionId}/tasks"]["get"]["parameters"]
    (limit,) = (parameter["schema"]["maximum"] for parameter in parameters if parameter["name"] == "limit")
    tasks = (
        a_task(execution_id=execution_id, task_id=f"{number:04d}" + "\U0001f600" * 220, message="\U0001f600" * 1024)
        for number in range(limit)
    )
    api.table.put(*map(stored_item, tasks))

    # when
    reply = api(TASKS, execution_id, query={"limit": str(limit)})

    # then
    assert len(reply.body["items"]) == limit
    assert len(json.dumps(reply.text).encode()) < 6 * 1024 * 1024, "as Lambda counts its answers"


def test_tenants_of_a_claim_are_apart(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    monkeypatch.setenv("TENANT_CLAIM", "org")
    get_settings.cache_clear()
    mine, other = ({"scope": "tasklatch/manage tasklatch/read", "org": fresh_name()} for _ in range(2))
    execution_id = fresh_name()

    # when
    created = api(CREATE, body={"executionId": execution_id, "tasks": [{"taskId": "a"}]}, claims=mine)
    read = api(EXECUTION, execution_id, claims=mine)
    hidden = api(EXECUTION, execution_id, claims=other)
    nameless = api(EXECUTION, execution_id, claims={"scope": "tasklatch/read"})

    # then
    assert [created.status, read.status, hidden.status, nameless.status] == [201, 200, 404, 403]
