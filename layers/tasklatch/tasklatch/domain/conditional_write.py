"""The latch: what a write needs to be true, what it sets, and what it means when it was not let through.

`TRANSITIONS` is the rule; the DynamoDB condition is rendered from the `Latch` that this module makes of it
(`tasklatch.dynamodb.write_expression`), and the tests derive what they expect from it too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from tasklatch.domain.errors import AttemptNotOpenError
from tasklatch.domain.report import MAX_MESSAGE_CHARACTERS, Report, Verdict
from tasklatch.domain.status import (
    COMPLETED_PRECEDENCE,
    FAILURES,
    FINAL_STATUSES,
    SEALED,
    SEALED_PRECEDENCE,
    TaskStatus,
    status_precedence,
)
from tasklatch.domain.task import Task

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Transition:
    """What one status needs and does.

    Attributes
    ----------
    since
        The least that the attempt must have come to: the lower end of the latch. What a worker says needs an attempt
        that is open, so one that was scheduled.
    stamps
        The times that are set to the moment of the write.
    clears
        What an earlier status left that is no longer true.
    """

    since: TaskStatus
    timestamp_fields: tuple[str, ...]
    clear_fields: tuple[str, ...]


_REPORT_FIELDS: Final = ("failure_reason", "message", "message_truncated", "retry_after_seconds", "platform_status")
_OUTPUT: Final = ("output_attempt", "output_fingerprint")
_LAST_ATTEMPT: Final = (
    *_REPORT_FIELDS,
    *_OUTPUT,
    "started_at",
    "ended_at",
    "heartbeat_at",
    "progress",
    "checkpoint_sequence",
)

_WAITING: Final = TaskStatus.PENDING
_OPEN: Final = TaskStatus.SCHEDULED
_ENDED: Final = ("ended_at",)

TRANSITIONS: Final[Mapping[TaskStatus, Transition]] = MappingProxyType(
    {
        TaskStatus.PENDING: Transition(_WAITING, (), (*_LAST_ATTEMPT, "scheduled_at")),
        TaskStatus.SCHEDULED: Transition(_WAITING, ("scheduled_at",), _LAST_ATTEMPT),
        TaskStatus.IN_PROGRESS: Transition(_OPEN, ("started_at",), (*_REPORT_FIELDS, "ended_at")),
        TaskStatus.TIMED_OUT: Transition(_OPEN, _ENDED, _REPORT_FIELDS),
        TaskStatus.FAILED: Transition(_OPEN, _ENDED, _REPORT_FIELDS),
        TaskStatus.FAILED_WITH_TERMINAL_ERROR: Transition(_OPEN, _ENDED, _REPORT_FIELDS),
        TaskStatus.COMPLETED: Transition(_OPEN, _ENDED, (*_REPORT_FIELDS, *_OUTPUT)),
        TaskStatus.CANCELED: Transition(_OPEN, _ENDED, ()),
        TaskStatus.SKIPPED: Transition(_OPEN, _ENDED, ()),
        TaskStatus.COMPLETED_WITH_ERRORS: Transition(_OPEN, (), ()),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionalWrite:
    """One conditional write on a task, before it is put into the words of any store.

    Attributes
    ----------
    attempt
        The attempt it speaks about.
    lowest, below
        The interval that the latch is: the write is let through only where ``lowest <= precedence < below``. The
        interval carries the attempt too, so that attempts need not be compared.
    precedence
        What the task's precedence becomes.
    version
        Where given, the write is let through only on this version: for a report that names no attempt and so
        speaks about the one that was current when it was read, or that adds to what was read.
    values
        The fields that are set besides precedence, version and status.
    clears
        The fields that are removed.
    closes
        Whether the task leaves the list of open ones.
    reopens
        Whether it comes back to it.
    fingerprint
        Of the report that asks for the write; None where the service itself does.
    """

    task_id: str
    status: TaskStatus
    attempt: int
    precedence_from: int
    max_precedence: int
    precedence: int
    version: int | None
    values: Mapping[str, Value]
    clear_fields: tuple[str, ...]
    closes_task: bool
    fingerprint: str | None
    reopens_task: bool = False

    @property
    def needs_open_attempt(self) -> bool:
        """Whether it is refused while its attempt is not open."""
        return self.precedence_from > status_precedence(TaskStatus.PENDING, self.attempt)

    def allows(self, task: Task) -> bool:
        """Whether the condition holds on this task."""
        return self.precedence_from <= task.precedence < self.max_precedence and self.version in (None, task.version)


def write_for_report(
    report: Report, *, now: int, request_id: str, attempt: int | None = None, version: int | None = None
) -> ConditionalWrite:
    """Derive the write that a report asks for.

    Parameters
    ----------
    report
        What was said. Its attempt must be known, except for a success: a success of any attempt that was opened
        stands, so one that names none is taken as the first's.
    now
        Milliseconds since the epoch.
    request_id
        Names this request, so that its own write is recognised if the answer to it was lost.
    attempt, version
        The current ones, as they were read, where the report names no attempt.
    """
    transition = TRANSITIONS[report.status]
    attempt = attempt or report.attempt or 1
    values: dict[str, Value] = {"updated_at": now, "request_id": request_id}
    values.update(dict.fromkeys(transition.timestamp_fields, now))
    if report.status is not TaskStatus.IN_PROGRESS:
        values["outcome"] = report.fingerprint
    if report.status is TaskStatus.COMPLETED and report.attempt is not None:
        values["decided_attempt"] = report.attempt
    values.update(report_values(report, attempt))
    return ConditionalWrite(
        task_id=report.task_id,
        status=report.status,
        attempt=attempt,
        precedence_from=status_precedence(transition.since, attempt),
        max_precedence=_below(report.status, attempt),
        precedence=status_precedence(report.status, attempt),
        version=version,
        values=values,
        clear_fields=tuple(field for field in transition.clear_fields if field not in values),
        closes_task=report.status in FINAL_STATUSES,
        fingerprint=report.fingerprint,
    )


def report_values(report: Report, attempt: int, *parts: str) -> dict[str, Value]:
    """The fields of a task that hold what a report carries.

    Parameters
    ----------
    attempt
        The attempt it speaks about.
    parts
        Which of them: ``output``, ``message`` or ``label``; all where none is named.
    """
    is_checkpoint = report.status is TaskStatus.IN_PROGRESS
    index = report.output_place if report.output is not None else None
    fields: dict[str, dict[str, Value | None]] = {
        "failure": {"failure_reason": report.failure_reason, "retry_after_seconds": report.retry_after_seconds},
        "message": {"message": report.message, "message_truncated": report.message_truncated or None},
        "platform_status": {"platform_status": report.platform_status},
        "output": {
            "output_attempt": index.attempt if index and not is_checkpoint else None,
            "output_fingerprint": index.fingerprint if index and not is_checkpoint else None,
            "checkpoint_attempt": attempt if index and is_checkpoint else None,
            "checkpoint_fingerprint": index.fingerprint if index and is_checkpoint else None,
            "checkpoint_sequence": report.sequence,
        },
    }
    chosen = (values for part, values in fields.items() if not parts or part in parts)
    return {field: value for values in chosen for field, value in values.items() if value is not None}


def _below(status: TaskStatus, attempt: int) -> int:
    """What the precedence must be below: what it is raised to, but for a seal, which must never cover a success."""
    return COMPLETED_PRECEDENCE if status in SEALED else status_precedence(status, attempt)


def system_write(task: Task, status: TaskStatus, *, now: int, message: str | None = None) -> ConditionalWrite:
    """Derive a write that the service itself makes: schedule, time out or seal a task that was read.

    It holds only for the very version that was read, so that whatever happens to the task in between is looked at
    first. The service may also seal a task that waits.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    message
        Why.
    """
    transition = TRANSITIONS[status]
    values: dict[str, Value] = {"updated_at": now, **dict.fromkeys(transition.timestamp_fields, now)}
    if message is not None:
        values["message"] = message[:MAX_MESSAGE_CHARACTERS]
    return ConditionalWrite(
        task_id=task.task_id,
        status=status,
        attempt=task.attempt,
        precedence_from=status_precedence(_WAITING if status in SEALED else transition.since, task.attempt),
        max_precedence=_below(status, task.attempt),
        precedence=status_precedence(status, task.attempt),
        version=task.version,
        values=values,
        clear_fields=(*(field for field in transition.clear_fields if field not in values), "request_id"),
        closes_task=status in FINAL_STATUSES,
        fingerprint=None,
    )


def unopened_failure_write(task: Task, *, now: int, message: str) -> ConditionalWrite:
    """Derive the write by which a task that waits fails for good, as its attempt cannot be opened.

    The precedence stays that of an attempt that waits: none was opened, so there is nothing to report on.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    message
        Why.
    """
    return replace(
        system_write(task, TaskStatus.FAILED_WITH_TERMINAL_ERROR, now=now, message=message),
        precedence_from=status_precedence(_WAITING, task.attempt),
        max_precedence=status_precedence(_OPEN, task.attempt),
        precedence=status_precedence(_WAITING, task.attempt),
    )


def next_attempt_write(task: Task, *, now: int) -> ConditionalWrite:
    """Derive the write that opens the next attempt at a task that was read.

    It holds on that version alone, so only once, and only after a failure that can be retried.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    """
    attempt = task.attempt + 1
    return replace(
        system_write(task, TaskStatus.SCHEDULED, now=now),
        precedence_from=status_precedence(TaskStatus.TIMED_OUT, task.attempt),
        max_precedence=status_precedence(TaskStatus.FAILED_WITH_TERMINAL_ERROR, task.attempt),
        precedence=status_precedence(TaskStatus.SCHEDULED, attempt),
        values={"updated_at": now, "scheduled_at": now, "attempt": attempt},
    )


def manual_retry_write(task: Task, *, now: int) -> ConditionalWrite:
    """Derive the write by which a person gives a task one more attempt: on what was read alone, so only once.

    It is the one write that may lower the latch, from a cancellation; never from a success. An attempt that was never
    opened is not spent: it is the one that is granted. So whatever attempt there was before the one that waits was
    open once, and the interval alone tells that a late success of it counts.

    Parameters
    ----------
    now
        Milliseconds since the epoch.

    Raises
    ------
    ValueError
        If the task has succeeded.
    """
    if task.status is TaskStatus.COMPLETED:
        raise ValueError("a success is final")
    attempt = task.opened_attempts + 1
    return replace(
        system_write(task, TaskStatus.PENDING, now=now),
        precedence_from=task.precedence,
        max_precedence=task.precedence + 1,
        precedence=status_precedence(TaskStatus.PENDING, attempt),
        values={"updated_at": now, "attempt": attempt, "granted_attempts": attempt},
        reopens_task=True,
    )


def heartbeat_interval(attempt: int) -> tuple[int, int]:
    """The interval of precedence in which an attempt is under way: from where to below what."""
    return status_precedence(_OPEN, attempt), status_precedence(TaskStatus.TIMED_OUT, attempt)


def check_opened(task: Task, attempt: int) -> None:
    """Check that an attempt at a task was opened, whatever became of it.

    Raises
    ------
    AttemptNotOpenError
        If it was not: the task waits, or there was no such attempt.
    """
    if attempt > task.attempt:
        raise AttemptNotOpenError(f"attempt {attempt} is not open: the current attempt is {task.attempt}", task.task_id)
    if attempt > task.opened_attempts:
        why = "the task waits" if task.status is TaskStatus.PENDING else f"the task is {task.status}"
        raise AttemptNotOpenError(f"attempt {attempt} is not open: {why}", task.task_id)


def attempt_spoken_of(report: Report, current: Task) -> int:
    """The attempt that a report speaks about; of a success that names none, any that was opened will do."""
    return report.attempt or (1 if report.status is TaskStatus.COMPLETED else current.attempt)


def is_open_to(report: Report, current: Task) -> bool:
    """Whether the attempt that a report speaks about was opened."""
    return attempt_spoken_of(report, current) <= current.opened_attempts


def decide_verdict(write: ConditionalWrite, task: Task) -> Verdict:
    """Say why a write was not let through, from the task that was found in its way.

    Raises
    ------
    AttemptNotOpenError
        If the report speaks about an attempt that is not open.
    """
    if task.request_id == write.values.get("request_id"):
        # The write did take effect; only the answer to it was lost on the way and the request sent again.
        return Verdict.APPLIED
    if write.needs_open_attempt:
        check_opened(task, write.attempt)
    if task.precedence >= SEALED_PRECEDENCE:
        return Verdict.SEALED
    if task.status is TaskStatus.COMPLETED:
        return Verdict.DUPLICATE if write.status is TaskStatus.COMPLETED else Verdict.IGNORED_AFTER_SUCCESS
    if write.attempt < task.attempt and write.fingerprint != task.outcome:
        return Verdict.STALE_ATTEMPT
    # The ledger knows as much about this attempt already, or more.
    return Verdict.DUPLICATE


def prevented_overwrite(report_status: TaskStatus, verdict: Verdict) -> bool:
    """Whether a failure was kept from overwriting a success: the event this service exists to prevent."""
    return verdict is Verdict.IGNORED_AFTER_SUCCESS and report_status in FAILURES
