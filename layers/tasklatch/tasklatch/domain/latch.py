"""The latch: what a write needs to be true, what it sets, and what it means when it was not let through.

`TRANSITIONS` is the rule; the DynamoDB condition is rendered from the `Latch` that this module makes of it
(`tasklatch.aws.latch_expression`), and the tests derive what they expect from it too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from tasklatch.domain.errors import AttemptNeverOpenedError
from tasklatch.domain.report import MAX_MESSAGE_CHARACTERS, Report, Verdict
from tasklatch.domain.status import (
    CLOSING,
    COMPLETED_PRECEDENCE,
    FAILURES,
    SEALED,
    SEALED_PRECEDENCE,
    TaskStatus,
    precedence_of,
)
from tasklatch.domain.task import Task

Value = str | int | float | bool


class Attempt(Enum):
    """Which attempt the task must be at for a write to be let through."""

    EXACTLY = auto()
    AT_LEAST = auto()


@dataclass(frozen=True, slots=True)
class Transition:
    """What one status needs and does.

    Attributes
    ----------
    attempt
        How the attempt that is spoken about must compare with the one the task is at.
    stamps
        The times that are set to the moment of the write.
    clears
        What an earlier status left that is no longer true.
    """

    attempt: Attempt
    stamps: tuple[str, ...]
    clears: tuple[str, ...]


_SAID_BEFORE: Final = ("failure_reason", "message", "message_truncated", "retry_after_seconds", "label")
_OUTPUT: Final = ("output_attempt", "output_fingerprint")
_LAST_ATTEMPT: Final = (*_SAID_BEFORE, "started_at", "ended_at", "heartbeat_at", "progress")

TRANSITIONS: Final[Mapping[TaskStatus, Transition]] = MappingProxyType(
    {
        TaskStatus.PENDING: Transition(Attempt.EXACTLY, (), (*_LAST_ATTEMPT, "scheduled_at")),
        TaskStatus.SCHEDULED: Transition(Attempt.EXACTLY, ("scheduled_at",), _LAST_ATTEMPT),
        TaskStatus.TIMED_OUT: Transition(Attempt.EXACTLY, ("ended_at",), (*_SAID_BEFORE, *_OUTPUT)),
        TaskStatus.CANCELED: Transition(Attempt.EXACTLY, ("ended_at",), ()),
        TaskStatus.SKIPPED: Transition(Attempt.EXACTLY, ("ended_at",), ()),
        TaskStatus.COMPLETED_WITH_ERRORS: Transition(Attempt.EXACTLY, (), ()),
        TaskStatus.IN_PROGRESS: Transition(Attempt.EXACTLY, ("started_at",), (*_SAID_BEFORE, "ended_at", "progress")),
        TaskStatus.FAILED: Transition(Attempt.EXACTLY, ("ended_at",), (*_SAID_BEFORE, *_OUTPUT)),
        TaskStatus.FAILED_WITH_TERMINAL_ERROR: Transition(Attempt.EXACTLY, ("ended_at",), (*_SAID_BEFORE, *_OUTPUT)),
        TaskStatus.COMPLETED: Transition(Attempt.AT_LEAST, ("ended_at",), (*_SAID_BEFORE, *_OUTPUT)),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latch:
    """One conditional write on a task, before it is put into the words of any store.

    Attributes
    ----------
    attempt
        The attempt it speaks about.
    compare
        How that must compare with the task's own.
    precedence
        What the task's precedence is raised to; the write is let through only if it was lower.
    version
        Where given, the write is let through only on this version: for a report that names no attempt and so
        speaks about the one that was current when it was read, or that adds to what was read.
    values
        The fields that are set besides precedence, version and status.
    clears
        The fields that are removed.
    closes
        Whether the task leaves the list of open ones.
    below
        What the task's precedence must be below, where that is less than what it is raised to.
    reopens
        Whether it comes back to it, whatever the precedence that was read.
    fingerprint
        Of the report that asks for the write; None where the service itself does.
    """

    task_id: str
    status: TaskStatus
    attempt: int
    compare: Attempt
    precedence: int
    version: int | None
    values: Mapping[str, Value]
    clears: tuple[str, ...]
    closes: bool
    fingerprint: str | None
    below: int | None = None
    reopens: bool = False

    @property
    def ceiling(self) -> int:
        """What the task's precedence must be below."""
        return self.precedence if self.below is None else self.below

    def lets_through(self, task: Task) -> bool:
        """Whether the condition holds on this task."""
        attempt_fits = self.attempt == task.attempt if self.compare is Attempt.EXACTLY else self.attempt <= task.attempt
        version_fits = self.version is None or self.version == task.version
        return attempt_fits and version_fits and (self.reopens or task.precedence < self.ceiling)


def latch_of(
    report: Report, *, now: int, receipt: str, attempt: int | None = None, version: int | None = None
) -> Latch:
    """Derive the write that a report asks for.

    Parameters
    ----------
    report
        What was said. Its attempt must be known, except for a success: a success of any attempt that was opened
        stands, so one that names none is taken as the first's.
    now
        Milliseconds since the epoch.
    receipt
        Names this request, so that its own write is recognised if the answer to it was lost.
    attempt, version
        The current ones, as they were read, where the report names no attempt.
    """
    transition = TRANSITIONS[report.status]
    attempt = attempt or report.attempt or 1
    values: dict[str, Value] = {"updated_at": now, "receipt": receipt}
    values.update(dict.fromkeys(transition.stamps, now))
    if report.status is not TaskStatus.IN_PROGRESS:
        values["outcome"] = report.fingerprint
    if report.failure_reason is not None:
        values["failure_reason"] = report.failure_reason
    if report.message is not None:
        values["message"] = report.message
    if report.message_truncated:
        values["message_truncated"] = True
    if report.retry_after_seconds is not None:
        values["retry_after_seconds"] = report.retry_after_seconds
    if report.label is not None:
        values["label"] = report.label
    if report.output is not None:
        values["output_attempt"] = report.attempt or 0
        values["output_fingerprint"] = report.fingerprint
    return Latch(
        task_id=report.task_id,
        status=report.status,
        attempt=attempt,
        compare=transition.attempt,
        precedence=precedence_of(report.status, attempt),
        version=version,
        values=values,
        clears=tuple(field for field in transition.clears if field not in values),
        closes=report.status in CLOSING,
        fingerprint=report.fingerprint,
        # A seal is for a task that is still open: it must never cover a success.
        below=COMPLETED_PRECEDENCE if report.status in SEALED else None,
    )


def service_latch(task: Task, status: TaskStatus, *, now: int, message: str | None = None) -> Latch:
    """Derive a write that the service itself makes: schedule, time out or seal a task that was read.

    Only scheduling needs no more than the latch; all else holds only for the very version that was read, so that
    whatever happens to the task in between is looked at first.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    message
        Why.
    """
    transition = TRANSITIONS[status]
    values: dict[str, Value] = {"updated_at": now, **dict.fromkeys(transition.stamps, now)}
    if message is not None:
        values["message"] = message[:MAX_MESSAGE_CHARACTERS]
    return Latch(
        task_id=task.task_id,
        status=status,
        attempt=task.attempt,
        compare=transition.attempt,
        precedence=precedence_of(status, task.attempt),
        version=None if status is TaskStatus.SCHEDULED else task.version,
        values=values,
        clears=(*(field for field in transition.clears if field not in values), "receipt"),
        closes=status in CLOSING,
        fingerprint=None,
    )


def next_attempt_latch(task: Task, *, now: int) -> Latch:
    """Derive the write that opens the next attempt at a task that was read: on that version alone, so only once.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    """
    attempt = task.attempt + 1
    return replace(
        service_latch(task, TaskStatus.SCHEDULED, now=now),
        precedence=precedence_of(TaskStatus.SCHEDULED, attempt),
        version=task.version,
        values={"updated_at": now, "scheduled_at": now, "attempt": attempt},
    )


def reopen_latch(task: Task, *, now: int) -> Latch:
    """Derive the write by which a person gives a task one more attempt: on the version that was read, so only once.

    It is the one write that may lower the latch, from a cancellation; never from a success.

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
    attempt = task.attempt + 1
    return replace(
        service_latch(task, TaskStatus.PENDING, now=now),
        precedence=precedence_of(TaskStatus.PENDING, attempt),
        version=task.version,
        values={"updated_at": now, "attempt": attempt, "granted_attempts": attempt},
        reopens=True,
    )


def judge(latch: Latch, found: Task) -> Verdict:
    """Say why a write was not let through, from the task that was found in its way.

    Raises
    ------
    AttemptNeverOpenedError
        If the report speaks about an attempt that the service has not opened.
    """
    if found.receipt == latch.values.get("receipt"):
        # The write did take effect; only the answer to it was lost on the way and the request sent again.
        return Verdict.APPLIED
    if latch.attempt > found.attempt:
        raise AttemptNeverOpenedError(
            latch.task_id,
            f"attempt {latch.attempt} was never opened: the current one is {found.attempt}",
        )
    if found.precedence >= SEALED_PRECEDENCE:
        return Verdict.SEALED
    if found.status is TaskStatus.COMPLETED:
        return Verdict.DUPLICATE if latch.status is TaskStatus.COMPLETED else Verdict.IGNORED_AFTER_SUCCESS
    if latch.attempt < found.attempt and latch.fingerprint != found.outcome:
        return Verdict.STALE_ATTEMPT
    # The ledger knows as much about this attempt already, or more.
    return Verdict.DUPLICATE


def prevented_overwrite(report_status: TaskStatus, verdict: Verdict) -> bool:
    """Whether a failure was kept from overwriting a success: the event this service exists to prevent."""
    return verdict is Verdict.IGNORED_AFTER_SUCCESS and report_status in FAILURES
