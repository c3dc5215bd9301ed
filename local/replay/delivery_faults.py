"""Requests of a replay's workers, and the requests that each delivery fault makes of a start or a success.

The expected outcomes come from the service's promises, not from its code: a replay checks both.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from local.replay.scripts import DeliveryFault, ExpectedOutcome, ScriptedRequest, expected_output
from local.replay.trace import TraceTask

_UNOPENED_ATTEMPT: Final = 99
"""Number above the attempts of every retry policy here."""

_LONG_DELAY_SECONDS: Final = 60
"""Delay, in seconds, after which a retry is still pending when the next request is sent."""


@dataclass(frozen=True, slots=True)
class TaskScript:
    """Choices that the seed makes for one task."""

    other_task: str = ""
    new_id: str = ""
    start: DeliveryFault | None = None
    success: DeliveryFault | None = None
    reason: str = ""


def start_request(task: TraceTask, attempt: int) -> ScriptedRequest:
    """Return the report that an attempt has started."""
    body = {"status": "IN_PROGRESS"}
    return ScriptedRequest(
        task.task_id, body, ExpectedOutcome.APPLIED, attempt=attempt, attempt_ref=(task.task_id, attempt)
    )


def success_request(task: TraceTask, attempt: int, share: float = 1.0) -> ScriptedRequest:
    """Return the report that an attempt has succeeded."""
    body = {"status": "COMPLETED", "output": expected_output(task)}
    return ScriptedRequest(task.task_id, body, ExpectedOutcome.APPLIED, share, attempt, (task.task_id, attempt))


def failure_request(
    request: ScriptedRequest,
    expected: ExpectedOutcome,
    *,
    status: str = "FAILED",
    will_retry: bool | None = None,
    **fields: Any,
) -> ScriptedRequest:
    """Return a failure of the attempt of another request, due at the same time."""
    return replace(request, body={"status": status, **fields}, expected=expected, will_retry=will_retry)


def _with_attempt_number(request: ScriptedRequest) -> ScriptedRequest:
    """Return the request with the attempt's number instead of its id."""
    return replace(request, body={**request.body, "attempt": request.attempt}, attempt_ref=None)


def _without_attempt_id(request: ScriptedRequest) -> ScriptedRequest:
    """Return the request without an attempt; the service takes it for the current one."""
    return replace(request, attempt_ref=None)


def _start_twice(start: ScriptedRequest, _: TaskScript) -> list[ScriptedRequest]:
    return [start, replace(_with_attempt_number(start), expected=ExpectedOutcome.DUPLICATE)]


def _start_without_attempt(start: ScriptedRequest, _: TaskScript) -> list[ScriptedRequest]:
    return [_without_attempt_id(start)]


def _start_of_another_task(start: ScriptedRequest, script: TaskScript) -> list[ScriptedRequest]:
    return [replace(start, attempt_ref=(script.other_task, 1), expected=ExpectedOutcome.REFUSED), start]


def _start_of_unknown_attempt(start: ScriptedRequest, _: TaskScript) -> list[ScriptedRequest]:
    return [
        replace(_with_attempt_number(replace(start, attempt=_UNOPENED_ATTEMPT)), expected=ExpectedOutcome.REFUSED),
        start,
    ]


def _start_after_success(_: ScriptedRequest, __: TaskScript) -> list[ScriptedRequest]:
    return []  # sent after the success: see `normal_attempt`


def _success_twice(success: ScriptedRequest, _: TaskScript) -> list[ScriptedRequest]:
    return [success, replace(_with_attempt_number(success), expected=ExpectedOutcome.DUPLICATE)]


def _success_under_new_id(success: ScriptedRequest, script: TaskScript) -> list[ScriptedRequest]:
    body = {**success.body, "taskExecutionId": script.new_id}
    return [success, replace(success, body=body, expected=ExpectedOutcome.DUPLICATE, attempt=None, attempt_ref=None)]


def _failure_after_success(success: ScriptedRequest, _: TaskScript) -> list[ScriptedRequest]:
    message = "the lease expired before the response arrived"
    return [
        success,
        _with_attempt_number(failure_request(success, ExpectedOutcome.IGNORED_AFTER_SUCCESS, message=message)),
    ]


def _failure_by_id_after_success(success: ScriptedRequest, _: TaskScript) -> list[ScriptedRequest]:
    return [success, failure_request(success, ExpectedOutcome.IGNORED_AFTER_SUCCESS, failureReason="RATE_LIMITED")]


def _failure_without_attempt_after_success(success: ScriptedRequest, _: TaskScript) -> list[ScriptedRequest]:
    late_request = failure_request(success, ExpectedOutcome.IGNORED_AFTER_SUCCESS, failureReason="RETRYABLE_ERROR")
    return [success, replace(_without_attempt_id(late_request), attempt=None)]


def _terminal_error_after_success(success: ScriptedRequest, _: TaskScript) -> list[ScriptedRequest]:
    # The same twice: it is ignored twice, and stored once.
    late_request = failure_request(success, ExpectedOutcome.IGNORED_AFTER_SUCCESS, status="FAILED_WITH_TERMINAL_ERROR")
    return [success, late_request, late_request]


def _success_while_retry_is_pending(success: ScriptedRequest, _: TaskScript) -> list[ScriptedRequest]:
    fields: dict[str, Any] = {"failureReason": "RETRYABLE_ERROR", "retryAfterSeconds": _LONG_DELAY_SECONDS}
    first = failure_request(success, ExpectedOutcome.APPLIED, will_retry=True, **fields)
    again = failure_request(success, ExpectedOutcome.DUPLICATE, failureReason="RATE_LIMITED")
    return [first, again, success]


def _heartbeat_after_success(success: ScriptedRequest, _: TaskScript) -> list[ScriptedRequest]:
    return [success, replace(success, body={"progress": 1}, expected=ExpectedOutcome.STOP)]


_ApplyFault = Callable[[ScriptedRequest, TaskScript], list[ScriptedRequest]]

FAULTY_STARTS: Final[dict[DeliveryFault, _ApplyFault]] = {
    DeliveryFault.START_TWICE: _start_twice,
    DeliveryFault.START_AFTER_SUCCESS: _start_after_success,
    DeliveryFault.START_WITHOUT_ATTEMPT: _start_without_attempt,
    DeliveryFault.START_OF_ANOTHER_TASK: _start_of_another_task,
    DeliveryFault.START_OF_UNKNOWN_ATTEMPT: _start_of_unknown_attempt,
}
"""Requests, with expected outcomes, that each fault makes of a start."""

FAULTY_SUCCESSES: Final[dict[DeliveryFault, _ApplyFault]] = {
    DeliveryFault.FAILURE_AFTER_SUCCESS: _failure_after_success,
    DeliveryFault.SUCCESS_TWICE: _success_twice,
    DeliveryFault.SUCCESS_WHILE_RETRY_IS_PENDING: _success_while_retry_is_pending,
    DeliveryFault.SUCCESS_UNDER_NEW_ID: _success_under_new_id,
    DeliveryFault.FAILURE_BY_ID_AFTER_SUCCESS: _failure_by_id_after_success,
    DeliveryFault.TERMINAL_ERROR_AFTER_SUCCESS: _terminal_error_after_success,
    DeliveryFault.FAILURE_WITHOUT_ATTEMPT_AFTER_SUCCESS: _failure_without_attempt_after_success,
    DeliveryFault.HEARTBEAT_AFTER_SUCCESS: _heartbeat_after_success,
}
"""Requests, with expected outcomes, that each fault makes of a success."""
