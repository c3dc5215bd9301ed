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


def failure_summary(task: Task) -> str:
    """Return the reason of an execution that a task failed; the tasks that are cancelled with it have it too."""
    return f"{_summary_prefix(task.task_id)}{task.status}"


def is_cancelled_by_failure(task: Task, failed_by: str) -> bool:
    """Return True if a task was cancelled because another one failed their execution, and for no other reason."""
    is_by_service = task.status is TaskStatus.CANCELED and task.request_id is None
    return is_by_service and (task.message or "").startswith(_summary_prefix(failed_by))


def is_rescued(tasks: Iterable[Task], failed_by: str) -> bool:
    """Return True if an execution that failed is a failure no more: what failed it has succeeded since.

    Parameters
    ----------
    tasks
        All its tasks.
    failed_by
        The task that failed it.
    """
    return not any(
        fails_execution(task) or (task.status is TaskStatus.CANCELED and not is_cancelled_by_failure(task, failed_by))
        for task in tasks
    )


def _summary_prefix(task_id: str) -> str:
    return f"task {task_id!r} ended "


def execution_outcome(
    tasks: Iterable[Task], so_far: ExecutionStatus = ExecutionStatus.COMPLETED
) -> ExecutionStatus | None:
    """Return the final status of an execution; None while a task is not terminal.

    A cancelled task in a running execution was reopened by a person, and then cancelled because of the execution's
    previous end. The execution is then not completed but failed, so that it can be retried again.

    Parameters
    ----------
    tasks
        All tasks, or a page of them.
    so_far
        The outcome of the pages before.
    """
    ended = so_far
    for task in tasks:
        if fails_execution(task):
            return ExecutionStatus.FAILED
        if not is_terminal(task):
            return None
        if task.status is TaskStatus.CANCELED:
            ended = ExecutionStatus.FAILED
    return ended
