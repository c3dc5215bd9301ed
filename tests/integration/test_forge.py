"""Forge's contract over an emulated table: one ledger with the native contract, and a payload for the taskRunner."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final
from uuid import uuid4

import pytest

from tasklatch.domain.changes import Change
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.ledger.history import History
from tasklatch.ledger.payloads import Payloads
from tasklatch.notifications.broadcast import WatcherBroadcast
from tasklatch.notifications.event_bus import EventBus
from tasklatch.notifications.publisher import ChangePublisher
from tasklatch.notifications.websockets import WebSocketConnections
from tests.api_description import check_answer
from tests.factories import Reply, api_event, call_api, fixed_clock, fresh_name
from tests.integration.emulators import Table, make_backoff

UPDATE: Final = "POST /forge/updateTaskStatus"
SCANS: Final = "POST /forge/scans"
CHILDREN: Final = "POST /forge/children"
EXECUTION: Final = "GET /v1/executions/{executionId}"
TASK: Final = "GET /v1/executions/{executionId}/tasks/{taskId}"
HISTORY: Final = f"{TASK}/history"
REPORT: Final = "POST /v1/executions/{executionId}/tasks/{taskId}/status"


@dataclass(frozen=True)
class Api:
    """The handlers, called as API Gateway calls them; each answer is held to the description."""

    load: Callable[[str, Any], ModuleType]
    table: Table

    def __call__(self, route: str, *path: str, body: Any = None, **more: Any) -> Reply:
        function = "forge_contract" if "/forge/" in route else "report_status" if route == REPORT else "executions"
        parameters = dict(zip(("executionId", "taskId"), path, strict=False))
        event = api_event(route, path=parameters, body=body, **more)
        reply = call_api(self.load(function, self.table.client).handler, event)
        check_answer(route, reply)
        return reply

    def update(self, scan_id: Any, task_id: str, status: str = "success", **fields: Any) -> Reply:
        body = {"scanId": scan_id, "connectionId": "drive", "status": status, "task": {"taskId": task_id}}
        return self(UPDATE, body=body | {"taskExecutionId": fresh_name()} | fields)

    def task(self, execution_id: str, task_id: str) -> Task:
        item = self.table.item(keys.execution_pk("default", execution_id), keys.task_sk(task_id))
        assert item is not None
        return task_from_item(item)


@pytest.fixture
def api(load: Callable[[str, Any], ModuleType], statements_table: Table) -> Api:
    return Api(load, statements_table)


@dataclass(frozen=True)
class Scan:
    scan_id: str
    execution_id: str
    task_id: str


@pytest.fixture
def scan(api: Api) -> Scan:
    """A scan with one root task, named in characters that no execution id can have."""
    scan_id, task_id = f"scan/{fresh_name()}", str(uuid4())
    tasks = [{"taskId": task_id, "taskType": "FOLDER", "taskMetadata": {"path": "/é"}}]
    created = api(SCANS, body={"connectionId": "drive", "scanId": scan_id, "tasks": tasks, "sdk": "1"})
    assert (created.status, created.body["scanId"]) == (201, scan_id)
    return Scan(scan_id, created.body["executionId"], task_id)


def test_task_of_a_scan_is_seen_by_the_native_contract(api: Api, scan: Scan) -> None:
    shown = api(EXECUTION, scan.execution_id)
    task = api(TASK, scan.execution_id, scan.task_id)

    assert shown.body["metadata"] == {"connectionId": "drive", "scanId": scan.scan_id}
    assert shown.body["counts"] == {"SCHEDULED": 1}
    assert task.body["input"] == {
        "connectionId": "drive",
        "scanId": scan.scan_id,
        "taskId": scan.task_id,
        "taskExecutionId": task.body["taskExecutionId"],
        "taskType": "FOLDER",
        "taskMetadata": {"path": "/é"},
    }


def test_success_stands_against_a_duplicate_delivery_that_failed(api: Api, scan: Scan) -> None:
    # given
    success = api.update(scan.scan_id, scan.task_id)

    # when a duplicate, with an id of its own, reports a failure
    late = api.update(scan.scan_id, scan.task_id, "failure", failureReason="RATE_LIMITED")
    again = api.update(scan.scan_id, scan.task_id)

    # then
    assert success.body == {"status": "ACCEPTED", "message": "Task status updated"}
    assert (late.status, late.body["status"]) == (200, "ACCEPTED")
    assert "ignored" in late.body["message"]
    assert (again.status, again.body["status"]) == (200, "ACCEPTED")
    assert api.task(scan.execution_id, scan.task_id).status == "COMPLETED"
    verdicts = {item["verdict"] for item in api(HISTORY, scan.execution_id, scan.task_id).body["items"]}
    assert verdicts == {"ignored_after_success", "duplicate"}


def test_report_passes_from_one_contract_to_the_other(api: Api, scan: Scan) -> None:
    # given a failure through Forge
    failed = api.update(scan.scan_id, scan.task_id, "failure")
    assert "RETRYABLE_ERROR is retried" in failed.body["message"]

    # when the native contract reports success on the attempt that Forge's worker was handed
    handed_out = api(TASK, scan.execution_id, scan.task_id).body["input"]["taskExecutionId"]
    body = {"status": "COMPLETED", "taskExecutionId": handed_out}
    rescued = api(REPORT, scan.execution_id, scan.task_id, body=body)

    # then
    assert rescued.body["verdict"] == "applied"
    assert "succeeded already" in api.update(scan.scan_id, scan.task_id, "failure").body["message"]


def test_task_that_no_scan_registered_can_be_reported_through_forge(api: Api) -> None:
    execution_id, task_id = fresh_name(), str(uuid4())
    created = api("POST /v1/executions", body={"executionId": execution_id, "tasks": [{"taskId": task_id}]})
    assert created.status == 201

    assert api.update(execution_id, task_id).status == 200

    assert api.task(execution_id, task_id).status == "COMPLETED"


def test_children_join_their_scan(api: Api, scan: Scan) -> None:
    child = str(uuid4())
    body = {"connectionId": "drive", "scanId": scan.scan_id, "tasks": [{"taskId": child}]}

    first, again = api(CHILDREN, body=body), api(CHILDREN, body=body)
    clash = api(CHILDREN, body=body | {"tasks": [{"taskId": child, "taskMetadata": {"other": 1}}]})

    assert (first.status, first.body["message"]) == (200, "1 task is registered")
    assert again.body == first.body
    assert (clash.status, clash.body["status"]) == (409, "REJECTED")
    assert api.task(scan.execution_id, child).status == "SCHEDULED"
    assert api(TASK, scan.execution_id, child).body["input"]["taskMetadata"] == {}


def test_scan_is_named_by_the_service_where_the_app_does_not(api: Api) -> None:
    body = {"connectionId": "drive", "tasks": [{"taskId": str(uuid4())}]}
    first = api(SCANS, body=body, headers={"idempotency-key": fresh_name()})
    assert first.body["scanId"] == first.body["executionId"]
    assert api(SCANS, body=body).body["scanId"] != first.body["scanId"]


def test_scan_registered_again_stays_as_it_is(api: Api) -> None:
    body = {"connectionId": "drive", "scanId": fresh_name(), "tasks": [{"taskId": str(uuid4())}]}
    first, again = api(SCANS, body=body), api(SCANS, body=body)
    clash = api(SCANS, body=body | {"connectionId": "mail"})
    assert [first.status, again.status, clash.status] == [201, 200, 409]
    assert again.body == first.body
    assert clash.body["originalError"]["type"] == "urn:tasklatch:problem:conflict"


def test_what_is_not_there_is_told_in_forges_words(api: Api, scan: Scan) -> None:
    nowhere = api.update(fresh_name(), scan.task_id)
    no_task = api.update(scan.scan_id, str(uuid4()))
    no_scan = api.update(None, scan.task_id)
    no_parent = api(CHILDREN, body={"connectionId": "d", "scanId": fresh_name(), "tasks": [{"taskId": str(uuid4())}]})

    replies = [nowhere, no_task, no_scan, no_parent]
    assert [reply.status for reply in replies] == [404] * 4
    assert [reply.body["error"] for reply in replies] == [
        "Scan not found",
        "Task not found",
        "Scan not found",
        "Scan not found",
    ]
    assert {reply.body["status"] for reply in replies} == {"REJECTED"}


@pytest.mark.parametrize(
    ("route", "body", "error"),
    [
        (UPDATE, {}, "connectionId is required"),
        (UPDATE, "{", "body: not valid JSON"),
        (SCANS, {"connectionId": "drive", "tasks": []}, "tasks: "),
        (SCANS, {"connectionId": "", "tasks": [{"taskId": str(uuid4())}]}, "connectionId: "),
        (SCANS, {"connectionId": "drive", "tasks": [{"taskId": "fetch"}]}, "tasks.0.taskId: "),
        (CHILDREN, {"connectionId": "drive", "tasks": [{"taskId": str(uuid4())}]}, "scanId: "),
    ],
)
def test_bad_request_is_400_with_the_error_to_branch_on(api: Api, route: str, body: Any, error: str) -> None:
    reply = api(route, body=body, request_id="own")
    assert reply.status == 400
    assert reply.headers["content-type"] == "application/json"
    assert reply.body["status"] == "REJECTED"
    assert reply.body["error"].startswith(error)
    assert reply.body["message"] == reply.body["error"]
    assert (reply.body["originalError"]["status"], reply.body["originalError"]["request_id"]) == (400, "own")


def test_report_with_the_wrong_scope_is_refused_in_forges_words(api: Api, scan: Scan) -> None:
    body = {"scanId": scan.scan_id, "connectionId": "drive", "status": "success", "task": {"taskId": scan.task_id}}
    reply = api(UPDATE, body=body, claims={"scope": "tasklatch/read"})
    assert (reply.status, reply.body["status"]) == (403, "REJECTED")


class _Bus:
    """Takes what is published."""

    def __init__(self) -> None:
        self.details: list[Any] = []

    def put_events(self, **request: Any) -> dict[str, Any]:
        self.details += [json.loads(entry["Detail"]) for entry in request["Entries"]]
        return {"FailedEntryCount": 0, "Entries": [{}] * len(request["Entries"])}


def test_dispatch_carries_what_a_task_runner_is_called_with(api: Api, scan: Scan) -> None:
    # given
    bus: Any = _Bus()
    client, settings = api.table.client, api.table.settings
    task = api.task(scan.execution_id, scan.task_id)
    publisher = ChangePublisher(
        History(client, settings, make_backoff()),
        EventBus(bus, settings, make_backoff()),
        WatcherBroadcast(
            WebSocketConnections(client, settings, fixed_clock, make_backoff()), lambda: bus, make_backoff()
        ),
        Payloads(client, settings, make_backoff()),
    )

    # when
    publisher.publish([Change(task, None)])

    # then
    (detail,) = bus.details
    assert detail["input"] == {
        "connectionId": "drive",
        "scanId": scan.scan_id,
        "taskExecutionId": detail["taskExecutionId"],
        "taskId": scan.task_id,
        "taskType": "FOLDER",
        "taskMetadata": {"path": "/é"},
    }
    assert api.update(scan.scan_id, scan.task_id, taskExecutionId=detail["input"]["taskExecutionId"]).status == 200


@pytest.mark.parametrize("status", ["success", "failure"])
def test_task_that_waits_for_another_cannot_be_reported(api: Api, status: str) -> None:
    # given
    execution_id, task_id, other = fresh_name(), str(uuid4()), str(uuid4())
    tasks = [{"taskId": other}, {"taskId": task_id, "dependsOn": [other]}]
    assert api("POST /v1/executions", body={"executionId": execution_id, "tasks": tasks}).status == 201

    # when
    refused = api.update(execution_id, task_id, status)

    # then
    assert refused.status == 409
    assert (refused.body["status"], refused.body["error"]) == ("REJECTED", "Task is not open")
    assert refused.body["originalError"]["type"] == "urn:tasklatch:problem:attempt-not-open"
    assert api.task(execution_id, task_id).status == "PENDING"
    assert api(HISTORY, execution_id, task_id).body["items"] == []
