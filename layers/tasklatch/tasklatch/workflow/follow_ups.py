"""Messages to the workflow advancer: what follows from changes that arrive on the stream, and nothing that does not."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from tasklatch.domain.advance import Advance, AdvanceMessage
from tasklatch.domain.changes import Change, ExecutionChange
from tasklatch.domain.dependencies import fails_execution, is_terminal
from tasklatch.domain.status import SEALED, TaskStatus
from tasklatch.domain.task import FollowUp
from tasklatch.executions.execution_tasks import ExecutionTasks
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.concurrency import map_concurrently
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.advance_queue import AdvanceQueue
from tasklatch.workflow.cancellation import has_ended_early

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_INDEX_PAGES: Final = 1
"""Pages of the index of open tasks that are read: if none of their tasks is open, the advancer looks further."""

_FINAL: Final = ({TaskStatus.COMPLETED} | SEALED) - {TaskStatus.CANCELED}
"""Statuses of a task that not even a person can reopen."""


class FollowUps:
    """Sender of what follows from changes.

    A terminal task is followed by its dependents, or by the end of its execution if no task is open. Of all tasks of an
    execution, one is the last to end: when its change arrives, a consistent read finds none of the others open. So this
    needs no message for the others, and no memory of them. Where others wait for a task, the advancer looks, and only
    if it could schedule none of them: they end later.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff, queue: AdvanceQueue) -> None:
        self._tasks = ExecutionTasks(client, settings, backoff)
        self._queue = queue

    def send(self, changes: Iterable[Change | ExecutionChange]) -> None:
        """Send the messages for a batch of changes; to send them again does no harm.

        Raises
        ------
        ServiceBusyError
            If the table or the queue stays busy until the deadline.
        """
        messages: list[AdvanceMessage] = []
        # By tenant and execution, in order
        possibly_complete: dict[tuple[str, str], None] = {}
        for change in changes:
            messages += _of_change(change)
            if isinstance(change, Change) and _may_end_execution(change):
                possibly_complete[change.task.tenant, change.task.execution_id] = None
        messages += self._completions(list(possibly_complete))
        self._queue.send(messages)

    def _completions(self, executions: list[tuple[str, str]]) -> Iterator[AdvanceMessage]:
        """Yield a message for each execution in which no task is open, as far as one page of the index shows."""
        open_tasks = map_concurrently(lambda key: self._tasks.has_open(*key, max_pages=_INDEX_PAGES), executions)
        for (tenant, execution_id), has_open in zip(executions, open_tasks, strict=True):
            if not has_open:
                yield AdvanceMessage(Advance.COMPLETE, tenant, execution_id)


def _of_change(change: Change | ExecutionChange) -> Iterator[AdvanceMessage]:
    if isinstance(change, ExecutionChange):
        yield from _of_execution(change)
        return
    task = change.task
    if task.has_children and task.status is TaskStatus.IN_PROGRESS:
        yield AdvanceMessage(Advance.CHILDREN, task.tenant, task.execution_id, task.task_id)
    if task.follow_up is FollowUp.NOTHING or not is_terminal(task):
        return
    if task.follow_up is None or fails_execution(task) or _may_rescue(change):
        is_final = task.status in _FINAL
        yield AdvanceMessage(Advance.TASK, task.tenant, task.execution_id, task.task_id, is_final=is_final)


def _of_execution(change: ExecutionChange) -> Iterator[AdvanceMessage]:
    execution, before = change.execution, change.before
    tenant, execution_id = execution.tenant, execution.execution_id
    if has_ended_early(execution):
        yield AdvanceMessage(Advance.CANCEL, tenant, execution_id)
    if execution.concurrency_key is None:
        return
    if not execution.is_active:
        yield AdvanceMessage(Advance.SLOT, tenant, execution_id, concurrency_key=execution.concurrency_key)
    elif before is None or not before.is_active:
        yield AdvanceMessage(Advance.SCHEDULE, tenant, execution_id)


def _may_rescue(change: Change) -> bool:
    """Return True if a task succeeded after its failure may have ended the execution."""
    was_failure = change.before is not None and fails_execution(change.before)
    return was_failure and change.task.status is TaskStatus.COMPLETED


def _may_end_execution(change: Change) -> bool:
    """Return True if a task for which no other waits could be the last of its execution to end.

    One that has a message of its own needs no second: the advancer looks at its execution then.
    """
    task = change.task
    return (
        task.follow_up is FollowUp.END and is_terminal(task) and not fails_execution(task) and not _may_rescue(change)
    )
