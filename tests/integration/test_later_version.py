"""This version's handlers on what a later one stored: shown, set aside, and left as it is."""

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import pytest

from tasklatch.domain.status import TaskStatus
from tasklatch.dynamodb import keys
from tasklatch.runtime import services
from tests.factories import NOW, Context, Reply, a_task, api_event, call_api, fresh_name, stored_item, stream_record
from tests.integration.emulators import Table
from tests.workflow_helpers import FakeClient

TASK: Final = "/v1/executions/{executionId}/tasks/{taskId}"
LATER: Final = {"status": {"S": "PAUSED"}, "form": {"N": "3"}, "pausedUntil": {"N": "1"}}


class Service:
    """The handlers over one table, with an execution of a task of this version and one of a later."""

    def __init__(self, load: Callable[[str, Any], ModuleType], table: Table) -> None:
        self.load = load
        self.table = table
        self.execution_id = fresh_name()
        tasks = [{"taskId": name, "retryPolicy": {"maxAttempts": 1}} for name in ("now", "later")]
        body = {"executionId": self.execution_id, "tasks": tasks}
        assert self.call("executions", "POST /v1/executions", body=body).status == 201
        task = a_task(execution_id=self.execution_id, task_id="later")
        table.put({**stored_item(task), **LATER})
        self.item = self.stored()

    def call(self, function: str, route: str, **more: Any) -> Reply:
        path = {"executionId": self.execution_id, "taskId": "later"}
        event = api_event(route, path=path, **more)
        return call_api(self.load(function, self.table.client).handler, event)

    def stored(self) -> Any:
        return self.table.item(keys.execution_pk("default", self.execution_id), keys.task_sk("later"))


@pytest.fixture
def service(load: Callable[[str, Any], ModuleType], statements_table: Table) -> Service:
    return Service(load, statements_table)


@pytest.mark.parametrize(
    "report",
    [
        {"status": "COMPLETED", "attempt": 1},
        {"status": "COMPLETED"},
        {"status": "FAILED"},
        {"status": "FAILED", "attempt": 1, "output": {"n": 1}},
        {"status": "IN_PROGRESS", "attempt": 1, "message": "half way"},
    ],
)
def test_a_report_is_refused_with_a_clear_word_and_changes_nothing(service: Service, report: dict[str, Any]) -> None:
    # when
    alone = service.call("report_status", f"POST {TASK}/status", body=report)
    statuses = [{"taskId": "later", **report}, {"taskId": "now", "status": "COMPLETED", "attempt": 1}]
    batch = service.call("report_status", "POST /v1/executions/{executionId}/statuses", body={"statuses": statuses})

    # then
    assert alone.status == 409
    assert "PAUSED, stored by a later version" in alone.body["detail"]
    assert [result["status"] for result in batch.body["results"]] == [409, 200]
    assert service.stored() == service.item
    assert service.table.items(keys.output_pk("default", service.execution_id, "later")) == []


def test_a_heartbeat_is_refused(service: Service) -> None:
    reply = service.call("report_status", f"POST {TASK}/heartbeat", body={"attempt": 1})

    assert reply.status == 409
    assert service.stored() == service.item


def test_it_is_listed_and_shown(service: Service) -> None:
    shown = service.call("executions", f"GET {TASK}")
    tasks = service.call("executions", "GET /v1/executions/{executionId}/tasks")
    counted = service.call("executions", "GET /v1/executions/{executionId}")

    assert (shown.status, shown.body["status"]) == (200, "PAUSED")
    assert [task["status"] for task in tasks.body["items"]] == ["PAUSED", "SCHEDULED"]
    assert counted.status == 200


def test_an_execution_of_a_later_version_is_listed(service: Service) -> None:
    # given
    pk = keys.execution_pk("default", service.execution_id)
    item = service.table.item(pk, keys.EXECUTION_SK)
    assert item is not None
    service.table.put({**item, "status": {"S": "PAUSED"}})

    # when
    shown = service.call("executions", "GET /v1/executions/{executionId}")
    listed = service.call("executions", "GET /v1/executions")

    # then
    assert shown.body["status"] == "PAUSED"
    assert [run["status"] for run in listed.body["items"] if run["executionId"] == service.execution_id] == ["PAUSED"]


def test_its_history_is_shown(service: Service) -> None:
    # given
    pk = keys.history_pk("default", service.execution_id, "later")
    entry = {"version": {"N": "4"}, "at": {"N": str(NOW)}, "status": {"S": "PAUSED"}, "verdict": {"S": "put_off"}}
    service.table.put({"pk": {"S": pk}, "sk": {"S": "0000000004"}, **entry, "failureReason": {"S": "TIRED"}})

    # when
    reply = service.call("executions", f"GET {TASK}/history")

    # then
    (shown,) = reply.body["items"]
    assert (shown["status"], shown["verdict"], shown["failureReason"]) == ("PAUSED", "put_off", "TIRED")


def test_cancelling_leaves_it_as_it_is(service: Service) -> None:
    reply = service.call("execution_control", "POST /v1/executions/{executionId}/cancel", body={})

    assert reply.status == 200
    assert service.stored() == service.item


@pytest.mark.parametrize("later", [{"status": {"S": "PAUSED"}}, {"form": {"N": "3"}}])
@pytest.mark.parametrize("function", ["notifier", "retry_scheduler"])
def test_consumers_of_the_stream_set_it_aside(
    service: Service, monkeypatch: pytest.MonkeyPatch, function: str, later: dict[str, Any]
) -> None:
    # given
    record = stream_record(a_task(TaskStatus.FAILED), number="7")
    record["dynamodb"]["NewImage"].update(later)
    bucket = FakeClient(put_object={})
    module = service.load(function, service.table.client)
    for name in ("events", "sqs", "scheduler"):
        monkeypatch.setattr(services, name, lambda: None)
    monkeypatch.setattr(services, "s3", lambda: bucket)

    # when
    reply = module.handler({"Records": [record]}, Context())

    # then
    assert reply == {"batchItemFailures": []}
    (stored,) = bucket.requests("put_object")
    assert json.loads(json.loads(stored["Body"])["payload"])["Records"] == [record]


def test_a_later_versions_fields_stay_when_this_one_writes(service: Service) -> None:
    # given an attribute that this version does not know, on a task that it does
    pk, sk = keys.execution_pk("default", service.execution_id), keys.task_sk("now")
    item = service.table.item(pk, sk)
    assert item is not None
    service.table.put({**item, "colour": {"S": "blue"}})

    # when
    statuses = [{"taskId": "now", "status": "IN_PROGRESS", "attempt": 1}]
    batch = service.call("report_status", "POST /v1/executions/{executionId}/statuses", body={"statuses": statuses})

    # then
    after = service.table.item(pk, sk)
    assert batch.body["results"][0]["verdict"] == "applied"
    assert after is not None
    assert (after["status"], after["colour"]) == ({"S": "IN_PROGRESS"}, {"S": "blue"})
