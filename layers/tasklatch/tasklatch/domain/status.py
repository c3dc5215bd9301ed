"""Statuses of a task and an execution, and the precedence of each task status in the latch.

The vocabulary is the one that Netflix Conductor and Cognite Data Fusion share, plus ``PENDING``.
"""

from enum import StrEnum
from typing import Final

COMPLETED_PRECEDENCE: Final = 1_000_000_000
SEALED_PRECEDENCE: Final = 2_000_000_000
PRECEDENCE_PER_ATTEMPT: Final = 10
MAX_ATTEMPT: Final = 0xFFFFFF
"""Highest attempt: it fits three bytes in a task execution id, and its precedence stays below that of a success."""


class TaskStatus(StrEnum):
    """Status of a task."""

    PENDING = "PENDING"
    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN_PROGRESS"
    TIMED_OUT = "TIMED_OUT"
    FAILED = "FAILED"
    FAILED_WITH_TERMINAL_ERROR = "FAILED_WITH_TERMINAL_ERROR"
    COMPLETED = "COMPLETED"
    COMPLETED_WITH_ERRORS = "COMPLETED_WITH_ERRORS"
    SKIPPED = "SKIPPED"
    CANCELED = "CANCELED"


class ExecutionStatus(StrEnum):
    """Status of an execution."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    TERMINATED = "TERMINATED"


STATUS_RANK: Final[dict[TaskStatus, int]] = {
    TaskStatus.PENDING: 0,
    TaskStatus.SCHEDULED: 1,
    TaskStatus.IN_PROGRESS: 2,
    TaskStatus.TIMED_OUT: 3,
    TaskStatus.FAILED: 4,
    TaskStatus.FAILED_WITH_TERMINAL_ERROR: 5,
}
"""Rank of a status within one attempt: the greatest wins."""

SEALED: Final = frozenset({TaskStatus.CANCELED, TaskStatus.SKIPPED, TaskStatus.COMPLETED_WITH_ERRORS})
"""Statuses that only the service itself may set, and only on a task that is still open."""

REPORTABLE: Final = frozenset(
    {
        TaskStatus.IN_PROGRESS,
        TaskStatus.COMPLETED,
        TaskStatus.FAILED,
        TaskStatus.FAILED_WITH_TERMINAL_ERROR,
    },
)
"""Statuses that a worker may report."""

FAILURES: Final = frozenset({TaskStatus.TIMED_OUT, TaskStatus.FAILED, TaskStatus.FAILED_WITH_TERMINAL_ERROR})
"""Statuses of a failed attempt."""

FINAL_STATUSES: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED_WITH_TERMINAL_ERROR}) | SEALED
"""Statuses that end a task in the write that sets them: no retry can follow."""


def status_precedence(status: TaskStatus, attempt: int) -> int:
    """Return the number that the latch compares: a report changes a task's status only if it raises this number.

    Parameters
    ----------
    status
        The status to write.
    attempt
        The attempt, from 1 to `MAX_ATTEMPT`. The precedence of a success or a seal does not depend on it.

    Raises
    ------
    ValueError
        If the attempt is out of range.
    """
    if not 1 <= attempt <= MAX_ATTEMPT:
        raise ValueError(f"attempt must be from 1 to {MAX_ATTEMPT}, not {attempt}")
    if status is TaskStatus.COMPLETED:
        return COMPLETED_PRECEDENCE
    if status in SEALED:
        return SEALED_PRECEDENCE
    return attempt * PRECEDENCE_PER_ATTEMPT + STATUS_RANK[status]
