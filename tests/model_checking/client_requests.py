"""Tasks and requests from which cases are made."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from tasklatch.domain.status import ExecutionStatus
from tests.model_checking.case import EXECUTION, Request, View, at_once

_TASK: Final = "/v1/executions/{executionId}/tasks/{taskId}"
QUEUE: Final = "work"
Definition = Mapping[str, Any]


def a_task(task_id: str = "a", *, attempts: int = 2, **fields: Any) -> Definition:
    """Return a task whose next attempt follows at once: the order of steps decides how late a timer fires."""
    policy = {"maxAttempts": attempts, "initialSeconds": 0, "jitter": 0}
    return {"taskId": task_id, "retryPolicy": policy, **fields}


def reports(
    status: str,
    task_id: str = "a",
    *,
    when: Callable[[View], bool] = at_once,
    execution_id: str = EXECUTION,
    **fields: Any,
) -> Request:
    """Return a worker's report."""
    path = {"executionId": execution_id, "taskId": task_id}
    return Request("report_status", f"POST {_TASK}/status", path, {"status": status, **fields}, when)


def reports_batch(*reports: Mapping[str, Any], when: Callable[[View], bool] = at_once) -> Request:
    """Return reports in one batch."""
    path = {"executionId": EXECUTION}
    body = {"statuses": list(reports)}
    return Request("report_status", "POST /v1/executions/{executionId}/statuses", path, body, when)


def sends_heartbeat(task_id: str = "a", **fields: Any) -> Request:
    """Return a worker's heartbeat, by default of the first attempt."""
    path = {"executionId": EXECUTION, "taskId": task_id}
    return Request("report_status", f"POST {_TASK}/heartbeat", path, fields or {"attempt": 1})


def claims(claim_id: str | None = None, *, most: int = 1, when: Callable[[View], bool] = at_once) -> Request:
    """Return a worker's claim of tasks of the queue `work`."""
    body = {"max": most} | ({} if claim_id is None else {"claimId": claim_id})
    return Request("claims", "POST /v1/queues/{queue}/claim", {"queue": QUEUE}, body, when)


def releases(attempt: int, task_id: str = "a") -> Request:
    """Return a worker's release of an attempt."""
    body = {"executionId": EXECUTION, "taskId": task_id, "attempt": attempt}
    return Request("claims", "POST /v1/queues/{queue}/release", {"queue": QUEUE}, body)


def sends_superai_updates(*statuses: str, task_name: str = "a") -> Request:
    """Return a SuperAI worker's batch of status updates of one task."""
    route = "POST /api/flow-executions/{flow_execution_id}/task-status"
    body = {"statuses": [{"task_name": task_name, "status": status} for status in statuses]}
    return Request("superai_contract", route, {"flow_execution_id": EXECUTION}, body)


def sends_forge_result(status: str, task_id: str) -> Request:
    """Return the last report of a Forge taskRunner; its id names no attempt."""
    body = {"scanId": EXECUTION, "connectionId": "c", "status": status, "task": {"taskId": task_id}}
    return Request("forge_contract", "POST /forge/updateTaskStatus", {}, body)


def handed_out(attempt: int, task_id: str = "a") -> Callable[[View], bool]:
    """Return a condition that holds once a worker can have received an attempt."""
    return lambda view: (task_id, attempt) in view.handed_out


def over(view: View) -> bool:
    """Return True once a person can see that there is something to retry."""
    return view.execution_status in (ExecutionStatus.FAILED, ExecutionStatus.TERMINATED)


def cancels(execution_id: str = EXECUTION, *, when: Callable[[View], bool] = at_once) -> Request:
    path = {"executionId": execution_id}
    return Request("execution_control", "POST /v1/executions/{executionId}/cancel", path, {"reason": "enough"}, when)


def retries(execution_id: str = EXECUTION, *, when: Callable[[View], bool] = over) -> Request:
    path = {"executionId": execution_id}
    return Request("execution_control", "POST /v1/executions/{executionId}/retry", path, None, when)


def adds(*tasks: Definition) -> Request:
    """Return a request that adds tasks; it may come too late."""
    path = {"executionId": EXECUTION}
    return Request("executions", "POST /v1/executions/{executionId}/tasks", path, {"tasks": list(tasks)})
