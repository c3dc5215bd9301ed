"""Translation between SuperAI's contract and the domain: checks against the tasks, groups of executions, and views."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid5

from tasklatch.domain.errors import AttemptNotOpenError, UnknownTasksError
from tasklatch.domain.execution import Execution
from tasklatch.domain.report import Report
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task, TaskDetail
from tasklatch.domain.verdict import is_on_opened_attempt
from tasklatch.platforms.superai.models import (
    EXECUTION_STATUS,
    FlowExecutionView,
    FlowTaskExecutionView,
    TaskExecutionsQuery,
    TaskStatuses,
    TaskStatusItem,
    TaskStatusView,
)
from tasklatch.runtime.attempt_ids import current_attempt_id
from tasklatch.runtime.clock import format_timestamp

_NAMESPACE: Final = UUID("c3c3a2a0-6e0d-4a39-9f0e-2f6c1a1f7f55")
_NO_FLOW: Final = str(UUID(int=0))
_ACTOR: Final = "system"
_FLOW_GROUP: Final = "flow:"

_FIRST_VERSION: Final = 1

PROCESSING_STATUS: Final[Mapping[TaskStatus, str]] = {
    TaskStatus.PENDING: "queued",
    TaskStatus.SCHEDULED: "queued",
    TaskStatus.IN_PROGRESS: "running",
    TaskStatus.TIMED_OUT: "failed",
    TaskStatus.FAILED: "failed",
    TaskStatus.FAILED_WITH_TERMINAL_ERROR: "failed",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.COMPLETED_WITH_ERRORS: "completed",
    TaskStatus.SKIPPED: "cancelled",
    TaskStatus.CANCELED: "cancelled",
}
"""Statuses of the platform. It has none for a skipped task, which is cancelled: nobody will work on it."""


def organization_id_for(tenant: str) -> str:
    """Return the UUID that stands for a tenant in the platform's responses."""
    return str(uuid5(_NAMESPACE, tenant))


def flow_group(flow_id: UUID) -> str:
    """Return the group of a flow's executions."""
    return f"{_FLOW_GROUP}{flow_id}"


def get_flow_id(execution: Execution) -> str | None:
    """Return the id of an execution's flow; None if another contract created the execution."""
    group = execution.group or ""
    return group.removeprefix(_FLOW_GROUP) if group.startswith(_FLOW_GROUP) else None


def check_names(statuses: TaskStatuses, known_names: Iterable[str]) -> None:
    """Check that all tasks of the updates exist.

    Raises
    ------
    UnknownTasksError
        If some do not; the error names each of them once.
    """
    unknown = list(dict.fromkeys(item.task_name for item in statuses.statuses if item.task_name not in known_names))
    if unknown:
        raise UnknownTasksError(f"unknown task names: {', '.join(map(json.dumps, unknown))}", unknown)


def check_open(reports: Iterable[Report], tasks: Mapping[str, Task]) -> None:
    """Check that all tasks with updates that drive the latch are open: after a 200, a caller expects them to count.

    Raises
    ------
    AttemptNotOpenError
        If some are not; the error names each of them once.
    """
    driving = (report for report in reports if not report.is_informational)
    closed = [report.task_id for report in driving if not is_on_opened_attempt(report, tasks[report.task_id])]
    if closed:
        raise AttemptNotOpenError("not open: waiting for others, or cancelled before", *dict.fromkeys(closed))


def flow_execution_view(execution: Execution) -> FlowExecutionView:
    """Return the view of a flow execution; one of another contract has no flow, and its metadata as input."""
    flow = get_flow_id(execution)
    metadata: dict[str, Any] = json.loads(execution.metadata) if execution.metadata else {}
    return {
        "id": execution.execution_id,
        "created_at": format_timestamp(execution.created_at),
        "updated_at": format_timestamp(execution.updated_at),
        "modified_by": _ACTOR,
        "flow_id": flow or _NO_FLOW,
        "flow_version": _FIRST_VERSION,
        "status": EXECUTION_STATUS[execution.status],
        "input": metadata["input"] if flow else metadata,
        "organization_id": organization_id_for(execution.tenant),
    }


def task_status_view(report: Report, update: TaskStatusItem, task: Task, now: int) -> TaskStatusView:
    """Return the view of an update's history record; an update without a status has the task's status."""
    record = f"{task.tenant}\0{task.execution_id}\0{report.record}"
    return {
        "id": str(uuid5(_NAMESPACE, record)),
        "flow_execution_id": task.execution_id,
        "organization_id": organization_id_for(task.tenant),
        "task_name": task.task_id,
        "status": update.status or PROCESSING_STATUS[task.status],
        "created_at": format_timestamp(now),
    }


def task_execution_view(task: Task, detail: TaskDetail | None = None) -> FlowTaskExecutionView:
    """Return the view of a task's current attempt, with its payloads if `detail` is passed."""
    processing = PROCESSING_STATUS[task.status]
    error = {"reason": task.failure_reason, "message": task.message} if processing == "failed" else None
    return {
        "id": current_attempt_id(task),
        "flow_execution_id": task.execution_id,
        "task_execution_idx": task.attempt - 1,
        "task_name": task.task_id,
        "created_at": format_timestamp(task.scheduled_at or task.created_at),
        "updated_at": format_timestamp(task.updated_at),
        "modified_by": _ACTOR,
        "processing_status": processing,
        "edited_status": "not_edited",
        "stale_status": "consistent",
        "input": json.loads(detail.input) if detail and detail.input else None,
        "output": json.loads(detail.output) if detail and detail.output else None,
        "error": error,
        "organization_id": organization_id_for(task.tenant),
        "started_at": _format_optional(task.started_at),
        "completed_at": _format_optional(task.ended_at),
        "tags": [],
    }


def newest_first(tasks: Iterable[Task], query: TaskExecutionsQuery) -> Sequence[Task]:
    """Return the tasks that match the query, newest attempt first."""
    matching = [task for task in tasks if query.task_execution_idx in (None, task.attempt - 1)]
    return sorted(matching, key=lambda task: (task.scheduled_at or task.created_at, task.task_id), reverse=True)


def _format_optional(milliseconds: int | None) -> str | None:
    return format_timestamp(milliseconds) if milliseconds is not None else None
