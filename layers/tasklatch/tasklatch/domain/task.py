"""A task as the ledger stores it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from tasklatch.domain.failure import FailureReason
from tasklatch.domain.later_values import is_known
from tasklatch.domain.status import TaskStatus

FORM: Final = 2
"""Greatest form of the stored tasks that this version reads and writes; a task without a number has the first."""

PARENT_FORM: Final = 2
"""Form of a task that brings others: a version that does not know these would hand it to a worker."""


class OnFailure(StrEnum):
    """Effect of a task's final failure on its execution."""

    ABORT = "abort"
    CONTINUE = "continue"


class FollowUp(StrEnum):
    """Most that can follow from a task's end, where no other task waits for it."""

    END = "end"
    """The end of its execution."""
    NOTHING = "nothing"
    """Nothing: its execution stays open."""


class RetryPolicy(NamedTuple):
    """Number of attempts at a task, and the waits between them.

    Attributes
    ----------
    max_attempts
        The number of attempts, including the first.
    initial_seconds
        The wait before the second attempt, in seconds.
    multiplier
        Factor between one wait and the next.
    max_seconds
        The longest wait, in seconds; it also limits a wait that a worker requests.
    jitter
        The share of a wait, 0 to 1, that varies, so that many failed tasks do not retry at the same time.
    retry_timeouts
        True if another attempt follows one that timed out.
    """

    max_attempts: int = 3
    initial_seconds: float = 10
    multiplier: float = 2
    max_seconds: float = 900
    jitter: float = 0.2
    retry_timeouts: bool = True


HIGHEST_PRIORITY: Final = 9
DEFAULT_PRIORITY: Final = 5
"""Priority in its queue of a task that names none; 0 is the lowest, `HIGHEST_PRIORITY` is handed out first."""

DEFAULT_RETRY_POLICY: Final = RetryPolicy()


class OutputRef(NamedTuple):
    """Reference to a stored output: the attempt that its final report named, or 0, and the report's fingerprint."""

    attempt: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One unit of work and its current state. Times are milliseconds since the epoch.

    Attributes
    ----------
    precedence
        The number that the latch compares: see `tasklatch.domain.status.status_precedence`.
    version
        Counts the applied changes, from 1.
    granted_attempts
        The number of attempts that a person has allowed; it raises the policy's limit.
    outcome
        Fingerprint of the report that last decided an attempt: a repeat of that report is recognised by it.
    request_id
        The request that wrote last: a request whose response was lost recognises its own write by it.
    reported_by
        The client that reported last; None if the service itself wrote last, or the token names no client.
    output_attempt, output_fingerprint
        The place of the output of the report that decided the status: the attempt that the report named, 0 if it named
        none; both None without an output.
    checkpoint_attempt, checkpoint_fingerprint
        The last attempt that sent an output while it was in progress, and the fingerprint of that report.
    checkpoint_sequence
        The greatest sequence that the current attempt's worker sent.
    decided_attempt
        The attempt that succeeded, if its report named it.
    definition
        Fingerprint of the definition that the task was created from.
    form
        Form of the stored task; None for the first. A later version that stores what this one cannot read raises it
        above `FORM`.
    follow_up
        What can follow from the task's end; None if other tasks wait for it, or may do.
    queue, priority
        The queue from which workers claim the task, None if it is not handed out so; and its priority there, None for
        `DEFAULT_PRIORITY`.
    claim
        Mark of the claim by which the current attempt was handed out; None if it was not claimed.
    released_attempts
        Number of attempts that workers have given back: they are not spent.
    has_children
        True if the task brings other tasks instead of work for a worker: it is in progress until all of them have
        ended. None of its attempts is ever open, so that nobody can report on it.
    parent_id
        The task that brought this one; None if it was created by a request.
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
    reported_by: str | None = None
    output_attempt: int | None = None
    output_fingerprint: str | None = None
    checkpoint_attempt: int | None = None
    checkpoint_fingerprint: str | None = None
    checkpoint_sequence: int | None = None
    decided_attempt: int | None = None
    definition: str | None = None
    form: int | None = None
    follow_up: FollowUp | None = None
    queue: str | None = None
    priority: int | None = None
    claim: str | None = None
    released_attempts: int | None = None
    has_children: bool = False
    parent_id: str | None = None

    @property
    def is_of_later_version(self) -> bool:
        """True if a later version of the service stored the task: this one shows it, and leaves it as it is."""
        return (self.form or 1) > FORM or not is_known(self.status)

    @property
    def opened_attempts(self) -> int:
        """Number of attempts opened so far: all, or all but the current one if that still waits."""
        return self.attempt - (self.scheduled_at is None)

    @property
    def deciding_attempt(self) -> int:
        """Attempt that decided the task's status; a success without an attempt counts for the last opened one."""
        last = self.opened_attempts if self.status is TaskStatus.COMPLETED else self.attempt
        return self.decided_attempt or last or self.attempt

    @property
    def output(self) -> "OutputRef | None":
        """Place of the task's current output; None without one."""
        return self.output_of(self.deciding_attempt)

    def output_of(self, attempt: int) -> "OutputRef | None":
        """Return the place of an attempt's output, final or else its last checkpoint; None without one."""
        if attempt == self.deciding_attempt and self.output_fingerprint is not None:
            return OutputRef(self.output_attempt or 0, self.output_fingerprint)
        if attempt == self.checkpoint_attempt and self.checkpoint_fingerprint is not None:
            return OutputRef(0, self.checkpoint_fingerprint)
        return None

    @property
    def spent_attempts(self) -> int:
        """Number of attempts that count against `max_attempts`: all but those that were given back."""
        return self.attempt - (self.released_attempts or 0)

    @property
    def max_attempts(self) -> int:
        """Maximum number of attempts, including the first."""
        return max(self.retry_policy.max_attempts, self.granted_attempts or 0)


class TaskDetail(NamedTuple):
    """A task with its dependencies, its payloads as JSON text, and its kind in its platform's vocabulary."""

    task: Task
    input: str | None
    output: str | None
    depends_on: tuple[str, ...]
    kind: str | None = None
