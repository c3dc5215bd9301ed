"""A task as the ledger holds it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from tasklatch.domain.attempt_id import task_execution_id
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.status import TaskStatus


class OnFailure(StrEnum):
    """What a task's final failure means for its execution."""

    ABORT = "abort"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a task is tried.

    Attributes
    ----------
    max_attempts
        All attempts, the first included.
    initial_seconds
        The wait before the second attempt, in seconds.
    multiplier
        How much longer each further wait is.
    max_seconds
        No wait is longer than this, in seconds, whoever asks for it.
    jitter
        The share of a wait, 0 to 1, that is drawn by chance so that many failures do not return at once.
    retry_timeouts
        Whether an attempt that went silent is followed by another.
    """

    max_attempts: int = 3
    initial_seconds: float = 10
    multiplier: float = 2
    max_seconds: float = 900
    jitter: float = 0.2
    retry_timeouts: bool = True


DEFAULT_RETRY_POLICY: Final = RetryPolicy()


class OutputPlace(NamedTuple):
    """Where an output is kept: the attempt that its final report named, 0 otherwise, and its report's fingerprint."""

    attempt: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One unit of work and where it stands. Times are milliseconds since the epoch.

    Attributes
    ----------
    precedence
        The latch: see `tasklatch.domain.status.precedence_of`.
    version
        Raised by one with every applied change, from 1.
    granted_attempts
        How many attempts a person has granted, where that is more than the policy allows.
    outcome
        Fingerprint of the report that last decided an attempt: by it a repeat is recognised.
    request_id
        Which request wrote last: by it a request whose answer was lost recognises its own write.
    output_attempt, output_fingerprint
        Where the output of the report that decided the status is kept: the attempt that it named, 0 if it named none;
        both None without one.
    checkpoint_attempt, checkpoint_fingerprint
        The last attempt that gave an output while it was in progress, and where that is kept.
    checkpoint_sequence
        The greatest sequence that the current attempt's worker gave.
    decided_attempt
        The attempt that succeeded, where its report named it.
    definition
        Fingerprint of what the task was created from.
    """

    tenant: str
    execution_id: str
    task_id: str
    status: TaskStatus
    attempt: int
    precedence: int
    version: int
    created_at: int
    updated_at: int
    scheduled_at: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    heartbeat_at: int | None = None
    progress: float | None = None
    failure_reason: FailureReason | None = None
    message: str | None = None
    message_truncated: bool = False
    platform_status: str | None = None
    retry_after_seconds: float | None = None
    retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY
    granted_attempts: int | None = None
    timeout_seconds: int | None = None
    heartbeat_timeout_seconds: int | None = None
    on_failure: OnFailure = OnFailure.ABORT
    outcome: str | None = None
    request_id: str | None = None
    output_attempt: int | None = None
    output_fingerprint: str | None = None
    checkpoint_attempt: int | None = None
    checkpoint_fingerprint: str | None = None
    checkpoint_sequence: int | None = None
    decided_attempt: int | None = None
    definition: str | None = None

    @property
    def task_execution_id(self) -> str:
        """The id of the current attempt."""
        return task_execution_id(self.tenant, self.execution_id, self.task_id, self.attempt)

    @property
    def opened_attempts(self) -> int:
        """How many attempts were opened so far: all, or all but the current one where that still waits."""
        return self.attempt - (self.scheduled_at is None)

    @property
    def deciding_attempt(self) -> int:
        """The attempt that decided how the task stands; a success that named none is of the last that was opened."""
        last = self.opened_attempts if self.status is TaskStatus.COMPLETED else self.attempt
        return self.decided_attempt or last or self.attempt

    @property
    def output(self) -> "OutputPlace | None":
        """Where the output is kept that the task has as it stands; None without one."""
        return self.output_of(self.deciding_attempt)

    def output_of(self, attempt: int) -> "OutputPlace | None":
        """Where an attempt's output is kept: its final report's, or else its last checkpoint; None without one."""
        if attempt == self.deciding_attempt and self.output_fingerprint is not None:
            return OutputPlace(self.output_attempt or 0, self.output_fingerprint)
        if attempt == self.checkpoint_attempt and self.checkpoint_fingerprint is not None:
            return OutputPlace(0, self.checkpoint_fingerprint)
        return None

    @property
    def max_attempts(self) -> int:
        """How many attempts there may be, the first included."""
        return max(self.retry_policy.max_attempts, self.granted_attempts or 0)


@dataclass(frozen=True, slots=True)
class TaskDetail:
    """A task with what is kept beside it: payloads as JSON text, and what kind of work its platform calls it."""

    task: Task
    input: str | None
    output: str | None
    depends_on: tuple[str, ...]
    kind: str | None = None
