"""Cancellation of the open tasks of executions that have ended early, a page at a time."""

from typing import TYPE_CHECKING, Final

from tasklatch.domain.advance import SweepPosition
from tasklatch.domain.conditional_write import system_write
from tasklatch.domain.dependencies import is_terminal
from tasklatch.domain.errors import ServiceBusyError
from tasklatch.domain.execution import Execution
from tasklatch.domain.later_values import is_known
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.executions.execution_tasks import ExecutionTasks, TaskPage
from tasklatch.ledger.ledger import Ledger
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_MAX_PASSES: Final = 5


class TaskCancellation:
    """Cancellation of open tasks. Every page is safe to repeat.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff) -> None:
        self._clock = clock
        self._executions = ExecutionTable(client, settings, clock, backoff)
        self._tasks = ExecutionTasks(client, settings, backoff)
        self._ledger = Ledger(client, settings, clock, backoff)

    def cancel_page(self, tenant: str, execution_id: str, position: SweepPosition) -> TaskPage | None:
        """Cancel the open tasks of the page after a position, but for those that a later version of the service stored.

        Returns
        -------
        TaskPage or None
            The page without open tasks; None if the execution has changed since the sweep began, or has not ended.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        ServiceBusyError
            If the table stays busy until the deadline, or tasks keep changing; retry the call.
        """
        for _ in range(_MAX_PASSES):
            page = self._tasks.page(tenant, execution_id, position.after)
            # Read after its tasks: if it is retried from here on, their versions differ and they are not cancelled
            execution = self._executions.read(tenant, execution_id)
            if execution.version != position.version or not has_ended_early(execution):
                return None
            open_tasks = [task for task in page.tasks if not is_terminal(task) and not task.is_of_later_version]
            if not open_tasks:
                return page
            reason = execution.reason or f"the execution is {execution.status}"
            now = self._clock()
            writes = [system_write(task, TaskStatus.CANCELED, now=now, message=reason) for task in open_tasks]
            self._ledger.write_all(tenant, execution_id, writes)
        raise ServiceBusyError(f"tasks of execution {execution_id!r} kept changing while they were being cancelled")


def has_ended_early(execution: Execution) -> bool:
    """Return True if an execution has ended before its tasks: those still open are to be cancelled.

    One whose status only a later version of the service knows is left to that version.
    """
    return is_known(execution.status) and execution.status not in (ExecutionStatus.RUNNING, ExecutionStatus.COMPLETED)
