"""What a task and an execution can be, and how much each status weighs in the latch.

The vocabulary is the one that Netflix Conductor and Cognite Data Fusion share, plus ``PENDING``.
"""

from enum import StrEnum
from typing import Final

COMPLETED_PRECEDENCE: Final = 1_000_000_000
SEALED_PRECEDENCE: Final = 2_000_000_000
PRECEDENCE_PER_ATTEMPT: Final = 10
MAX_ATTEMPT: Final = 0xFFFFFF
"""The last attempt there can be: three bytes hold it in a task execution id, and it stays below a success."""


class TaskStatus(StrEnum):
    """Where a task stands."""

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
    """Where an execution stands."""

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
"""The weight of a status that belongs to one attempt: within the attempt, the greatest wins."""

SEALED: Final = frozenset({TaskStatus.CANCELED, TaskStatus.SKIPPED, TaskStatus.COMPLETED_WITH_ERRORS})
"""What only the service itself may set, and only on a task that is still open."""

REPORTABLE: Final = frozenset(
    {
        TaskStatus.IN_PROGRESS,
        TaskStatus.COMPLETED,
        TaskStatus.FAILED,
        TaskStatus.FAILED_WITH_TERMINAL_ERROR,
    },
)
"""What a worker may say."""

FAILURES: Final = frozenset({TaskStatus.TIMED_OUT, TaskStatus.FAILED, TaskStatus.FAILED_WITH_TERMINAL_ERROR})
"""How an attempt can go wrong."""

FINAL_STATUSES: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED_WITH_TERMINAL_ERROR}) | SEALED
"""What ends a task in the very write that records it: no retry can follow."""


def status_precedence(status: TaskStatus, attempt: int) -> int:
    """The one number that the latch compares: a write is applied only if it raises it.

    Parameters
    ----------
    status
        The status that is to be recorded.
    attempt
        The attempt it speaks about, from 1 to `MAX_ATTEMPT`; a success and a seal weigh the same whatever it is.

    Raises
    ------
    ValueError
        If there can be no such attempt.
    """
    if not 1 <= attempt <= MAX_ATTEMPT:
        raise ValueError(f"attempt must be from 1 to {MAX_ATTEMPT}, not {attempt}")
    if status is TaskStatus.COMPLETED:
        return COMPLETED_PRECEDENCE
    if status in SEALED:
        return SEALED_PRECEDENCE
    return attempt * PRECEDENCE_PER_ATTEMPT + STATUS_RANK[status]
