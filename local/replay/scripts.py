"""Scripts of a replay's workers: what each sends, with the outcome that it expects, and the faults that occur.

A `TaskFault` is one way in which the work on a task goes wrong, a `DeliveryFault` one way in which the delivery of a
start or of a success does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from local.replay.trace import Trace, TraceTask

MAX_ATTEMPTS: Final = 4
"""Attempts of a task, unless the plan uses up its retries."""


class ExpectedOutcome(StrEnum):
    """Expected outcome of a request."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    IGNORED_AFTER_SUCCESS = "ignored_after_success"
    STALE_ATTEMPT = "stale_attempt"
    SEALED = "sealed"
    REFUSED = "refused"
    CONTINUE = "continue"
    STOP = "stop"


class DeliveryFault(StrEnum):
    """Fault in the delivery of a start or of a success."""

    START_TWICE = "a start delivered twice"
    START_AFTER_SUCCESS = "a start that arrives after the success"
    START_WITHOUT_ATTEMPT = "a start without an attempt number"
    START_OF_ANOTHER_TASK = "a start with the id of another task's attempt"
    START_OF_UNKNOWN_ATTEMPT = "a start of an attempt that was never opened"
    SUCCESS_TWICE = "a success delivered twice"
    SUCCESS_UNDER_NEW_ID = "a success delivered again with another id"
    FAILURE_AFTER_SUCCESS = "a late failure of the same attempt"
    FAILURE_BY_ID_AFTER_SUCCESS = "a late failure with the attempt's id"
    FAILURE_WITHOUT_ATTEMPT_AFTER_SUCCESS = "a late failure without an attempt number"
    TERMINAL_ERROR_AFTER_SUCCESS = "a late terminal error"
    SUCCESS_WHILE_RETRY_IS_PENDING = "a success while a retry is pending"
    HEARTBEAT_AFTER_SUCCESS = "a heartbeat after the success"


class TaskFault(StrEnum):
    """Fault in the work on a task."""

    FAILS = "fails and is retried"
    FAILS_WITHOUT_REASON = "fails without a reason and is retried"
    IS_RATE_LIMITED = "is rate limited and retried after the requested delay"
    FAILS_TWICE = "fails twice and is retried twice"
    IS_KILLED_BEFORE_START = "its worker is killed before its first report"
    IS_KILLED_WHILE_WORKING = "its worker is killed while it works"
    FAILS_AGAIN_TOO_LATE = "the first attempt fails again after the second was opened"
    REPEATS_ITS_FAILURE = "the first attempt's failure is repeated after the second was opened"
    SUCCEEDS_LATE = "the first attempt succeeds after the second was opened"
    EXHAUSTS_ITS_RETRIES = "fails until its retries are exhausted; the execution continues"
    REPORTS_TERMINAL_ERROR = "reports a terminal error; the execution continues"
    ENTITY_NOT_FOUND = "ENTITY_NOT_FOUND; the execution continues"
    RETRY_LIMIT_EXCEEDED = "RETRY_LIMIT_EXCEEDED; the execution continues"
    NON_RETRYABLE_ERROR = "NON_RETRYABLE_ERROR; the execution continues"
    UNAUTHORIZED = "UNAUTHORIZED; the execution continues"
    AUTH_TOKEN_EXPIRED = "AUTH_TOKEN_EXPIRED; the execution continues"  # noqa: S105 - a reason's name
    AUTH_TOKEN_REVOKED = "AUTH_TOKEN_REVOKED; the execution continues"  # noqa: S105 - a reason's name
    FATAL = "a terminal error that ends the execution"


TERMINAL_REASONS: Final = tuple(task_fault.name for task_fault in TaskFault if task_fault.name in task_fault.value)
"""Failure reasons that are never retried."""


@dataclass(frozen=True, slots=True)
class ScriptedRequest:
    """One request about one attempt.

    Attributes
    ----------
    body
        Request body, without the attempt's id.
    expected
        Expected outcome.
    share
        Due time: the share of the task's running time that has passed since its attempt was received.
    attempt
        Attempt of the request; None if the service cannot derive one from it.
    attempt_ref
        Task and attempt whose `taskExecutionId` is sent along; None for none.
    will_retry
        `willRetry` that the response must have; None if it is not checked.
    """

    task_id: str
    body: dict[str, Any]
    expected: ExpectedOutcome
    share: float = 0.0
    attempt: int | None = None
    attempt_ref: tuple[str, int] | None = None
    will_retry: bool | None = None
    delivery_fault: DeliveryFault | None = None

    @property
    def is_heartbeat(self) -> bool:
        """Return True for a heartbeat, False for a report."""
        return "status" not in self.body


RequestBatch = tuple[ScriptedRequest, ...]
"""Report, heartbeat, or batch of reports."""


@dataclass(frozen=True, slots=True)
class ScriptedAttempt:
    """Script of the worker that receives one attempt from the queue.

    Attributes
    ----------
    requests
        Requests to send, in order.
    is_killed
        True if the worker is dead afterwards: it neither reports nor returns the message.
    """

    requests: tuple[RequestBatch, ...]
    is_killed: bool = False


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """Plan of one task.

    Attributes
    ----------
    attempts
        Scripts of the first attempt, the second and so on.
    ends
        Status in which the service must leave the task, unless the execution ends before.
    continues_on_failure
        True if the execution continues after the task's last attempt has failed.
    timeout_seconds, heartbeat_timeout_seconds
        Maximum silence in addition to the running time; None for no limit. Set only where a worker is killed: on a
        slow machine a normal worker may be slow too.
    """

    task: TraceTask
    attempts: tuple[ScriptedAttempt, ...]
    ends: str = "COMPLETED"
    continues_on_failure: bool = False
    max_attempts: int = MAX_ATTEMPTS
    timeout_seconds: int | None = None
    heartbeat_timeout_seconds: int | None = None
    task_fault: TaskFault | None = None

    @property
    def timed_out(self) -> set[int]:
        """Return the attempts whose workers are killed."""
        return {number for number, attempt in enumerate(self.attempts, 1) if attempt.is_killed}

    @property
    def may_be_timed_out(self) -> bool:
        """Return True if the service may time out a worker of this task, also one that is only slow."""
        return self.timeout_seconds is not None or self.heartbeat_timeout_seconds is not None

    @property
    def scripted_requests(self) -> Iterator[ScriptedRequest]:
        """Yield each request, in order."""
        for attempt in self.attempts:
            for request in attempt.requests:
                yield from request


@dataclass(frozen=True)
class ReplayPlan:
    """Plans of all tasks, and the end of the execution.

    Attributes
    ----------
    fatal
        Task whose failure ends the execution; None if the execution must end COMPLETED.
    """

    trace: Trace
    tasks: tuple[TaskPlan, ...]
    fatal: str | None = None
    faulty_deliveries: int = 0

    @property
    def ends(self) -> str:
        """Return the status in which the service must leave the execution."""
        return "COMPLETED" if self.fatal is None else "FAILED"

    @property
    def faulty_tasks(self) -> int:
        """Return the number of tasks with a fault."""
        return sum(task_plan.task_fault is not None for task_plan in self.tasks)

    @property
    def scripted_requests(self) -> Iterator[ScriptedRequest]:
        """Yield each request, task by task."""
        for task_plan in self.tasks:
            yield from task_plan.scripted_requests


def expected_output(task: TraceTask) -> dict[str, Any]:
    """Return the output that the service must show for a task that is done."""
    return {"runtimeInSeconds": task.runtime_seconds}
