"""End of executions: completion after the last task, failure by a task, and cancellation of the tasks still open."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from tasklatch.domain.conditional_write import system_write
from tasklatch.domain.dependencies import execution_outcome, fails_execution, is_terminal
from tasklatch.domain.errors import ServiceBusyError
from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.executions.execution_tasks import ExecutionTasks
from tasklatch.ledger.ledger import Ledger
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_MAX_CANCEL_PASSES: Final = 5


class ExecutionCloser:
    """Closing of executions. Every step is safe to repeat.

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

    def complete_if_finished(self, tenant: str, execution_id: str) -> None:
        """End an execution when all its tasks are terminal.

        The index of open tasks is queried first: its cost does not grow with the number of tasks. The index can lag,
        so its tasks are read consistently; all tasks of the execution are read only if none of them is open.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        execution = self._executions.read(tenant, execution_id)
        if execution.status is not ExecutionStatus.RUNNING or execution.keep_open or self._tasks.has_open(execution):
            return
        outcome = execution_outcome(self._tasks.iterate(tenant, execution_id))
        if outcome is not None:
            self._executions.change_status(execution, outcome, None, unless_tasks_added=True)

    def fail_for(self, execution: Execution, tasks: Iterable[Task]) -> bool:
        """Fail a running execution if one of its tasks fails it and it is not kept open.

        Returns
        -------
        bool
            True if a task fails the execution.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        cause = None if execution.keep_open else next(filter(fails_execution, tasks), None)
        if cause is not None:
            reason = f"task {cause.task_id!r} ended {cause.status}"
            self._executions.change_status(execution, ExecutionStatus.FAILED, reason)
        return cause is not None

    def cancel_open_tasks(self, tenant: str, execution_id: str) -> None:
        """Cancel the open tasks of an execution that has failed or was terminated.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        ServiceBusyError
            If the table stays busy until the deadline, or tasks keep changing; retry the call.
        """
        for _ in range(_MAX_CANCEL_PASSES):
            open_tasks = [task for task in self._tasks.iterate(tenant, execution_id) if not is_terminal(task)]
            # Read after its tasks: if it is retried from here on, their versions differ and they are not cancelled
            execution = self._executions.read(tenant, execution_id)
            if not open_tasks or execution.status in (ExecutionStatus.RUNNING, ExecutionStatus.COMPLETED):
                return
            reason = execution.reason or f"the execution is {execution.status}"
            now = self._clock()
            writes = [system_write(task, TaskStatus.CANCELED, now=now, message=reason) for task in open_tasks]
            self._ledger.write_all(tenant, execution_id, writes)
        raise ServiceBusyError(f"tasks of execution {execution_id!r} kept changing while they were being cancelled")
