"""How tasks hang together: what ends an execution, what may be retried, and what inputs refer to."""

import pytest

from tasklatch.domain.conditional_write import manual_retry_write, next_attempt_write
from tasklatch.domain.dependencies import can_be_retried, execution_outcome, fails_execution, is_terminal
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.status import ExecutionStatus, TaskStatus, status_precedence
from tasklatch.domain.task import OnFailure, RetryPolicy, Task
from tests.factories import NOW, a_task

ONCE = RetryPolicy(max_attempts=1)
DONE = a_task(TaskStatus.COMPLETED)
OPEN = a_task(TaskStatus.IN_PROGRESS)


def failed(on_failure: OnFailure = OnFailure.ABORT, *, spent: bool = True) -> Task:
    return a_task(
        TaskStatus.FAILED,
        failure_reason=FailureReason.RETRYABLE_ERROR,
        on_failure=on_failure,
        retry_policy=ONCE if spent else RetryPolicy(),
    )


@pytest.mark.parametrize(
    ("tasks", "outcome"),
    [
        ([], ExecutionStatus.COMPLETED),
        ([DONE], ExecutionStatus.COMPLETED),
        ([DONE, OPEN], None),
        ([OPEN, failed()], None),
        ([failed(), OPEN], ExecutionStatus.FAILED),
        ([DONE, failed()], ExecutionStatus.FAILED),
        ([DONE, failed(spent=False)], None),
        ([DONE, failed(OnFailure.CONTINUE)], None),
        ([DONE, a_task(TaskStatus.COMPLETED_WITH_ERRORS)], ExecutionStatus.COMPLETED),
        ([DONE, a_task(TaskStatus.SKIPPED)], ExecutionStatus.COMPLETED),
        ([DONE, a_task(TaskStatus.CANCELED)], ExecutionStatus.FAILED),
        ([a_task(TaskStatus.CANCELED), OPEN], None),
        ([DONE, a_task(TaskStatus.PENDING)], None),
    ],
)
def test_execution_ends_when_nothing_more_is_awaited(tasks: list[Task], outcome: ExecutionStatus | None) -> None:
    assert execution_outcome(tasks) is outcome


@pytest.mark.parametrize("status", list(TaskStatus))
@pytest.mark.parametrize("on_failure", list(OnFailure))
@pytest.mark.parametrize("spent", [False, True])
def test_task_that_aborts_is_settled_and_may_be_retried(
    status: TaskStatus, on_failure: OnFailure, *, spent: bool
) -> None:
    # given
    reason = FailureReason.RETRYABLE_ERROR if status is TaskStatus.FAILED else None
    task = a_task(status, on_failure=on_failure, retry_policy=ONCE if spent else RetryPolicy(), failure_reason=reason)

    # then
    retries_exhausted = status is TaskStatus.FAILED_WITH_TERMINAL_ERROR or (
        spent and status in (TaskStatus.FAILED, TaskStatus.TIMED_OUT)
    )
    assert fails_execution(task) is (retries_exhausted and on_failure is OnFailure.ABORT)
    assert can_be_retried(task) is (fails_execution(task) or status is TaskStatus.CANCELED)
    assert is_terminal(task) or not fails_execution(task)


def test_success_is_never_reopened() -> None:
    with pytest.raises(ValueError, match="final"):
        manual_retry_write(DONE, now=NOW)


@pytest.mark.parametrize("attempt", [1, 2, 7])
def test_next_attempt_outweighs_all_of_the_last_and_holds_for_one_version(attempt: int) -> None:
    # given
    task = a_task(TaskStatus.FAILED, attempt, failure_reason=FailureReason.RETRYABLE_ERROR)

    # when
    write = next_attempt_write(task, now=NOW)

    # then
    assert write.precedence > status_precedence(TaskStatus.FAILED_WITH_TERMINAL_ERROR, attempt)
    assert write.precedence < status_precedence(TaskStatus.COMPLETED, 1)
    assert write.allows(task)
    assert not write.allows(a_task(TaskStatus.FAILED, attempt, version=task.version + 1))
    assert not write.allows(a_task(TaskStatus.FAILED, attempt + 1))
