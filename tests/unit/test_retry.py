"""Whether, when and why a failed attempt is followed by another."""

from dataclasses import replace
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasklatch.domain.failure import FAILURE_POLICY, FailureReason
from tasklatch.domain.retry import RetryDecision, decide_retry
from tasklatch.domain.status import FAILURES, TaskStatus
from tasklatch.domain.task import RetryPolicy, Task
from tests.factories import NOW, a_task

STEADY = RetryPolicy(max_attempts=10, initial_seconds=10, multiplier=2, max_seconds=900, jitter=0)


def failed(attempt: int = 1, policy: RetryPolicy = STEADY, **fields: object) -> Task:
    initial: dict[str, object] = {"failure_reason": FailureReason.RETRYABLE_ERROR, "ended_at": NOW}
    return a_task(TaskStatus.FAILED, attempt, retry_policy=policy, **(initial | fields))


def decided(task: Task) -> RetryDecision:
    decision = decide_retry(task)
    assert decision is not None
    return decision


def wait_of(task: Task) -> float:
    """Seconds from the failure to the next attempt."""
    not_before = decided(task).not_before
    assert not_before is not None
    return (not_before - NOW) / 1000


@pytest.mark.parametrize("status", sorted(set(TaskStatus) - FAILURES))
def test_there_is_nothing_to_decide_unless_an_attempt_failed(status: TaskStatus) -> None:
    assert decide_retry(a_task(status)) is None


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 10), (2, 20), (3, 40), (6, 320), (7, 640), (8, 900), (9, 900)])
def test_wait_grows_up_to_the_policys_maximum(attempt: int, seconds: int) -> None:
    assert wait_of(failed(attempt)) == seconds


def test_decision_says_what_follows() -> None:
    decision = decided(failed(2))
    assert (decision.will_retry, decision.next_attempt, decision.attempts_left) == (True, 3, 8)
    assert "RETRYABLE_ERROR is retried" in decision.reason


@pytest.mark.parametrize("attempt", [10, 11])
def test_attempts_that_are_spent_are_not_followed_by_another(attempt: int) -> None:
    decision = decided(failed(attempt))
    assert (decision.will_retry, decision.next_attempt, decision.not_before, decision.attempts_left) == (
        False,
        None,
        None,
        0,
    )
    assert "no attempts left" in decision.reason


@pytest.mark.parametrize("reason", [reason for reason in FailureReason if not FAILURE_POLICY[reason].retryable])
def test_terminal_error_is_not_retried_and_says_why(reason: FailureReason) -> None:
    decision = decided(
        replace(failed(), status=TaskStatus.FAILED_WITH_TERMINAL_ERROR, failure_reason=reason),
    )
    assert not decision.will_retry
    assert reason in decision.reason


def test_error_that_the_worker_called_terminal_is_not_retried() -> None:
    decision = decided(replace(failed(), status=TaskStatus.FAILED_WITH_TERMINAL_ERROR))
    assert not decision.will_retry
    assert "worker" in decision.reason


def test_time_out_is_not_retried_where_the_policy_says_so() -> None:
    policy = STEADY._replace(retry_timeouts=False)

    timed_out = decide_retry(a_task(TaskStatus.TIMED_OUT, retry_policy=policy, ended_at=NOW))
    failed = decide_retry(
        a_task(TaskStatus.FAILED, retry_policy=policy, failure_reason=FailureReason.RETRYABLE_ERROR, ended_at=NOW)
    )

    assert timed_out is not None
    assert not timed_out.will_retry
    assert timed_out.reason == "the policy does not retry time-outs"
    assert timed_out.attempts_left == 9
    assert failed is not None
    assert failed.will_retry


def test_time_out_is_retried() -> None:
    decision = decided(replace(failed(), status=TaskStatus.TIMED_OUT, failure_reason=None))
    assert decision.will_retry
    assert "time-out" in decision.reason


@pytest.mark.parametrize(
    ("requested", "seconds", "words"),
    [(3, 10, "back-off"), (30, 30, "requested by the worker"), (86_400, 900, "policy's maximum")],
)
def test_worker_can_ask_for_a_longer_wait_but_not_past_the_maximum(requested: float, seconds: int, words: str) -> None:
    task = failed(retry_after_seconds=requested)
    assert wait_of(task) == seconds
    assert words in decided(task).reason


def test_jitter_shortens_a_wait_by_no_more_than_its_share_and_spreads_it() -> None:
    policy = STEADY._replace(jitter=0.5)
    waits = [wait_of(failed(policy=policy, task_id=f"task {number}")) for number in range(500)]
    assert all(5 <= wait <= 10 for wait in waits)
    assert 7.2 < mean(waits) < 7.8
    assert len(set(waits)) > 400


def test_retry_decision_is_reproducible() -> None:
    policy = STEADY._replace(jitter=1.0)
    first = decided(failed(policy=policy))
    later = decided(failed(policy=policy, updated_at=NOW + 5_000, version=9, heartbeat_at=NOW))
    assert first == later
    assert wait_of(failed(2, policy)) != 2 * wait_of(failed(1, policy)), "each attempt draws anew"


@pytest.mark.parametrize(
    "policy",
    [
        RetryPolicy(max_attempts=10_000_000, multiplier=10),
        RetryPolicy(max_attempts=10_000_000, initial_seconds=86_400, multiplier=10, max_seconds=86_400),
        RetryPolicy(max_attempts=10_000_000, initial_seconds=0, multiplier=10),
        RetryPolicy(max_attempts=10_000_000, initial_seconds=0.001, multiplier=1, max_seconds=0),
    ],
)
def test_attempt_a_million_does_not_overflow(policy: RetryPolicy) -> None:
    assert 0 <= wait_of(failed(1_000_000, policy)) <= policy.max_seconds


@given(
    st.builds(
        RetryPolicy,
        max_attempts=st.just(1_000_000),
        initial_seconds=st.floats(0, 86_400),
        multiplier=st.floats(1, 10),
        max_seconds=st.floats(0, 86_400),
        jitter=st.floats(0, 1),
    ),
    st.integers(1, 999_999),
    st.none() | st.floats(0, 86_400),
)
def test_no_wait_is_longer_than_the_maximum_or_in_the_past(
    policy: RetryPolicy, attempt: int, requested: float | None
) -> None:
    wait = wait_of(failed(attempt, policy, retry_after_seconds=requested))
    assert 0 <= wait <= round(policy.max_seconds, 3) + 0.001
    if requested is not None and requested <= policy.max_seconds:
        assert wait >= requested - 0.001
