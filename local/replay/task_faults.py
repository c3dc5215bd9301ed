"""Attempts of a replay's workers, and the plan that each task fault makes of a task."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from local.replay.delivery_faults import (
    FAULTY_STARTS,
    FAULTY_SUCCESSES,
    TaskScript,
    failure_request,
    start_request,
    success_request,
)
from local.replay.scripts import (
    TERMINAL_REASONS,
    DeliveryFault,
    ExpectedOutcome,
    RequestBatch,
    ScriptedAttempt,
    ScriptedRequest,
    TaskFault,
    TaskPlan,
)
from local.replay.trace import TraceTask

_TWO_ATTEMPTS: Final = 2
_HEARTBEAT_RUNTIME_SECONDS: Final = 30.0
"""Running time from which on a worker sends heartbeats."""

_HEARTBEAT_SHARES: Final = (0.33, 0.67)
_TIMEOUT_SECONDS: Final = 2
_RETRY_AFTER_SECONDS: Final = 2


def _each(*scripted_requests: ScriptedRequest) -> tuple[RequestBatch, ...]:
    return tuple((request,) for request in scripted_requests)


def normal_attempt(task: TraceTask, attempt: int, script: TaskScript | None = None) -> ScriptedAttempt:
    """Return an attempt that succeeds; the script's faults, if any, change the delivery of its start and success."""
    script = script or TaskScript()
    start, success = [start_request(task, attempt)], [success_request(task, attempt)]
    if script.start is not None:
        start = [
            replace(request, delivery_fault=script.start) for request in FAULTY_STARTS[script.start](start[0], script)
        ]
    if script.success is not None:
        faulty_deliveries = FAULTY_SUCCESSES[script.success](success[0], script)
        success = [replace(request, delivery_fault=script.success) for request in faulty_deliveries]
    if script.start is DeliveryFault.START_AFTER_SUCCESS:
        late_request = replace(
            start_request(task, attempt),
            expected=ExpectedOutcome.IGNORED_AFTER_SUCCESS,
            share=1.0,
            delivery_fault=script.start,
        )
        success.append(late_request)
    return ScriptedAttempt(_each(*start, *_heartbeats(task, attempt), *success))


def _heartbeats(task: TraceTask, attempt: int) -> Iterator[ScriptedRequest]:
    if task.runtime_seconds >= _HEARTBEAT_RUNTIME_SECONDS:
        for share in _HEARTBEAT_SHARES:
            attempt_ref = (task.task_id, attempt)
            yield ScriptedRequest(
                task.task_id, {"progress": share}, ExpectedOutcome.CONTINUE, share, attempt, attempt_ref
            )


def _failing(
    task: TraceTask, attempt: int, *, will_retry: bool = True, status: str = "FAILED", **fields: Any
) -> ScriptedAttempt:
    """Return an attempt that starts and fails half way through."""
    started = start_request(task, attempt)
    failed = failure_request(started, ExpectedOutcome.APPLIED, status=status, will_retry=will_retry, **fields)
    return ScriptedAttempt(_each(started, replace(failed, share=0.5)))


def _preceded_by(first_requests: Sequence[ScriptedRequest], attempt: ScriptedAttempt) -> ScriptedAttempt:
    return replace(attempt, requests=(*_each(*first_requests), *attempt.requests))


def plan_task(task: TraceTask, task_fault: TaskFault | None, script: TaskScript) -> TaskPlan:
    """Return the plan of a task with a fault, or without one."""
    if task_fault is None:
        return TaskPlan(task, (normal_attempt(task, 1, script),))
    plan = _TASK_FAULTS[task_fault](task, script)
    return replace(plan, task_fault=task_fault)


def _fails(task: TraceTask, script: TaskScript) -> TaskPlan:
    return TaskPlan(task, (_failing(task, 1, failureReason="RETRYABLE_ERROR"), normal_attempt(task, 2, script)))


def _fails_without_reason(task: TraceTask, script: TaskScript) -> TaskPlan:
    return TaskPlan(task, (_failing(task, 1, message="worker process ended"), normal_attempt(task, 2, script)))


def _is_rate_limited(task: TraceTask, script: TaskScript) -> TaskPlan:
    fields: dict[str, Any] = {"failureReason": "RATE_LIMITED", "retryAfterSeconds": _RETRY_AFTER_SECONDS}
    return TaskPlan(task, (_failing(task, 1, **fields), normal_attempt(task, 2, script)))


def _fails_twice(task: TraceTask, script: TaskScript) -> TaskPlan:
    failing = (
        _failing(task, 1, failureReason="RETRYABLE_ERROR"),
        _failing(task, 2, failureReason="RATE_LIMITED"),
    )
    return TaskPlan(task, (*failing, normal_attempt(task, 3, script)))


def _is_killed_before_start(task: TraceTask, script: TaskScript) -> TaskPlan:
    killed = ScriptedAttempt((), is_killed=True)
    return TaskPlan(task, (killed, normal_attempt(task, 2, script)), timeout_seconds=_TIMEOUT_SECONDS)


def _is_killed_while_working(task: TraceTask, script: TaskScript) -> TaskPlan:
    killed = ScriptedAttempt(_each(start_request(task, 1)), is_killed=True)
    return TaskPlan(task, (killed, normal_attempt(task, 2, script)), heartbeat_timeout_seconds=_TIMEOUT_SECONDS)


def _fails_again_too_late(task: TraceTask, script: TaskScript) -> TaskPlan:
    late_request = failure_request(
        start_request(task, 1),
        ExpectedOutcome.STALE_ATTEMPT,
        failureReason="NON_RETRYABLE_ERROR",
        message="no further attempt",
    )
    first = _failing(task, 1, failureReason="RETRYABLE_ERROR")
    return TaskPlan(task, (first, _preceded_by([late_request], normal_attempt(task, 2, script))))


def _repeats_its_failure(task: TraceTask, script: TaskScript) -> TaskPlan:
    first = _failing(task, 1, failureReason="RETRYABLE_ERROR")
    again = failure_request(start_request(task, 1), ExpectedOutcome.DUPLICATE, failureReason="RETRYABLE_ERROR")
    return TaskPlan(task, (first, _preceded_by([again], normal_attempt(task, 2, script))))


def _succeeds_late(task: TraceTask, _: TaskScript) -> TaskPlan:
    second = (
        success_request(task, 1, share=0.0),
        replace(start_request(task, 2), expected=ExpectedOutcome.IGNORED_AFTER_SUCCESS),
        ScriptedRequest(task.task_id, {"progress": 0}, ExpectedOutcome.STOP, attempt=2, attempt_ref=(task.task_id, 2)),
    )
    return TaskPlan(task, (_failing(task, 1, failureReason="RETRYABLE_ERROR"), ScriptedAttempt(_each(*second))))


def _exhausts_its_retries(task: TraceTask, _: TaskScript) -> TaskPlan:
    failing = (
        _failing(task, 1, failureReason="RETRYABLE_ERROR"),
        _failing(task, 2, failureReason="RETRYABLE_ERROR", will_retry=False),
    )
    return TaskPlan(task, failing, "COMPLETED_WITH_ERRORS", continues_on_failure=True, max_attempts=_TWO_ATTEMPTS)


def _reports_terminal_error(task: TraceTask, _: TaskScript) -> TaskPlan:
    failing = _failing(task, 1, status="FAILED_WITH_TERMINAL_ERROR", will_retry=False)
    return TaskPlan(task, (failing,), "COMPLETED_WITH_ERRORS", continues_on_failure=True)


def _gives_up(reason: str) -> Callable[[TraceTask, TaskScript], TaskPlan]:
    def plan(task: TraceTask, _: TaskScript) -> TaskPlan:
        failing = _failing(task, 1, failureReason=reason, will_retry=False)
        return TaskPlan(task, (failing,), "COMPLETED_WITH_ERRORS", continues_on_failure=True)

    return plan


def _is_fatal(task: TraceTask, script: TaskScript) -> TaskPlan:
    failing = _failing(task, 1, failureReason=script.reason, will_retry=False)
    return TaskPlan(task, (failing,), "FAILED_WITH_TERMINAL_ERROR")


_TASK_FAULTS: Final[dict[TaskFault, Callable[[TraceTask, TaskScript], TaskPlan]]] = {
    TaskFault.FAILS: _fails,
    TaskFault.FAILS_WITHOUT_REASON: _fails_without_reason,
    TaskFault.IS_RATE_LIMITED: _is_rate_limited,
    TaskFault.FAILS_TWICE: _fails_twice,
    TaskFault.IS_KILLED_BEFORE_START: _is_killed_before_start,
    TaskFault.IS_KILLED_WHILE_WORKING: _is_killed_while_working,
    TaskFault.FAILS_AGAIN_TOO_LATE: _fails_again_too_late,
    TaskFault.REPEATS_ITS_FAILURE: _repeats_its_failure,
    TaskFault.SUCCEEDS_LATE: _succeeds_late,
    TaskFault.EXHAUSTS_ITS_RETRIES: _exhausts_its_retries,
    TaskFault.REPORTS_TERMINAL_ERROR: _reports_terminal_error,
    **{TaskFault[reason]: _gives_up(reason) for reason in TERMINAL_REASONS},
    TaskFault.FATAL: _is_fatal,
}

WITHOUT_SUCCESS: Final = frozenset(
    {
        TaskFault.SUCCEEDS_LATE,
        TaskFault.EXHAUSTS_ITS_RETRIES,
        TaskFault.REPORTS_TERMINAL_ERROR,
        *(TaskFault[reason] for reason in TERMINAL_REASONS),
        TaskFault.FATAL,
    }
)
"""Faults without a success of the current attempt: no start and no success whose delivery could go wrong."""
