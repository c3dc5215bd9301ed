"""The deployed API over HTTP, with tokens of the stack's own user pool."""

import gzip
import json
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest

from local.cloud.stack import Stack
from tests.factories import fresh_name
from tests.polling import poll


@pytest.fixture
def execution_id(operator: httpx.Client) -> str:
    """An execution with the tasks `fetch` and, after it, `parse`."""
    tasks = [{"taskId": "fetch", "input": {"url": "a"}}, {"taskId": "parse", "dependsOn": ["fetch"]}]
    answer = operator.post("/v1/executions", json={"executionId": fresh_name(), "tasks": tasks})
    assert answer.status_code == httpx.codes.CREATED, answer.text
    name: str = answer.json()["executionId"]
    assert answer.headers["location"] == f"/v1/executions/{name}"
    return name


def status_path(execution_id: str, task_id: str = "fetch") -> str:
    return f"/v1/executions/{execution_id}/tasks/{task_id}/status"


def test_success_stands_whatever_comes_later(worker: httpx.Client, reader: httpx.Client, execution_id: str) -> None:
    # given
    started = worker.post(status_path(execution_id), json={"status": "IN_PROGRESS", "attempt": 1})
    handed_out = started.json()["task"]["taskExecutionId"]

    # when
    success = worker.post(
        status_path(execution_id),
        json={"status": "COMPLETED", "taskExecutionId": handed_out, "output": {"pages": 3}},
    )
    repeat = worker.post(
        status_path(execution_id),
        json={"status": "COMPLETED", "taskExecutionId": handed_out, "output": {"pages": 3}},
    )
    failure = worker.post(
        status_path(execution_id),
        json={"status": "FAILED", "taskExecutionId": handed_out, "message": "time-out"},
    )

    # then
    answers = [started, success, repeat, failure]
    assert [answer.status_code for answer in answers] == [httpx.codes.OK] * 4
    assert [answer.json()["verdict"] for answer in answers] == [
        "applied",
        "applied",
        "duplicate",
        "ignored_after_success",
    ]
    assert failure.json()["task"] == success.json()["task"]
    task = reader.get(f"/v1/executions/{execution_id}/tasks/fetch").json()
    assert (task["status"], task["output"], task["input"]) == ("COMPLETED", {"pages": 3}, {"url": "a"})

    # and the history has it all, once the table's stream has told
    def whole_history() -> Any:
        items = reader.get(f"/v1/executions/{execution_id}/tasks/fetch/history").json()["items"]
        changes = [item for item in items if item["verdict"] == "applied"]
        return items if [change["status"] for change in changes][-1:] == ["COMPLETED"] else None

    history = poll(whole_history)
    applied = [item["status"] for item in history if item["verdict"] == "applied"]
    assert applied == ["PENDING", "SCHEDULED", "IN_PROGRESS", "COMPLETED"]
    ignored = {(item["verdict"], item["status"]) for item in history if item["verdict"] != "applied"}
    assert ignored == {("duplicate", "COMPLETED"), ("ignored_after_success", "FAILED")}


def test_failure_is_answered_with_the_decision_on_its_retry(worker: httpx.Client, execution_id: str) -> None:
    body = {"status": "FAILED", "attempt": 1, "failureReason": "RATE_LIMITED", "retryAfterSeconds": 600}
    retry = worker.post(status_path(execution_id), json=body).json()["retry"]
    assert (retry["willRetry"], retry["nextAttempt"]) == (True, 2)
    assert retry["notBefore"].endswith("Z")


def test_batch_answers_each_report(worker: httpx.Client, execution_id: str) -> None:
    statuses = [
        {"taskId": "fetch", "status": "IN_PROGRESS"},
        {"taskId": "nowhere", "status": "COMPLETED"},
        {"taskId": "fetch", "status": "COMPLETED"},
        {"taskId": "fetch", "status": "EXPLODED"},
    ]
    answer = worker.post(f"/v1/executions/{execution_id}/statuses", json={"statuses": statuses})
    assert answer.status_code == httpx.codes.OK
    assert [result["status"] for result in answer.json()["results"]] == [200, 404, 200, 422]


def test_heartbeat_response_has_whether_to_continue(worker: httpx.Client, execution_id: str) -> None:
    path = f"/v1/executions/{execution_id}/tasks/fetch/heartbeat"
    assert worker.post(path, json={"attempt": 1, "progress": 0.5}).json()["continue"] is True
    worker.post(status_path(execution_id), json={"status": "COMPLETED"})
    stop = worker.post(path, json={"attempt": 1}).json()
    assert (stop["continue"], bool(stop["reason"])) == (False, True)


def test_lists_and_counts(operator: httpx.Client, reader: httpx.Client, execution_id: str) -> None:
    shown = reader.get(f"/v1/executions/{execution_id}").json()
    assert (shown["taskCount"], shown["counts"]) == (2, {"SCHEDULED": 1, "PENDING": 1})
    added = operator.post(f"/v1/executions/{execution_id}/tasks", json={"tasks": [{"taskId": "a b:ü#"}]})
    assert added.status_code == httpx.codes.OK
    page = reader.get(f"/v1/executions/{execution_id}/tasks", params={"limit": 2}).json()
    rest = reader.get(f"/v1/executions/{execution_id}/tasks", params={"limit": 2, "cursor": page["nextCursor"]}).json()
    assert [item["taskId"] for item in page["items"] + rest["items"]] == ["a b:ü#", "fetch", "parse"]
    listed = poll(
        lambda: [
            element
            for element in reader.get("/v1/executions", params={"status": "RUNNING"}).json()["items"]
            if element["executionId"] == execution_id
        ]
    )
    assert listed[0]["status"] == "RUNNING"


def test_task_id_with_reserved_characters_is_reached_percent_encoded(
    operator: httpx.Client, worker: httpx.Client
) -> None:
    body = {"tasks": [{"taskId": "a b:ü#"}]}
    execution_id = operator.post("/v1/executions", json=body).json()["executionId"]
    answer = worker.post(status_path(execution_id, "a%20b:%C3%BC%23"), json={"status": "COMPLETED"})
    assert (answer.status_code, answer.json()["task"]["taskId"]) == (httpx.codes.OK, "a b:ü#")


def test_right_encoding_of_a_task_id_never_names_another_task(
    operator: httpx.Client, worker: httpx.Client, reader: httpx.Client
) -> None:
    # given
    names = ["50%", "50", "a/b", "a", "b", "a?b", "a;b", "a\\b"]
    body = {"tasks": [{"taskId": name} for name in names]}
    execution_id = operator.post("/v1/executions", json=body).json()["executionId"]
    tasks = f"/v1/executions/{execution_id}/tasks"
    before = reader.get(tasks).json()

    # when
    encoded = [quote(name, safe="") for name in names if not name.isalnum()]
    encoded += [quote(name, safe="") for name in encoded]
    answers = [worker.post(f"{tasks}/{name}/status", json={"status": "FAILED"}) for name in encoded]

    # then
    assert {answer.status_code for answer in answers} == {404, 422}
    problems = [answer.json() for answer in answers if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY]
    assert {problem["type"] for problem in problems} == {"urn:tasklatch:problem:id-not-in-path"}
    assert "POST /v1/executions/{executionId}/statuses" in problems[0]["detail"]
    assert reader.get(tasks).json() == before


def test_task_whose_id_no_path_can_carry_is_worked_on_with_its_id_in_the_body(
    operator: httpx.Client, worker: httpx.Client, reader: httpx.Client
) -> None:
    # given
    execution_id = operator.post("/v1/executions", json={"tasks": [{"taskId": "50%"}]}).json()["executionId"]
    execution = f"/v1/executions/{execution_id}"

    # when
    alive = worker.post(f"{execution}/heartbeats", json={"taskId": "50%", "attempt": 1})
    done = {"taskId": "50%", "status": "COMPLETED", "output": {"half": True}}
    reported = worker.post(f"{execution}/statuses", json={"statuses": [done]})

    # then
    assert (alive.json()["continue"], reported.json()["results"][0]["verdict"]) == (True, "applied")
    assert reader.post(f"{execution}/tasks/read", json={"taskId": "50%"}).json()["output"] == {"half": True}
    messages = poll(lambda: reader.post(f"{execution}/tasks/history", json={"taskId": "50%"}).json()["items"])
    assert {entry["verdict"] for entry in messages} == {"applied"}


@pytest.mark.parametrize("task_id", ["50%25", "a%41", "..", "a/../b"])
def test_task_id_that_a_path_could_take_for_another_is_not_created(operator: httpx.Client, task_id: str) -> None:
    answer = operator.post("/v1/executions", json={"tasks": [{"taskId": task_id}]})

    assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert "in a path" in answer.json()["errors"][0]["msg"]


def test_same_idempotency_key_gives_the_same_execution(operator: httpx.Client) -> None:
    headers = {"Idempotency-Key": fresh_name()}
    body = {"tasks": [{"taskId": "fetch"}]}
    first = operator.post("/v1/executions", json=body, headers=headers)
    second = operator.post("/v1/executions", json=body, headers=headers)
    clash = operator.post("/v1/executions", json={"tasks": [{"taskId": "other"}]}, headers=headers)
    assert [answer.status_code for answer in (first, second, clash)] == [201, 200, 409]
    assert second.json() == first.json()


def test_request_id_of_the_caller_comes_back(worker: httpx.Client, execution_id: str) -> None:
    headers = {"X-Request-ID": "caller-7"}
    answer = worker.post(status_path(execution_id), json={"status": "IN_PROGRESS"}, headers=headers)
    assert answer.headers["x-request-id"] == "caller-7"


def test_gzipped_report_is_taken(worker: httpx.Client, execution_id: str) -> None:
    answer = worker.post(
        status_path(execution_id),
        content=gzip.compress(b'{"status":"IN_PROGRESS"}'),
        headers={"Content-Encoding": "gzip", "Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["task"]["status"]) == (httpx.codes.OK, "IN_PROGRESS")


def test_description_and_its_page_are_open_to_all(stack: Stack) -> None:
    with httpx.Client(base_url=stack.api_url, timeout=30, trust_env=False) as anyone:
        health = anyone.get("/v1/health")
        description = anyone.get("/v1/openapi.json")
        page = anyone.get("/v1/docs")
    assert health.json() == {"status": "ok"}
    assert health.headers["x-request-id"]
    assert description.json()["openapi"].startswith("3.1")
    assert page.headers["content-type"].startswith("text/html")
    assert "swagger" in page.text.lower()


def routes(execution_id: str) -> dict[str, set[tuple[str, str]]]:
    """The routes that each scope opens."""
    execution = f"/v1/executions/{execution_id}"
    return {
        "worker": {
            ("POST", f"{execution}/tasks/fetch/status"),
            ("POST", f"{execution}/statuses"),
            ("POST", f"{execution}/tasks/fetch/heartbeat"),
            ("POST", f"{execution}/heartbeats"),
        },
        "reader": {
            ("GET", "/v1/executions"),
            ("GET", execution),
            ("GET", f"{execution}/tasks"),
            ("GET", f"{execution}/tasks/fetch"),
            ("GET", f"{execution}/tasks/fetch/history"),
            ("POST", f"{execution}/tasks/read"),
            ("POST", f"{execution}/tasks/history"),
        },
    }


def test_token_opens_the_routes_of_its_scope_and_no_others(
    stack: Stack, worker: httpx.Client, reader: httpx.Client
) -> None:
    execution_id = fresh_name()
    opened = routes(execution_id)
    with httpx.Client(base_url=stack.api_url, timeout=30, trust_env=False) as nobody:
        for name, client in (("worker", worker), ("reader", reader)):
            for owner, (method, path) in ((owner, route) for owner, result in opened.items() for route in result):
                answer = client.request(method, path, json={} if method == "POST" else None)
                if owner == name:
                    assert answer.status_code not in (401, 403), (name, path)
                else:
                    assert answer.status_code == httpx.codes.FORBIDDEN, (name, path)
                garbage = {"Authorization": "Bearer garbage"}
                for headers in ({}, garbage):
                    refused = nobody.request(method, path, headers=headers)
                    assert refused.status_code == httpx.codes.UNAUTHORIZED, path
            created = client.post("/v1/executions", json={"tasks": [{"taskId": "a"}]})
            assert created.status_code == httpx.codes.FORBIDDEN


BAD_REPORTS: Final[dict[str, tuple[bytes, int]]] = {
    "unknown field": (b'{"status":"COMPLETED","surprise":1}', 422),
    "wrong type": (b'{"status":"COMPLETED","attempt":"1"}', 422),
    "unknown status": (b'{"status":"EXPLODED"}', 422),
    "unknown reason": (b'{"status":"FAILED","failureReason":"BAD_MOOD"}', 422),
    "NaN": (b'{"status":"FAILED","retryAfterSeconds":NaN}', 422),
    "infinity": (b'{"status":"COMPLETED","output":{"a":1e999}}', 422),
    "deep nesting": (b'{"status":"COMPLETED","output":' + b'{"a":' * 9000 + b"1" + b"}" * 9001, 422),
    "lone surrogate": (b'{"status":"COMPLETED","message":"\\ud800"}', 422),
    "no JSON": (b"{", 422),
    "nothing": (b"", 422),
    "output too large": (json.dumps({"status": "COMPLETED", "output": {"a": "x" * 102_400}}).encode(), 413),
}
PACKED: Final[dict[str, tuple[bytes, str, int]]] = {
    "broken gzip": (b"no gzip", "gzip", 422),
    "truncated gzip": (gzip.compress(b'{"status":"COMPLETED"}')[:-4], "gzip", 422),
    "bomb": (gzip.compress(b"\0" * 100_000_000), "gzip", 413),
    "no UTF-8": (b'{"status":"COMPLETED","message":"\xff"}', "identity", 422),
    "unknown encoding": (b"{}", "br", 415),
}


def test_bad_reports_are_refused_each_with_its_status_and_write_nothing(
    worker: httpx.Client, reader: httpx.Client, execution_id: str
) -> None:
    # given
    before = reader.get(f"/v1/executions/{execution_id}/tasks/fetch").json()

    # when
    answered = {
        name: worker.post(status_path(execution_id), content=data, headers={"Content-Type": "application/json"})
        for name, (data, _) in BAD_REPORTS.items()
    }
    answered |= {
        name: worker.post(status_path(execution_id), content=data, headers={"Content-Encoding": encoding})
        for name, (data, encoding, _) in PACKED.items()
    }

    # then
    expected = {name: bad[-1] for name, bad in (BAD_REPORTS | PACKED).items()}
    assert {name: answer.status_code for name, answer in answered.items()} == expected
    for answer in answered.values():
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert reader.get(f"/v1/executions/{execution_id}/tasks/fetch").json() == before


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/executions/{}/statuses", {"statuses": []}, 422),
        ("/v1/executions/{}/statuses", {"statuses": [{"taskId": "fetch", "status": "COMPLETED"}] * 101}, 422),
        ("/v1/executions/{}/tasks/fe%00tch/status", {"status": "COMPLETED"}, 422),
        ("/v1/executions/{}/tasks/fe%0Atch/status", {"status": "COMPLETED"}, 422),
        ("/v1/executions/a%20b{}/tasks/fetch/status", {"status": "COMPLETED"}, 422),
        ("/v1/executions/{}/tasks/fetch/heartbeat", {"progress": 2}, 422),
        ("/v1/executions/{}/tasks/nowhere/status", {"status": "COMPLETED"}, 404),
        ("/v1/executions/{}x/tasks/fetch/status", {"status": "COMPLETED"}, 404),
        ("/v1/executions/{}/tasks/fetch/status", {"status": "COMPLETED", "attempt": 2}, 409),
    ],
)
def test_bad_request_is_refused_with_its_status(
    worker: httpx.Client, reader: httpx.Client, execution_id: str, path: str, body: dict[str, Any], status: int
) -> None:
    answer = worker.post(path.format(execution_id), json=body)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert reader.get(f"/v1/executions/{execution_id}").json()["counts"] == {"SCHEDULED": 1, "PENDING": 1}
