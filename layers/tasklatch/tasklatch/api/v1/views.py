"""Views of tasks in the responses of the native contract."""

import json
from typing import Any, NotRequired, cast

from typing_extensions import TypedDict

from tasklatch.domain.retry import RetryDecision
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import RetryPolicy, Task
from tasklatch.runtime.attempt_ids import attempt_ids, current_attempt_id
from tasklatch.runtime.clock import format_timestamp


class RetryPolicyView(TypedDict):
    """Number of attempts at a task and the delays between them; times in seconds."""

    maxAttempts: int
    initialSeconds: float
    multiplier: float
    maxSeconds: float
    jitter: float
    retryTimeouts: bool


class RetryView(TypedDict):
    """Decision on the retry after a failure, with its reason."""

    willRetry: bool
    nextAttempt: int | None
    notBefore: str | None
    reason: str
    attemptsLeft: int


class _TaskState(TypedDict):
    executionId: str
    taskId: str
    status: TaskStatus
    attempt: int
    version: int
    createdAt: str
    updatedAt: str
    scheduledAt: NotRequired[str]
    startedAt: NotRequired[str]
    endedAt: NotRequired[str]
    heartbeatAt: NotRequired[str]
    progress: NotRequired[float]
    failureReason: NotRequired[str]
    message: NotRequired[str]
    messageTruncated: NotRequired[bool]
    label: NotRequired[str]
    retryPolicy: RetryPolicyView
    timeoutSeconds: NotRequired[int]
    heartbeatTimeoutSeconds: NotRequired[int]
    onFailure: str
    queue: NotRequired[str]
    priority: NotRequired[int]
    parentTaskId: NotRequired[str]


class TaskView(_TaskState):
    """A task and its state; times are RFC 3339 in UTC."""

    taskExecutionId: str


class ReportedTaskView(_TaskState):
    """A task after a report or heartbeat. Where ids are required, the id of another attempt is left out."""

    taskExecutionId: NotRequired[str]


class TaskDetailView(TaskView):
    """A task with its payloads and, after a failure, the decision on its retry."""

    dependsOn: list[str]
    input: dict[str, Any] | None
    output: dict[str, Any] | None
    retry: NotRequired[RetryView]


def policy_view(policy: RetryPolicy) -> RetryPolicyView:
    """Return the view of a retry policy."""
    return {
        "maxAttempts": policy.max_attempts,
        "initialSeconds": policy.initial_seconds,
        "multiplier": policy.multiplier,
        "maxSeconds": policy.max_seconds,
        "jitter": policy.jitter,
        "retryTimeouts": policy.retry_timeouts,
    }


def retry_view(decision: RetryDecision) -> RetryView:
    """Return the view of a retry decision."""
    return {
        "willRetry": decision.will_retry,
        "nextAttempt": decision.next_attempt,
        "notBefore": format_timestamp(decision.not_before) if decision.not_before is not None else None,
        "reason": decision.reason,
        "attemptsLeft": decision.attempts_left,
    }


def task_view(task: Task) -> TaskView:
    """Return the view of a task."""
    view: TaskView = {
        "executionId": task.execution_id,
        "taskId": task.task_id,
        "status": task.status,
        "attempt": task.attempt,
        "taskExecutionId": current_attempt_id(task),
        "version": task.version,
        "createdAt": format_timestamp(task.created_at),
        "updatedAt": format_timestamp(task.updated_at),
        "retryPolicy": policy_view(task.retry_policy),
        "onFailure": task.on_failure,
    }
    times = {
        "scheduledAt": task.scheduled_at,
        "startedAt": task.started_at,
        "endedAt": task.ended_at,
        "heartbeatAt": task.heartbeat_at,
    }
    others = {
        "progress": task.progress,
        "parentTaskId": task.parent_id,
        "failureReason": task.failure_reason,
        "message": task.message,
        "messageTruncated": task.message_truncated or None,
        "label": task.platform_status,
        "timeoutSeconds": task.timeout_seconds,
        "heartbeatTimeoutSeconds": task.heartbeat_timeout_seconds,
        "queue": task.queue,
        "priority": task.priority,
    }
    timestamps = {name: format_timestamp(value) for name, value in times.items() if value is not None}
    details = {name: value for name, value in others.items() if value is not None}
    return cast("TaskView", {**view, **timestamps, **details})


def reported_task_view(task: Task, attempt: int | None) -> ReportedTaskView:
    """Return the view of a task for the worker of an attempt, whose id opens no other attempt; None for the current."""
    view = cast("ReportedTaskView", task_view(task))
    if attempt_ids().are_required and attempt != task.attempt:
        del view["taskExecutionId"]
    return view


def payload_view(text: str | None) -> dict[str, Any] | None:
    """Return a payload that is stored as JSON text."""
    return json.loads(text) if text is not None else None
