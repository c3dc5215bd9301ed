"""Short scenarios that together make every function do everything that it can do."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from tasklatch.domain.overdue import LOST_CHANGE_MS
from tasklatch.runtime import clients
from tests.fault_injection.emulated_aws import TABLE
from tests.fault_injection.records import PromiseBrokenError
from tests.fault_injection.stream_failures import unreadable_item
from tests.fault_injection.whole_service import WholeService

_EXECUTIONS: Final = "POST /v1/executions"
_EXECUTION: Final = "/v1/executions/{executionId}"
_TASK: Final = f"{_EXECUTION}/tasks/{{taskId}}"
_FLOWS: Final = "/api/flow-executions"
_FLOW: Final = f"{_FLOWS}/{{flow_execution_id}}"
_WORKFLOWS: Final = "/api/v1/projects/{project}/workflows"
_VERSION: Final = f"{_WORKFLOWS}/{{workflowExternalId}}/versions/{{version}}"
_RUN: Final = f"{_WORKFLOWS}/executions/{{executionId}}"
_SCHEDULES: Final = "/v1/schedules"
_SCHEDULE: Final = f"{_SCHEDULES}/{{scheduleId}}"
_FLOW_ID: Final = "6f1d2c9e-0000-4000-8000-000000000001"

SOON: Final = {"maxAttempts": 3, "initialSeconds": 1, "multiplier": 1, "jitter": 0}
LATER: Final = {"maxAttempts": 2, "initialSeconds": 3600, "maxSeconds": 7200, "jitter": 0}
ONCE: Final = {"maxAttempts": 1}


def reporting(service: WholeService) -> None:
    """Run failures and successes, in time and late, alone and in a batch; retries soon and later; a silent worker."""
    create(
        service,
        "nightly",
        {"taskId": "resize", "retryPolicy": SOON},
        {"taskId": "crop", "onFailure": "continue"},
        {"taskId": "tag"},
        {"taskId": "index", "retryPolicy": LATER},
        {"taskId": "silent", "retryPolicy": {**SOON, "maxAttempts": 2}, "timeoutSeconds": 60, "onFailure": "continue"},
    )
    service.report("nightly", "resize", status="IN_PROGRESS", attempt=1)
    service.call("report_status", f"POST {_TASK}/heartbeat", "nightly", "resize", body={"attempt": 1, "progress": 0.5})
    failure = {"status": "FAILED", "attempt": 1, "message": "disk full", "output": {"log": "a"}}
    service.report("nightly", "resize", **failure)
    service.report("nightly", "resize", **failure)
    service.settle()
    service.report("nightly", "resize", status="FAILED", attempt=1, message="too late")
    service.report("nightly", "resize", status="COMPLETED", attempt=2, output={"pages": 3})
    service.report("nightly", "resize", status="FAILED", attempt=2, message="a duplicate delivery's")
    service.report("nightly", "crop", status="IN_PROGRESS")
    service.report("nightly", "crop", status="FAILED", failureReason="NON_RETRYABLE_ERROR")
    service.report_all(
        "nightly",
        [
            {"taskId": "tag", "status": "IN_PROGRESS", "attempt": 1},
            {"taskId": "index", "status": "FAILED", "message": "busy"},
            {"taskId": "tag", "status": "COMPLETED", "output": {"tags": ["a"]}},
            {"taskId": "tag", "status": "FAILED", "attempt": 1},
            {"taskId": "resize", "status": "COMPLETED"},
        ],
    )
    service.settle()
    service.report("nightly", "index", status="COMPLETED", attempt=2)
    service.settle()
    service.reconcile()
    for route, path in ((_EXECUTION, 1), (f"{_EXECUTION}/tasks", 1), (_TASK, 2), (f"{_TASK}/history", 2)):
        service.call("executions", f"GET {route}", *("nightly", "resize")[:path])
    service.call("executions", "GET /v1/executions")


def workflows(service: WholeService) -> None:
    """Run tasks with dependencies, one that ends its execution, a person's retry and cancellation, a watcher."""
    create(
        service,
        "diamond",
        {"taskId": "top"},
        {"taskId": "left", "dependsOn": ["top"], "input": {"pages": "${top.output.pages}"}},
        {"taskId": "right", "dependsOn": ["top"]},
        {"taskId": "bottom", "dependsOn": ["left", "right"], "retryPolicy": ONCE},
    )
    service.watch("diamond")
    service.report("diamond", "top", status="COMPLETED", output={"pages": 3})
    service.settle()
    service.report_all("diamond", [{"taskId": name, "status": "COMPLETED"} for name in ("left", "right")])
    service.settle()
    added = {"tasks": [{"taskId": "after", "dependsOn": ["bottom"]}]}
    service.call("executions", f"POST {_EXECUTION}/tasks", "diamond", body=added)
    service.settle()
    service.report("diamond", "bottom", status="FAILED")
    service.settle()
    # Sent again after it took effect, it meets an execution that runs already
    service.call("execution_control", f"POST {_EXECUTION}/retry", "diamond", again=(409,))
    service.settle()
    service.reconcile()
    service.report("diamond", "bottom", status="COMPLETED")
    service.settle()
    service.report("diamond", "after", status="COMPLETED")
    service.settle()
    create(service, "called-off", {"taskId": "one"}, {"taskId": "two", "dependsOn": ["one"]})
    service.call("execution_control", f"POST {_EXECUTION}/cancel", "called-off", body={"reason": "no longer wanted"})
    service.settle()
    service.reconcile()


def forge(service: WholeService) -> None:
    """Run a scan whose task adds another; both are reported on, once too often."""
    scan = {"connectionId": "drive", "scanId": "scan-1"}

    def update(task_id: str, status: str, **fields: Any) -> None:
        body = {**scan, "status": status, "task": {"taskId": task_id}, "taskExecutionId": f"run-{task_id}", **fields}
        service.call("forge_contract", "POST /forge/updateTaskStatus", body=body)

    root, child = ({"taskId": f"0b8f5f6e-0000-4000-8000-00000000000{n}", "taskType": "FOLDER"} for n in (1, 2))
    service.call("forge_contract", "POST /forge/scans", body={**scan, "tasks": [root]})
    service.settle()
    service.call("forge_contract", "POST /forge/children", body={**scan, "tasks": [child]})
    service.settle()
    update(root["taskId"], "success")
    update(root["taskId"], "failure", failureReason="RATE_LIMITED")
    update(child["taskId"], "failure", failureReason="RETRYABLE_ERROR")
    service.settle()
    update(child["taskId"], "success")
    service.settle()
    service.reconcile()


def superai(service: WholeService) -> None:
    """Run a flow execution with updates of any status; one execution is cancelled, one deleted."""
    created = []
    for key in ("one", "two"):
        body = {"flow_id": _FLOW_ID, "input": {"file": "a.pdf"}, "task_names": ["extract", "send"]}
        headers = {"idempotency-key": key}
        reply = service.call("superai_contract", f"POST {_FLOWS}", body=body, headers=headers)
        created.append(reply.body["id"])
        service.settle()
    payload = [("extract", "running"), ("send", "queued"), ("extract", "completed"), ("extract", "failed")]
    statuses = {"statuses": [{"task_name": name, "status": status} for name, status in payload]}
    service.call("superai_contract", f"POST {_FLOW}/task-status", created[0], body=statuses)
    service.settle()
    service.call("superai_contract", f"GET {_FLOWS}", query={"flow_id": _FLOW_ID})
    service.call("superai_contract", f"GET {_FLOW}", created[0])
    service.call("superai_contract", "GET /api/task-executions", query={"flow_execution_id": created[0]})
    one_task = {"flow_execution_id": created[0], "task_name": "extract"}
    service.call("superai_contract", "GET /api/task-executions", query=one_task)
    service.call("superai_contract", f"POST {_FLOW}/cancel", created[0])
    service.settle()
    # Sent again after it took effect, it meets nothing
    service.call("superai_contract", f"DELETE {_FLOW}", created[1], again=(404,))
    service.settle()
    service.reconcile()


class _CogniteProject:
    """Requests to one project, as a client of Cognite sends them."""

    def __init__(self, service: WholeService, project: str) -> None:
        self._service = service
        self._project = project

    def define(self, route: str, body: Any, *path: str, again: tuple[int, ...] = ()) -> None:
        self._service.call("cognite_definitions", route, self._project, *path, body=body, again=again)

    def execute(self, route: str, *path: str, body: Any, again: tuple[int, ...] = ()) -> Any:
        reply = self._service.call("cognite_executions", route, self._project, *path, body=body, again=again)
        self._service.settle(time_passes=False)
        return reply.body

    def run(self, nonce: str) -> str:
        """Run the workflow; return the id of the execution."""
        body = {"authentication": {"nonce": nonce}}
        execution_id: str = self.execute(f"POST {_VERSION}/run", "nightly", "1", body=body)["id"]
        return execution_id

    def update(self, execution_id: str, name: str, status: str, **fields: Any) -> None:
        reply = self._service.call("cognite_executions", f"GET {_RUN}", self._project, execution_id)
        task_id = {task["externalId"]: task["id"] for task in reply.body["executedTasks"]}.get(name)
        if task_id is None:
            raise PromiseBrokenError(f"{name} has not been scheduled: {reply.text}")
        route = f"POST {_WORKFLOWS}/tasks/{{taskId}}/update"
        self._service.call("cognite_contract", route, self._project, task_id, body={"status": status, **fields})
        self._service.settle(time_passes=False)


def cognite(service: WholeService) -> None:
    """Define, run, fail, retry and complete a workflow; cancel another run, and delete everything."""
    project = _CogniteProject(service, "default")
    definition = {"tasks": [_function_task("first"), _function_task("second", "first")]}
    version = {"workflowExternalId": "nightly", "version": "1"}
    project.define(f"POST {_WORKFLOWS}", {"items": [{"externalId": "nightly"}]})
    project.define(f"POST {_WORKFLOWS}/versions", {"items": [{**version, "workflowDefinition": definition}]})
    project.define(f"GET {_WORKFLOWS}", None)
    project.define(f"GET {_VERSION}", None, "nightly", "1")
    execution_id = project.run("one")
    project.update(execution_id, "first", "COMPLETED", output={"pages": 3})
    project.update(execution_id, "second", "FAILED_WITH_TERMINAL_ERROR")
    # Sent again after it took effect, it meets an execution that runs already
    nonce = {"authentication": {"nonce": "three"}}
    project.execute(f"POST {_RUN}/retry", execution_id, body=nonce, again=(400, 409))
    service.reconcile(time_passes=False)
    project.update(execution_id, "second", "COMPLETED")
    project.execute(f"POST {_RUN}/cancel", project.run("two"), body={"reason": "unwanted"})
    service.call("cognite_executions", f"POST {_WORKFLOWS}/executions/list", "default", body={})
    project.define(f"POST {_WORKFLOWS}/versions/delete", {"items": [version]}, again=(400, 404))
    project.define(f"POST {_WORKFLOWS}/delete", {"items": [{"externalId": "nightly"}]}, again=(400, 404))
    service.reconcile()
    # Once all changes are known to be published, it is on no list any more
    service.reconcile(after_ms=LOST_CHANGE_MS + 1_000)


def _function_task(name: str, *depends_on: str) -> dict[str, Any]:
    parameters = {"function": {"externalId": "fn", "data": {"of": name}}, "isAsyncComplete": True}
    dependencies = [{"externalId": other} for other in depends_on]
    return {"externalId": name, "type": "function", "parameters": parameters, "dependsOn": dependencies}


def schedules(service: WholeService) -> None:
    """Create, change, pause, resume and delete a schedule and a trigger; each time comes twice."""

    def call(method: str, path: str, *names: str, **more: Any) -> None:
        service.call("schedules", f"{method} {path}", *names, **more)

    execution = {"tasks": [{"taskId": "draw"}]}
    friday_13th = {"cronExpression": "0 0 13 * 5", "execution": execution}
    call("POST", _SCHEDULES, body={"scheduleId": "nightly", **friday_13th})
    service.fire("2026-02-13T00:00:00Z")
    call("PUT", _SCHEDULE, "nightly", body={"everyMinutes": 5, "execution": execution})
    service.fire("2026-02-13T00:05:00Z")
    call("POST", f"{_SCHEDULE}/pause", "nightly")
    service.settle()
    service.fire("2026-02-13T00:10:00Z")
    call("POST", f"{_SCHEDULE}/resume", "nightly")
    service.fire("2026-02-13T00:15:00Z")
    call("GET", _SCHEDULES)
    call("GET", _SCHEDULE, "nightly")
    call("GET", f"{_SCHEDULE}/history", "nightly")
    project = _CogniteProject(service, "default")
    version = {"workflowExternalId": "nightly", "version": "1", "workflowDefinition": {"tasks": [_function_task("a")]}}
    project.define(f"POST {_WORKFLOWS}", {"items": [{"externalId": "nightly"}]})
    project.define(f"POST {_WORKFLOWS}/versions", {"items": [version]})
    trigger = {
        "externalId": "daily",
        "triggerRule": {"triggerType": "schedule", "cronExpression": "0 6 * * *"},
        "workflowExternalId": "nightly",
        "workflowVersion": "1",
        "authentication": {"nonce": "n"},
    }
    for _ in range(2):
        call("POST", f"{_WORKFLOWS}/triggers", "default", body={"items": [trigger]})
    service.fire("2026-02-14T06:00:00Z")
    project.define(f"POST {_WORKFLOWS}/delete", {"items": [{"externalId": "nightly"}]}, again=(404,))
    # Sent again after it took effect, each meets nothing
    call("DELETE", _SCHEDULE, "nightly", again=(404,))
    service.fire("2026-02-15T06:00:00Z")
    call("GET", f"{_WORKFLOWS}/triggers", "default")
    call("GET", f"{_WORKFLOWS}/triggers/{{externalId}}/history", "default", "daily")
    gone = {"items": [{"externalId": "daily"}]}
    call("POST", f"{_WORKFLOWS}/triggers/delete", "default", body=gone, again=(404,))
    service.settle()
    call("POST", _SCHEDULES, body={"scheduleId": "stays", **friday_13th})
    service.settle()
    service.reconcile()


def losses(service: WholeService) -> None:
    """Lose timers and events, as never in the field: the reconciler continues everything."""
    create(
        service,
        "nightly",
        {"taskId": "first", "retryPolicy": SOON},
        {"taskId": "second", "dependsOn": ["first"]},
        {"taskId": "third", "retryPolicy": ONCE, "onFailure": "continue"},
        {"taskId": "silent", "retryPolicy": ONCE, "timeoutSeconds": 60, "onFailure": "continue"},
        settled=False,
    )
    service.lose_timers()
    service.report("nightly", "first", status="FAILED")
    service.lose_timers()
    service.reconcile()
    service.report("nightly", "first", status="COMPLETED")
    service.report("nightly", "third", status="FAILED")
    service.lose_follow_ups()
    service.reconcile()
    service.report("nightly", "second", status="COMPLETED")
    service.lose_follow_ups()
    service.reconcile()
    create(service, "called-off", {"taskId": "one"})
    service.call("execution_control", f"POST {_EXECUTION}/cancel", "called-off", body={"reason": "no longer wanted"})
    service.lose_follow_ups()
    service.reconcile()
    create(service, "unheard", {"taskId": "one"}, settled=False)
    service.lose_changes()
    service.watch("unheard")
    service.reconcile(after_ms=LOST_CHANGE_MS + 1_000)
    service.report("unheard", "one", status="COMPLETED")
    service.settle()
    service.reconcile(after_ms=LOST_CHANGE_MS + 1_000)


def outages(service: WholeService) -> None:
    """Have records that nobody can read, records that grow too old, and a watcher who takes no message."""
    create(
        service,
        "nightly",
        {"taskId": "first", "retryPolicy": SOON},
        {"taskId": "second", "retryPolicy": SOON, "dependsOn": ["first"]},
        {"taskId": "third"},
    )
    service.aws.silent.add(service.watch("nightly"))
    service.report("nightly", "first", status="FAILED", attempt=1)
    clients.dynamodb().put_item(TableName=TABLE, Item=unreadable_item("one"))
    service.report("nightly", "third", status="COMPLETED", attempt=1)
    service.settle()
    service.report("nightly", "first", status="COMPLETED", attempt=2, output={"pages": 3})
    clients.dynamodb().put_item(TableName=TABLE, Item=unreadable_item("two"))
    service.outlive_age("notifier")
    service.outlive_age("retry_scheduler")
    service.settle()
    service.redrive()
    service.report("nightly", "second", status="FAILED", attempt=1)
    service.outlive_age("retry_scheduler")
    service.settle()
    service.redrive()
    service.report("nightly", "second", status="COMPLETED", attempt=2)
    service.settle()
    service.reconcile()
    service.ping()


def rescue(service: WholeService) -> None:
    """Fail an execution, take that back by a late success, and run on; the event of another success is lost."""
    for execution_id in ("nightly", "unheard"):
        create(
            service,
            execution_id,
            {"taskId": "late", "retryPolicy": ONCE},
            {"taskId": "waits", "dependsOn": ["late"]},
        )
        service.report(execution_id, "late", status="FAILED", attempt=1)
        service.settle()
    service.report("nightly", "late", status="COMPLETED", attempt=1)
    service.settle()
    service.report("nightly", "waits", status="COMPLETED", attempt=1)
    service.settle()
    service.report("unheard", "late", status="COMPLETED", attempt=1)
    service.lose_follow_ups()
    service.reconcile()
    service.report("unheard", "waits", status="COMPLETED", attempt=1)
    service.settle()


def create(service: WholeService, execution_id: str, *tasks: Mapping[str, Any], settled: bool = True) -> None:
    """Create an execution, and let its consequences happen."""
    service.call("executions", _EXECUTIONS, body={"executionId": execution_id, "tasks": list(tasks)})
    if settled:
        service.settle()


SCENARIOS: Final[Mapping[str, Callable[[WholeService], None]]] = {
    scenario.__name__: scenario
    for scenario in (forge, superai, losses, schedules, rescue, workflows, cognite, outages, reporting)
}
