"""What a worker says about one attempt, and the answers it can get."""

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Final

from tasklatch.domain.failure import FAILURE_POLICY, FailureReason
from tasklatch.domain.json_text import dump_payload
from tasklatch.domain.status import FAILURES, TaskStatus
from tasklatch.domain.task import OutputPlace

MAX_MESSAGE_CHARACTERS: Final = 1024
MAX_OUTPUT_BYTES: Final = 100 * 1024
"""As Cognite Data Fusion bounds a task's output, in bytes of JSON."""


class Verdict(StrEnum):
    """What the ledger did with a report."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    IGNORED_AFTER_SUCCESS = "ignored_after_success"
    STALE_ATTEMPT = "stale_attempt"
    SEALED = "sealed"


@dataclass(frozen=True)
class Report:
    """One report, as every contract hands it to the ledger. Build it with `make_report`.

    Attributes
    ----------
    attempt
        The attempt it speaks about; None for the current one.
    output
        JSON text of an object, at most `MAX_OUTPUT_BYTES`; None when there is none.
    retry_after_seconds
        How long the worker asks to wait before another attempt.
    platform_status
        A status in the words of the worker's own platform, kept beside ours.
    record
        Names the record that the report makes, where each is to have one of its own in the history, also of those
        that say the same; such names sort in the order in which they were given.
    sequence
        The worker's own count of its checkpoints, of an IN_PROGRESS alone: the greater wins, whenever it arrives.
    merges_output
        Whether the output is put over what was said of the same attempt before, key by key, rather than in its place.
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
        """Whether it says no more than that there is such a task: it can change nothing, and is kept."""
        return self.status is TaskStatus.PENDING

    @property
    def output_place(self) -> OutputPlace:
        """Where its output is kept; a checkpoint's place names no attempt."""
        attempt = 0 if self.status is TaskStatus.IN_PROGRESS else self.attempt or 0
        return OutputPlace(attempt, self.fingerprint)

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
    """The report with its output put over what was said of the same attempt before, key by key.

    Parameters
    ----------
    earlier
        JSON text of an object; None where nothing was said.

    Raises
    ------
    PayloadTooLargeError
        If both together are over `MAX_OUTPUT_BYTES`.
    """
    if earlier is None or report.output is None:
        return report
    merged = {**json.loads(earlier), **json.loads(report.output)}
    return replace(report, output=dump_payload(merged, "output, with what was said before,", MAX_OUTPUT_BYTES))


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
    """Bring what a worker said into the one form that the ledger knows.

    - A reason means something only on a failure, and is `RETRYABLE_ERROR` when a failure has none.
    - A failure for a reason that is not retried is a terminal error, whichever of the two the worker called it: so
      that of two reports on one attempt the terminal one wins in either order.
    - A message is cut to `MAX_MESSAGE_CHARACTERS`, and says so.
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
