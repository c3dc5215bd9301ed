"""Translation from the domain: views of executions, of their tasks in detail and of history entries."""

from typing import cast

from tasklatch.api.v1.executions.models import (
    CONCURRENCY_PREFIX,
    ExecutionDetailView,
    ExecutionView,
    HistoryView,
)
from tasklatch.api.v1.views import TaskDetailView, payload_view, retry_view, task_view
from tasklatch.domain.concurrency import LinePosition
from tasklatch.domain.execution import Execution
from tasklatch.domain.history import HistoryEntry
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import TaskDetail
from tasklatch.runtime.attempt_ids import attempt_ids
from tasklatch.runtime.clock import format_timestamp


def execution_view(execution: Execution) -> ExecutionView:
    """Return the view of an execution."""
    view: ExecutionView = {
        "executionId": execution.execution_id,
        "status": execution.status,
        "version": execution.version,
        "createdAt": format_timestamp(execution.created_at),
        "updatedAt": format_timestamp(execution.updated_at),
    }
    times = {
        "endedAt": execution.ended_at,
        "deletedAt": execution.deleted_at,
        "startedAt": execution.started_at,
        "waitingSince": execution.waiting_since,
    }
    key = execution.concurrency_key
    others = {
        "reason": execution.reason,
        "staysOpen": execution.keep_open or None,
        "name": execution.name,
        "metadata": payload_view(execution.metadata),
        "queue": execution.queue,
        "priority": execution.priority,
        "concurrencyKey": key.removeprefix(CONCURRENCY_PREFIX) if key is not None else None,
    }
    timestamps = {name: format_timestamp(value) for name, value in times.items() if value is not None}
    details = {name: value for name, value in others.items() if value is not None}
    return cast("ExecutionView", {**view, **timestamps, **details})


def execution_detail_view(
    execution: Execution, counts: dict[TaskStatus, int], next_cursor: str | None, line: LinePosition | None = None
) -> ExecutionDetailView:
    """Return the view of an execution with its number of tasks by status; `line` is that in which it waits."""
    view = cast("ExecutionDetailView", execution_view(execution))
    view["taskCount"] = sum(counts.values())
    view["counts"] = counts
    if line is not None:
        view["line"] = {
            "position": line.position,
            "running": line.running,
            "maxConcurrentExecutions": line.limit,
        }
    if next_cursor is not None:
        view["nextCursor"] = next_cursor
    return view


def task_detail_view(detail: TaskDetail) -> TaskDetailView:
    """Return the view of a task with its payloads, its dependencies and the decision on its retry."""
    view = cast("TaskDetailView", task_view(detail.task))
    view["dependsOn"] = list(detail.depends_on)
    view["input"] = payload_view(detail.input)
    view["output"] = payload_view(detail.output)
    decision = decide_retry(detail.task)
    if decision is not None:
        view["retry"] = retry_view(decision)
    return view


def history_view(entry: HistoryEntry, tenant: str, execution_id: str, task_id: str) -> HistoryView:
    """Return the view of one history entry."""
    view: HistoryView = {
        "version": entry.version,
        "verdict": entry.verdict,
        "status": entry.status,
        "at": format_timestamp(entry.at),
    }
    if entry.attempt is not None:
        view["attempt"] = entry.attempt
        view["taskExecutionId"] = attempt_ids().issue(tenant, execution_id, task_id, entry.attempt)
    if entry.previous_status is not None:
        view["previousStatus"] = entry.previous_status
    if entry.failure_reason is not None:
        view["failureReason"] = entry.failure_reason
    if entry.message is not None:
        view["message"] = entry.message
    if entry.platform_status is not None:
        view["label"] = entry.platform_status
    if entry.request_id is not None:
        view["requestId"] = entry.request_id
    if entry.reported_by is not None:
        view["reportedBy"] = entry.reported_by
    return view
