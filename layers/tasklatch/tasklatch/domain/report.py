"""Reports of workers on one attempt, and the verdicts on them."""

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Final

from tasklatch.domain.failure import FAILURE_POLICY, FailureReason
from tasklatch.domain.json_text import dump_payload
from tasklatch.domain.status import FAILURES, TaskStatus
from tasklatch.domain.task import OutputRef

MAX_MESSAGE_CHARACTERS: Final = 1024
MAX_OUTPUT_BYTES: Final = 100 * 1024
"""Limit of Cognite Data Fusion on a task's output, in bytes of JSON."""


class Verdict(StrEnum):
    """Result of a report in the ledger."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    IGNORED_AFTER_SUCCESS = "ignored_after_success"
    STALE_ATTEMPT = "stale_attempt"
    SEALED = "sealed"


@dataclass(frozen=True)
class Report:
    """One report, in the form that the ledger accepts from every contract. Build it with `make_report`.

    Attributes
    ----------
    attempt
        The attempt that the report is about; None for the current one.
    output
        JSON text of an object, at most `MAX_OUTPUT_BYTES`; None if there is none.
    retry_after_seconds
        The wait before another attempt that the worker requests, in seconds.
    platform_status
        The status in the vocabulary of the worker's own platform, stored beside ours.
    record
        Name of the report's entry in the history, if every report needs its own, even one with the same content; such
        names sort in the order of their creation.
    sequence
        The worker's own count of its checkpoints, only for IN_PROGRESS: the greater wins in any order of arrival.
    merges_output
        True if the output is merged into the attempt's earlier output, key by key, instead of replacing it.
    """

    task_id: str
    status: TaskStatus
    attempt: int | None = None
    failure_reason: FailureReason | None = None
    message: str | None = None
    message_truncated: bool = False
    output: str | None = None
    retry_after_seconds: float | None = None
    platform_status: str | None = None
    record: str | None = None
    sequence: int | None = None
    merges_output: bool = False

    @property
    def is_informational(self) -> bool:
        """True if the report can change nothing: it is only recorded in the history."""
        return self.status is TaskStatus.PENDING

    @property
    def output_ref(self) -> OutputRef:
        """Reference to the stored output; that of a checkpoint has attempt 0."""
        attempt = 0 if self.status is TaskStatus.IN_PROGRESS else self.attempt or 0
        return OutputRef(attempt, self.fingerprint)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits: the same for the same report, whenever it arrives."""
        content = (
            self.status,
            self.attempt,
            self.failure_reason,
            self.message,
            self.output,
            self.retry_after_seconds,
            self.platform_status,
            *([] if self.sequence is None else [self.sequence]),
        )
        return sha256(repr(content).encode()).hexdigest()[:16]


def with_merged_output(report: Report, earlier: str | None) -> Report:
    """Return the report with its output merged into the attempt's earlier output, key by key.

    Parameters
    ----------
    earlier
        JSON text of an object; None if there is no earlier output.

    Raises
    ------
    PayloadTooLargeError
        If both together are over `MAX_OUTPUT_BYTES`.
    """
    if earlier is None or report.output is None:
        return report
    merged = {**json.loads(earlier), **json.loads(report.output)}
    return replace(
        report, output=dump_payload(merged, "output, merged with the attempt's earlier output,", MAX_OUTPUT_BYTES)
    )


def make_report(
    task_id: str,
    status: TaskStatus,
    *,
    attempt: int | None = None,
    failure_reason: FailureReason | None = None,
    message: str | None = None,
    output: str | None = None,
    retry_after_seconds: float | None = None,
    platform_status: str | None = None,
) -> Report:
    """Build a report in the normal form of the ledger.

    - A failure reason and a requested wait are dropped unless the status is a failure. A failure without a reason gets
      `RETRYABLE_ERROR`, a terminal one `NON_RETRYABLE_ERROR`.
    - A failure with a reason that is not retried becomes a terminal error, whichever status the worker sent: of two
      reports on one attempt, the terminal one then wins in either order.
    - A message is cut to `MAX_MESSAGE_CHARACTERS`; `message_truncated` is then True.
    """
    if status not in FAILURES:
        failure_reason = None
        retry_after_seconds = None
    elif failure_reason is None:
        terminal = status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
        failure_reason = FailureReason.NON_RETRYABLE_ERROR if terminal else FailureReason.RETRYABLE_ERROR
    elif status is TaskStatus.FAILED and not FAILURE_POLICY[failure_reason].retryable:
        status = TaskStatus.FAILED_WITH_TERMINAL_ERROR
    truncated = message is not None and len(message) > MAX_MESSAGE_CHARACTERS
    return Report(
        task_id=task_id,
        status=status,
        attempt=attempt,
        failure_reason=failure_reason,
        message=message[:MAX_MESSAGE_CHARACTERS] if message else None,
        message_truncated=truncated,
        output=output,
        retry_after_seconds=retry_after_seconds,
        platform_status=platform_status,
    )
