"""Rules for tasks that depend on each other: the end of a task, and its effect on the execution."""

from collections.abc import Iterable

from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import FAILURES, SEALED, ExecutionStatus, TaskStatus
from tasklatch.domain.task import OnFailure, Task


def retries_exhausted(task: Task) -> bool:
    """Return True if a task's last attempt failed and no other follows."""
    decision = decide_retry(task)
    return decision is not None and not decision.will_retry


def is_terminal(task: Task) -> bool:
    """Return True if nothing more is expected of a task: its dependents can start now, or never will.

    A task with exhausted retries whose execution continues is terminal only once it is sealed.
    """
    if task.status is TaskStatus.COMPLETED or task.status in SEALED:
        return True
    return retries_exhausted(task) and task.on_failure is OnFailure.ABORT


def fails_execution(task: Task) -> bool:
    """Return True if a task's failure ends its execution."""
    return task.status in FAILURES and is_terminal(task)


def can_be_retried(task: Task) -> bool:
    """Return True if a person may grant a task one more attempt: it failed for good, or was cancelled."""
    return task.status is TaskStatus.CANCELED or fails_execution(task)


def execution_outcome(tasks: Iterable[Task]) -> ExecutionStatus | None:
    """Return the final status of an execution; None while a task is not terminal.

    A cancelled task in a running execution was reopened by a person, and then cancelled because of the execution's
    previous end. The execution is then not completed but failed, so that it can be retried again.
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
