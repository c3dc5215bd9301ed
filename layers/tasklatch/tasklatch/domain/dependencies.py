"""How tasks hang together: when one is settled, and what that means for its execution."""

from collections.abc import Iterable

from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import FAILURES, SEALED, ExecutionStatus, TaskStatus
from tasklatch.domain.task import OnFailure, Task


def retries_exhausted(task: Task) -> bool:
    """Whether a task's last attempt has failed and no other follows."""
    decision = decide_retry(task)
    return decision is not None and not decision.will_retry


def is_terminal(task: Task) -> bool:
    """Whether nothing more is awaited of a task: those that depend on it can go on, or never will.

    A task that gave up but lets its execution go on is settled once it is sealed as such.
    """
    if task.status is TaskStatus.COMPLETED or task.status in SEALED:
        return True
    return retries_exhausted(task) and task.on_failure is OnFailure.ABORT


def fails_execution(task: Task) -> bool:
    """Whether a task's failure ends its execution."""
    return task.status in FAILURES and is_terminal(task)


def can_be_retried(task: Task) -> bool:
    """Whether a person may give a task one more attempt: it failed for good, or was cancelled."""
    return task.status is TaskStatus.CANCELED or fails_execution(task)


def execution_outcome(tasks: Iterable[Task]) -> ExecutionStatus | None:
    """How an execution ends, or None while something is awaited.

    A task that is cancelled in an execution that runs was reopened by a person, and cancelled all the same for the end
    before: that is no completion, and failed it can be retried again.
    """
    ended = ExecutionStatus.COMPLETED
    for task in tasks:
        if fails_execution(task):
            return ExecutionStatus.FAILED
        if not is_terminal(task):
            return None
        if task.status is TaskStatus.CANCELED:
            ended = ExecutionStatus.FAILED
    return ended
