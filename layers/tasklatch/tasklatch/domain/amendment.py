"""Additions of a report to its attempt that leave the status unchanged: above all the output.

An attempt's output is that of its final report, or else its last checkpoint: the output of an IN_PROGRESS report. So
a checkpoint replaces the previous one, and an output that arrives after the attempt's end still fills an empty one.
"""

from collections.abc import Iterator, Mapping

from tasklatch.domain.conditional_write import ConditionalWrite, Value, authorship, report_values
from tasklatch.domain.report import Report
from tasklatch.domain.status import FAILURES, SEALED, TaskStatus, status_precedence
from tasklatch.domain.task import Task
from tasklatch.domain.verdict import is_on_opened_attempt, reported_attempt


def amendment_write(report: Report, task: Task, *, now: int, request_id: str) -> ConditionalWrite | None:
    """Derive the write that adds a report's fields to a task without changing its status or precedence.

    Parameters
    ----------
    task
        The task as it was read. The write applies only to this version.
    now
        Milliseconds since the epoch.
    request_id
        Id of the request.

    Returns
    -------
    ConditionalWrite or None
        None if the report adds nothing, raises the latch, is on a sealed task, is on an attempt that is not open or
        is not the deciding one.
    """
    attempt = _attempt(report, task)
    added = _added_fields(report, task, attempt) if _can_add(report, task, attempt) else {}
    if not added:
        return None
    values: dict[str, Value] = {**added, "updated_at": now, **authorship(report, request_id)}
    if task.status is TaskStatus.IN_PROGRESS:
        # A progress report counts as a heartbeat
        values["heartbeat_at"] = now
    return ConditionalWrite(
        task_id=task.task_id,
        status=task.status,
        attempt=attempt,
        precedence_from=task.precedence,
        max_precedence=task.precedence + 1,
        precedence=task.precedence,
        version=task.version,
        values=values,
        clear_fields=tuple(_outdated_fields(values)),
        closes_task=False,
        fingerprint=report.fingerprint,
        keeps_timer=True,
    )


def _outdated_fields(values: Mapping[str, Value]) -> Iterator[str]:
    """Yield the fields that would belong to an earlier report once these are written."""
    if "message" in values and "message_truncated" not in values:
        yield "message_truncated"
    if "reported_by" not in values:
        yield "reported_by"


def _attempt(report: Report, task: Task) -> int:
    """Return the attempt that a report is about; for a success without an attempt, the deciding attempt."""
    if report.attempt is None and report.status is TaskStatus.COMPLETED:
        return task.deciding_attempt
    return reported_attempt(report, task)


def _can_add(report: Report, task: Task, attempt: int) -> bool:
    """Return True if a report may add fields to a task: it is on the deciding attempt, and does not raise the latch."""
    if report.is_informational or task.status in SEALED or not is_on_opened_attempt(report, task):
        return False
    return attempt == task.deciding_attempt and status_precedence(report.status, attempt) <= task.precedence


def _added_fields(report: Report, task: Task, attempt: int) -> dict[str, Value]:
    """Return the fields that the report adds or replaces."""
    if report.status is not TaskStatus.IN_PROGRESS:
        fills = report.output is not None and task.output_fingerprint is None and _decides_alike(report, task)
        return report_values(report, attempt, "output") if fills else {}
    known_sequence = task.checkpoint_sequence if attempt == task.attempt else None
    if report.sequence is not None and known_sequence is not None and report.sequence <= known_sequence:
        return {}
    if task.status is TaskStatus.IN_PROGRESS:
        return _replaced_fields(report, task, attempt)
    is_later = report.sequence is not None and known_sequence is not None
    # A failure's own output hides its checkpoint, but a success can still arrive.
    is_of_use = task.output_fingerprint is None or task.status is not TaskStatus.COMPLETED
    fills = is_of_use and (task.checkpoint_attempt != attempt or is_later)
    if report.output is None or not fills:
        return {}
    fields = report_values(report, attempt, "output")
    if attempt != task.attempt:
        # The stored sequence belongs to the current attempt.
        fields.pop("checkpoint_sequence", None)
    return fields


def _decides_alike(report: Report, task: Task) -> bool:
    """Return True if the report's outcome matches the task's: a failure's output never becomes that of a success."""
    if task.status is TaskStatus.COMPLETED:
        return report.status is TaskStatus.COMPLETED
    return task.status in FAILURES and report.status in FAILURES and task.status is not TaskStatus.TIMED_OUT


def _replaced_fields(report: Report, task: Task, attempt: int) -> dict[str, Value]:
    """Return the fields of an IN_PROGRESS report that differ from the task's; fields that it omits stay unchanged."""
    is_same = task.checkpoint_attempt == attempt and task.checkpoint_fingerprint == report.fingerprint
    fields: dict[str, Value] = {}
    if report.output is not None and not is_same:
        fields |= report_values(report, attempt, "output")
    if report.message not in (None, task.message):
        fields |= report_values(report, attempt, "message")
    if report.platform_status not in (None, task.platform_status):
        fields |= report_values(report, attempt, "platform_status")
    if fields and report.sequence is not None:
        fields["checkpoint_sequence"] = report.sequence
    return fields
