"""The write of a report: derived from the task where that was read, and the verdict if its condition fails."""

from tasklatch.domain.amendment import amendment_write
from tasklatch.domain.conditional_write import ConditionalWrite, write_for_report
from tasklatch.domain.history import HistoryEntry, ignored_entry
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.results import ReportResult
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tasklatch.domain.verdict import decide_verdict


def is_read_first(report: Report) -> bool:
    """Return True if the task is read before it is written: no output is stored for an attempt that is not open."""
    return report.output is not None or not _has_attempt(report)


def derive_write(report: Report, current: Task | None, now: int, request_id: str) -> ConditionalWrite:
    """Derive the write of a report.

    Parameters
    ----------
    current
        The task as it was read; None if it was not.
    now
        Milliseconds since the epoch.
    """
    amendment = amendment_write(report, current, now=now, request_id=request_id) if current is not None else None
    if amendment is not None:
        return amendment
    if current is None or (_has_attempt(report) and not report.merges_output):
        return write_for_report(report, now=now, request_id=request_id)
    attempt = report.attempt or current.attempt
    return write_for_report(report, now=now, request_id=request_id, attempt=attempt, version=current.version)


def is_worth_another_attempt(report: Report, write: ConditionalWrite, conflicting: Task, now: int) -> bool:
    """Return True if a rejected write can succeed when it is derived again from the task that made it fail."""
    if conflicting.is_of_later_version:
        return False
    request_id = str(write.values["request_id"])
    amendment = amendment_write(report, conflicting, now=now, request_id=request_id)
    return _read_is_stale(write, conflicting) or amendment is not None


def decide_rejected(
    report: Report, write: ConditionalWrite, conflicting: Task, now: int
) -> tuple[ReportResult, HistoryEntry | None]:
    """Decide the verdict on a rejected write.

    Returns
    -------
    ReportResult, HistoryEntry or None
        The result, and the entry to store before the response is sent; None if the write has taken effect before.

    Raises
    ------
    AttemptNotOpenError
        If the report's attempt is not open.
    ConflictError
        If a later version of the service stored the task.
    """
    verdict = decide_verdict(write, conflicting)
    result = ReportResult(verdict, conflicting)
    if verdict is Verdict.APPLIED:
        return result, None
    request_id = str(write.values["request_id"])
    return result, ignored_entry(report, verdict, conflicting, now=now, request_id=request_id)


def _has_attempt(report: Report) -> bool:
    """Return True if the write needs no read to find its attempt: a success counts for any opened attempt."""
    return report.attempt is not None or report.status is TaskStatus.COMPLETED


def _read_is_stale(write: ConditionalWrite, task: Task) -> bool:
    """Return True if the task changed between the read and the write of a report that depends on that read.

    False if an equal report has decided the attempt that was read, and a next attempt followed: this may be that same
    report, sent again after its response was lost, and it must not count for the next attempt.
    """
    already_counted = write.attempt < task.attempt and write.fingerprint == task.outcome
    return write.version is not None and write.version != task.version and not already_counted
