"""The latch: the condition of a write, and the values that it sets.

`TRANSITIONS` is the rule. The DynamoDB condition is rendered from the `ConditionalWrite` that this module derives from
it (`tasklatch.dynamodb.write_expression`), and the tests derive their expectations from it too.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from tasklatch.domain.report import MAX_MESSAGE_CHARACTERS, Report
from tasklatch.domain.status import (
    COMPLETED_PRECEDENCE,
    FINAL_STATUSES,
    SEALED,
    TaskStatus,
    status_precedence,
)
from tasklatch.domain.task import Task

Value = str | int | float | bool


class Transition(NamedTuple):
    """Precondition and effects of one status.

    Attributes
    ----------
    since
        The lowest status that the attempt must have reached: the lower end of the latch. A worker's report needs an
        open attempt, so one that was scheduled.
    timestamp_fields
        The fields that are set to the time of the write.
    clear_fields
        The fields of an earlier status that are no longer true.
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
    "claim",
)

_WAITING: Final = TaskStatus.PENDING
_OPEN: Final = TaskStatus.SCHEDULED
_ENDED: Final = ("ended_at",)

AUTHORSHIP: Final = ("request_id", "reported_by")
"""The fields that a write of the service itself clears: no request and no client is behind it."""

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


class ConditionalWrite(NamedTuple):
    """Condition and values of one write on a task, independent of the store.

    Attributes
    ----------
    attempt
        The attempt that the write is about.
    precedence_from, max_precedence
        The interval of the latch: the write applies only if ``precedence_from <= precedence < max_precedence``. The
        interval contains the attempt too, so that attempts need not be compared.
    precedence
        The task's precedence after the write.
    version
        If set, the write applies only to this version: for a report that names no attempt and so is about the attempt
        that was current when the task was read, or for one that adds to the task that was read.
    values
        The fields to set besides precedence, version and status.
    clear_fields
        The fields to remove.
    closes_task
        True if the write removes the task from the list of open tasks.
    fingerprint
        Fingerprint of the report behind the write; None for a write of the service itself.
    reopens_task
        True if the write returns the task to the list of open tasks.
    is_of_later_version
        True if the write is derived from a task that a later version of the service stored: it is not made.
    keeps_timer
        True if the task's timer still holds after the write. Any other write ends it: a new status needs a new timer.
    queue, priority
        The queue that hands the task out if the write schedules it, and the priority there.
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
    is_of_later_version: bool = False
    keeps_timer: bool = False
    queue: str | None = None
    priority: int | None = None

    @property
    def needs_open_attempt(self) -> bool:
        """True if the write is refused while its attempt is not open."""
        return self.precedence_from > status_precedence(TaskStatus.PENDING, self.attempt)

    def allows(self, task: Task) -> bool:
        """Return True if the condition holds for this task."""
        if task.is_of_later_version:
            return False
        return self.precedence_from <= task.precedence < self.max_precedence and self.version in (None, task.version)

    def on_version(self, version: int) -> "ConditionalWrite":
        """Return the same write on the further condition that the task has a version."""
        return self._replace(version=version)


def write_for_report(
    report: Report, *, now: int, request_id: str, attempt: int | None = None, version: int | None = None
) -> ConditionalWrite:
    """Derive the write for a report.

    Parameters
    ----------
    report
        The report. Its attempt must be known, except for a success: a success of any opened attempt counts, so one
        without an attempt is taken as that of the first.
    now
        Milliseconds since the epoch.
    request_id
        Id of the request, by which its own write is recognised if the response to that write was lost.
    attempt, version
        The current attempt and version as they were read, if the report names no attempt.
    """
    transition = TRANSITIONS[report.status]
    attempt = attempt or report.attempt or 1
    values: dict[str, Value] = {"updated_at": now, **authorship(report, request_id)}
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
        clear_fields=tuple(field for field in (*transition.clear_fields, "reported_by") if field not in values),
        closes_task=report.status in FINAL_STATUSES,
        fingerprint=report.fingerprint,
    )


def authorship(report: Report, request_id: str) -> dict[str, Value]:
    """Return the task fields that tell which request wrote last, and of which client."""
    client: dict[str, Value] = {} if report.reported_by is None else {"reported_by": report.reported_by}
    return {"request_id": request_id, **client}


def report_values(report: Report, attempt: int, *parts: str) -> dict[str, Value]:
    """Return the task fields that hold a report's content.

    Parameters
    ----------
    attempt
        The attempt that the report is about.
    parts
        Names of the parts to return: ``failure``, ``message``, ``platform_status`` or ``output``; all by default.
    """
    is_checkpoint = report.status is TaskStatus.IN_PROGRESS
    output_ref = report.output_ref if report.output is not None else None
    fields: dict[str, dict[str, Value | None]] = {
        "failure": {"failure_reason": report.failure_reason, "retry_after_seconds": report.retry_after_seconds},
        "message": {"message": report.message, "message_truncated": report.message_truncated or None},
        "platform_status": {"platform_status": report.platform_status},
        "output": {
            "output_attempt": output_ref.attempt if output_ref and not is_checkpoint else None,
            "output_fingerprint": output_ref.fingerprint if output_ref and not is_checkpoint else None,
            "checkpoint_attempt": attempt if output_ref and is_checkpoint else None,
            "checkpoint_fingerprint": output_ref.fingerprint if output_ref and is_checkpoint else None,
            "checkpoint_sequence": report.sequence,
        },
    }
    chosen = (values for part, values in fields.items() if not parts or part in parts)
    return {field: value for values in chosen for field, value in values.items() if value is not None}


def _below(status: TaskStatus, attempt: int) -> int:
    """Return the precedence to stay below: the new one, or a success's for a seal, which never replaces a success."""
    return COMPLETED_PRECEDENCE if status in SEALED else status_precedence(status, attempt)


def system_write(task: Task, status: TaskStatus, *, now: int, message: str | None = None) -> ConditionalWrite:
    """Derive a write of the service itself, which schedules, times out or seals a task.

    The service may also seal a task that waits.

    Parameters
    ----------
    task
        The task as it was read. The write applies only to this version, so that a change in between is evaluated
        first.
    status
        The new status.
    now
        Milliseconds since the epoch.
    message
        The reason, cut to `MAX_MESSAGE_CHARACTERS`.
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
        clear_fields=(*(field for field in transition.clear_fields if field not in values), *AUTHORSHIP),
        closes_task=status in FINAL_STATUSES,
        fingerprint=None,
        is_of_later_version=task.is_of_later_version,
        queue=task.queue,
        priority=task.priority,
    )


def unopened_failure_write(task: Task, *, now: int, message: str) -> ConditionalWrite:
    """Derive the write that fails a waiting task for good because its attempt cannot be opened.

    The precedence stays that of a waiting attempt: none was opened, so there is nothing to report on.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    message
        The reason, cut to `MAX_MESSAGE_CHARACTERS`.
    """
    return system_write(task, TaskStatus.FAILED_WITH_TERMINAL_ERROR, now=now, message=message)._replace(
        precedence_from=status_precedence(_WAITING, task.attempt),
        max_precedence=status_precedence(_OPEN, task.attempt),
        precedence=status_precedence(_WAITING, task.attempt),
    )


def next_attempt_write(task: Task, *, now: int) -> ConditionalWrite:
    """Derive the write that opens the next attempt at a task.

    It applies only after a failure that can be retried.

    Parameters
    ----------
    task
        The task as it was read. The write applies only to this version, so only once.
    now
        Milliseconds since the epoch.
    """
    attempt = task.attempt + 1
    return system_write(task, TaskStatus.SCHEDULED, now=now)._replace(
        precedence_from=status_precedence(TaskStatus.TIMED_OUT, task.attempt),
        max_precedence=status_precedence(TaskStatus.FAILED_WITH_TERMINAL_ERROR, task.attempt),
        precedence=status_precedence(TaskStatus.SCHEDULED, attempt),
        values={"updated_at": now, "scheduled_at": now, "attempt": attempt},
    )


def manual_retry_write(task: Task, *, now: int) -> ConditionalWrite:
    """Derive the write that grants a task one more attempt at a person's request.

    This is the only write that may lower the latch: from a cancellation, never from a success. An attempt that was
    never opened is used as the granted one. So every attempt before the waiting one was opened, and the
    interval alone shows that its late success counts.

    Parameters
    ----------
    task
        The task as it was read. The write applies only to this version, so only once.
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
    return system_write(task, TaskStatus.PENDING, now=now)._replace(
        precedence_from=task.precedence,
        max_precedence=task.precedence + 1,
        precedence=status_precedence(TaskStatus.PENDING, attempt),
        values={
            "updated_at": now,
            "attempt": attempt,
            "granted_attempts": attempt - (task.released_attempts or 0),
        },
        reopens_task=True,
    )


def heartbeat_interval(attempt: int) -> tuple[int, int]:
    """Return the precedence interval of a scheduled or running attempt: the lower end, and the upper end (excluded)."""
    return status_precedence(_OPEN, attempt), status_precedence(TaskStatus.TIMED_OUT, attempt)
