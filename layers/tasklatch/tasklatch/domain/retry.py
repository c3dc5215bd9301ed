"""Retry decision after a failed attempt: the next attempt, its time and the reason."""

from hashlib import sha256
from typing import Final, NamedTuple

from tasklatch.domain.failure import FAILURE_POLICY, FailureReason
from tasklatch.domain.status import FAILURES, TaskStatus
from tasklatch.domain.task import Task

_JITTER_STEPS: Final = 1 << 32


class RetryDecision(NamedTuple):
    """Decision about the next attempt after a failure, for workers and operators.

    Attributes
    ----------
    will_retry
        True if another attempt follows.
    next_attempt
        The number of the next attempt; None if there is none.
    not_before
        The earliest time of the next attempt, in milliseconds since the epoch; None if there is none.
    reason
        The reason for the decision, as a sentence.
    attempts_left
        The number of attempts that are still allowed after the failed one.
    """

    will_retry: bool
    next_attempt: int | None
    not_before: int | None
    reason: str
    attempts_left: int


def decide_retry(task: Task) -> RetryDecision | None:
    """Decide on a retry from the stored task alone: every caller gets the same decision at any time.

    Parameters
    ----------
    task
        The task after the write.

    Returns
    -------
    RetryDecision or None
        None unless the task's current attempt has failed or timed out, and this version can decide on the task.
    """
    if task.status not in FAILURES or task.is_of_later_version:
        return None
    attempts_left = max(task.max_attempts - task.spent_attempts, 0)
    if task.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR:
        cause = task.failure_reason or FailureReason.NON_RETRYABLE_ERROR
        reason = (
            f"{cause} is not retried" if not FAILURE_POLICY[cause].retryable else "the worker reported a terminal error"
        )
        return RetryDecision(False, None, None, reason, attempts_left)
    timed_out = task.status is TaskStatus.TIMED_OUT
    if timed_out and not task.retry_policy.retry_timeouts:
        return RetryDecision(False, None, None, "the policy does not retry time-outs", attempts_left)
    cause_word = "a time-out" if timed_out else str(task.failure_reason)
    if attempts_left == 0:
        reason = f"{cause_word} is retried, but there are no attempts left: {task.max_attempts} at most"
        return RetryDecision(False, None, None, reason, 0)
    delay, rule = _delay(task)
    reason = (
        f"{cause_word} is retried: attempt {task.spent_attempts} of {task.max_attempts} failed, "
        f"the next follows after {delay / 1000:g} s ({rule})"
    )
    return RetryDecision(True, task.attempt + 1, (task.ended_at or task.updated_at) + delay, reason, attempts_left)


def _delay(task: Task) -> tuple[int, str]:
    """Return the wait in milliseconds, and the rule that set it."""
    policy = task.retry_policy
    longest = policy.max_seconds
    # The exponent is limited so that a large attempt number cannot overflow a float.
    growth = min(
        policy.multiplier ** min(task.spent_attempts - 1, 64), float(longest) / max(policy.initial_seconds, 0.001)
    )
    backoff = min(policy.initial_seconds * max(growth, 1.0), longest)
    backoff *= 1 - policy.jitter * _jitter_fraction(task)
    requested = min(task.retry_after_seconds or 0, longest)
    if requested > backoff:
        rule = "requested by the worker" if requested == task.retry_after_seconds else "policy's maximum"
        return round(requested * 1000), rule
    return round(backoff * 1000), "back-off"


def _jitter_fraction(task: Task) -> float:
    """Return a number from 0 to 1 (excluded): the same for the same attempt, evenly spread over attempts."""
    name = "\0".join((task.tenant, task.execution_id, task.task_id, str(task.attempt)))
    return int.from_bytes(sha256(name.encode()).digest()[:4]) / _JITTER_STEPS
