"""Verdicts on reports that did not apply, and the check that a report is about an opened attempt."""

from tasklatch.domain.conditional_write import ConditionalWrite
from tasklatch.domain.errors import AttemptNotOpenError, ConflictError
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.status import FAILURES, SEALED_PRECEDENCE, TaskStatus
from tasklatch.domain.task import Task


def check_form(task: Task) -> None:
    """Check that this version of the service can decide on a task.

    Raises
    ------
    ConflictError
        If a later version stored it: only that version knows what follows.
    """
    if task.is_of_later_version:
        raise ConflictError(
            f"task {task.task_id!r} is {task.status}, stored by a later version of the service: send this again to that"
        )


def check_opened(task: Task, attempt: int) -> None:
    """Check that an attempt at a task was opened, regardless of its outcome.

    Raises
    ------
    AttemptNotOpenError
        If it was not: the task waits, failed or was sealed before the attempt opened, or there is no such attempt.
    """
    if attempt > task.attempt:
        raise AttemptNotOpenError(f"attempt {attempt} is not open: the current attempt is {task.attempt}", task.task_id)
    if attempt > task.opened_attempts:
        reason = "the task waits" if task.status is TaskStatus.PENDING else f"the task is {task.status}"
        raise AttemptNotOpenError(f"attempt {attempt} is not open: {reason}", task.task_id)


def reported_attempt(report: Report, current: Task) -> int:
    """Return a report's attempt; for a success without one the first, as one opened attempt is enough for a success."""
    return report.attempt or (1 if report.status is TaskStatus.COMPLETED else current.attempt)


def is_on_opened_attempt(report: Report, current: Task) -> bool:
    """Return True if the attempt that a report is about was opened."""
    return reported_attempt(report, current) <= current.opened_attempts


def decide_verdict(write: ConditionalWrite, task: Task) -> Verdict:
    """Return the verdict on a write whose condition failed.

    Parameters
    ----------
    write
        The write.
    task
        The task that it did not match.

    Raises
    ------
    AttemptNotOpenError
        If the write is about an attempt that is not open.
    ConflictError
        If a later version of the service stored the task.
    """
    if task.request_id == write.values.get("request_id"):
        # The write took effect: only its response was lost, and the request was sent again.
        return Verdict.APPLIED
    check_form(task)
    if write.needs_open_attempt:
        check_opened(task, write.attempt)
    if task.precedence >= SEALED_PRECEDENCE:
        return Verdict.SEALED
    if task.status is TaskStatus.COMPLETED:
        return Verdict.DUPLICATE if write.status is TaskStatus.COMPLETED else Verdict.IGNORED_AFTER_SUCCESS
    if write.attempt < task.attempt and write.fingerprint != task.outcome:
        return Verdict.STALE_ATTEMPT
    # The ledger already has this status of the attempt, or a later one.
    return Verdict.DUPLICATE


def prevented_overwrite(report_status: TaskStatus, verdict: Verdict) -> bool:
    """Return True if a failure would have overwritten a success: the event that this service exists to prevent."""
    return verdict is Verdict.IGNORED_AFTER_SUCCESS and report_status in FAILURES
