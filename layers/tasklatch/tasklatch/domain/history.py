"""History of a task: each change, and each report that changed nothing."""

from typing import Final, NamedTuple

from tasklatch.domain.failure import FailureReason
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task

MAX_IGNORED_ENTRIES: Final = 100
"""Ignored reports that are stored for one version of a task: what one caller sends must not grow without end."""


class HistoryEntry(NamedTuple):
    """One change of a task, or one ignored report on it.

    Attributes
    ----------
    version
        The version that the change created, or the current one when the report was ignored.
    status
        The task's new status, or the status in the ignored report.
    attempt
        The attempt that the entry is about; None if an ignored report named none.
    at
        Milliseconds since the epoch.
    fingerprint
        Fingerprint or record name of an ignored report: one entry is kept for each version and fingerprint.
    """

    version: int
    verdict: Verdict
    status: TaskStatus
    attempt: int | None
    at: int
    previous_status: TaskStatus | None = None
    failure_reason: FailureReason | None = None
    message: str | None = None
    platform_status: str | None = None
    request_id: str | None = None
    reported_by: str | None = None
    fingerprint: str | None = None
    output_attempt: int | None = None
    output_fingerprint: str | None = None


def change_entry(task: Task, before: Task | None) -> HistoryEntry:
    """Return the entry of an applied change."""
    return HistoryEntry(
        version=task.version,
        verdict=Verdict.APPLIED,
        status=task.status,
        attempt=task.attempt,
        at=task.updated_at,
        previous_status=before.status if before else None,
        failure_reason=task.failure_reason,
        message=task.message,
        platform_status=task.platform_status,
        request_id=task.request_id,
        reported_by=task.reported_by,
        output_attempt=task.output.attempt if task.output else None,
        output_fingerprint=task.output.fingerprint if task.output else None,
    )


def ignored_entry(report: Report, verdict: Verdict, task: Task, *, now: int, request_id: str) -> HistoryEntry:
    """Return the entry of a report that changed nothing.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    """
    return HistoryEntry(
        version=task.version,
        verdict=verdict,
        status=task.status if report.is_informational else report.status,
        attempt=report.attempt,
        at=now,
        failure_reason=report.failure_reason,
        message=report.message,
        platform_status=report.platform_status,
        request_id=request_id,
        reported_by=report.reported_by,
        fingerprint=report.record or report.fingerprint,
    )
