"""SuperAI's contract over HTTP, as its workers and clients call it."""

from collections import Counter
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.polling import poll


@pytest.fixture
def execution_id(operator: httpx.Client) -> str:
    """A flow execution with the tasks `extract` and `send`."""
    body = {"flow_id": str(uuid4()), "input": {"file_key": "a.pdf"}, "task_names": ["extract", "send"]}
    created = operator.post("/api/flow-executions", json=body)
    assert created.status_code == httpx.codes.CREATED, created.text
    return str(created.json()["id"])


def report(worker: httpx.Client, execution_id: str, *body: tuple[str, str]) -> httpx.Response:
    statuses = [{"task_name": name, "status": status} for name, status in body]
    return worker.post(f"/api/flow-executions/{execution_id}/task-status", json={"statuses": statuses})


def test_batch_of_a_hundred_is_recorded_in_order(worker: httpx.Client, reader: httpx.Client, execution_id: str) -> None:
    # given
    words = ["queued", "running", "checking", "completed", "failed"]
    body = [(name, word) for word in words for name in ("extract", "send")] * 10

    # when
    answer = report(worker, execution_id, *body)

    # then
    assert answer.status_code == httpx.codes.OK, answer.text
    assert [(item["task_name"], item["status"]) for item in answer.json()] == body
    for name in ("extract", "send"):
        path = f"/v1/executions/{execution_id}/tasks/{name}"
        assert reader.get(path).json()["status"] == "COMPLETED"

        # and each of the fifty is in the history, once the table's stream has told
        def whole_history(path: str = path) -> Counter[str] | None:
            items = reader.get(f"{path}/history", params={"limit": 400}).json()["items"]
            labels = Counter(item["label"] for item in items if "label" in item)
            return labels if labels.total() == len(body) // 2 else None

        assert poll(whole_history) == dict.fromkeys(words, 10)


def test_unknown_name_is_refused_and_nothing_is_applied(
    worker: httpx.Client, reader: httpx.Client, execution_id: str
) -> None:
    answer = report(worker, execution_id, ("extract", "completed"), ("nowhere", "completed"))
    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert answer.json()["error"]["details"] == {"unknown_task_names": ["nowhere"]}
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert reader.get(f"/v1/executions/{execution_id}/tasks/extract").json()["status"] == "SCHEDULED"


def test_execution_lives_until_it_is_deleted(
    worker: httpx.Client, operator: httpx.Client, reader: httpx.Client, execution_id: str
) -> None:
    # given an execution all of whose tasks are done
    path = f"/api/flow-executions/{execution_id}"
    assert report(worker, execution_id, ("extract", "completed"), ("send", "skipped")).is_success
    shown: dict[str, Any] = reader.get(path).json()
    assert shown["status"] == "running"
    tasks = reader.get("/api/task-executions", params={"flow_execution_id": execution_id}).json()["task_executions"]
    assert {task["task_name"]: task["processing_status"] for task in tasks} == {
        "extract": "completed",
        "send": "cancelled",
    }
    listed = poll(lambda: reader.get("/api/flow-executions", params={"flow_id": shown["flow_id"]}).json())
    assert listed == [shown]

    # when
    deleted = operator.delete(path)

    # then
    assert (deleted.status_code, deleted.content) == (httpx.codes.NO_CONTENT, b"")
    assert reader.get(path).status_code == httpx.codes.NOT_FOUND
    assert report(worker, execution_id, ("extract", "failed")).status_code == httpx.codes.NOT_FOUND


def test_reader_may_not_report(reader: httpx.Client, execution_id: str) -> None:
    assert report(reader, execution_id, ("extract", "running")).status_code == httpx.codes.FORBIDDEN
