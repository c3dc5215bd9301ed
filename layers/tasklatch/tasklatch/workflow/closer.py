"""End of executions: completion after the last task, and cancellation of the tasks still open.

Both go over all tasks page by page while the function has time. Then a message in the advance queue carries the
position, and the next invocation goes on from there: memory and time of an invocation do not grow with the execution.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tasklatch.domain.advance import Advance, AdvanceMessage, SweepPosition, start_of_sweep
from tasklatch.domain.dependencies import execution_outcome
from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.executions.execution_tasks import ExecutionTasks
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.advance_queue import AdvanceQueue
from tasklatch.workflow.cancellation import TaskCancellation

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TIME_FOR_A_PAGE_MS: Final = 8_000
"""Remaining time with which a page is still begun; a page takes a second or two, a busy table more."""


class ExecutionCloser:
    """Closing of executions. Every step is safe to repeat.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    queue
        Queue that carries the position of a sweep to the next invocation.
    """

    def __init__(
        self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff, queue: AdvanceQueue
    ) -> None:
        self._backoff = backoff
        self._queue = queue
        self._executions = ExecutionTable(client, settings, clock, backoff)
        self._tasks = ExecutionTasks(client, settings, backoff)
        self._cancellation = TaskCancellation(client, settings, clock, backoff)

    def complete_if_finished(self, tenant: str, execution_id: str, position: SweepPosition | None = None) -> bool:
        """End an execution when all its tasks are terminal, or hand the rest of the sweep to the advance queue.

        The index of open tasks is queried first: its cost does not grow with the number of tasks. The index can lag,
        so its tasks are read consistently; all tasks of the execution are read only if none of them is open. The
        execution ends only if it has neither changed nor got tasks since the first page: otherwise the sweep starts
        again. A task that fails the execution ends it at once.

        Returns
        -------
        bool
            True if a task's failure had ended it before: a success since may take that back.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        while self._backoff.has_time(TIME_FOR_A_PAGE_MS):
            execution = self._executions.read(tenant, execution_id)
            if execution.failed_by is not None and not execution.is_held_back:
                return True
            if execution.is_held_back or execution.status is not ExecutionStatus.RUNNING or execution.keep_open:
                return False
            if position is None or not position.holds_for(execution):
                if self._tasks.has_open(tenant, execution_id):
                    return False
                position = start_of_sweep(execution)
            outcome, position = self._sweep_outcome(execution, position)
            if outcome is None:
                return False
            if position is None and self._executions.change_status(execution, outcome, None, unless_tasks_added=True):
                return False
        self._queue.send([AdvanceMessage(Advance.COMPLETE, tenant, execution_id, position=position)])
        return False

    def cancel_open_tasks(self, tenant: str, execution_id: str, position: SweepPosition | None = None) -> None:
        """Cancel the open tasks of an execution that has ended, or hand the rest of the sweep to the advance queue.

        A sweep stops once the execution has changed: it runs again, or its next end has a sweep of its own.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        ServiceBusyError
            If the table stays busy until the deadline, or tasks keep changing; retry the call.
        """
        execution = self._executions.read(tenant, execution_id)
        if position is None:
            position = start_of_sweep(execution)
        while self._backoff.has_time(TIME_FOR_A_PAGE_MS):
            page = self._cancellation.cancel_page(tenant, execution_id, position)
            if page is None or page.last is None:
                return
            position = replace(position, after=page.last)
        self._queue.send([AdvanceMessage(Advance.CANCEL, tenant, execution_id, position=position)])

    def _sweep_outcome(
        self, execution: Execution, position: SweepPosition
    ) -> tuple[ExecutionStatus | None, SweepPosition | None]:
        """Read tasks from a position on, while there is time.

        Returns
        -------
        ExecutionStatus or None, SweepPosition or None
            The outcome by all tasks up to the position; None if one is open, or has failed the execution. The position
            is None after the last page.
        """
        while True:
            page = self._tasks.page(execution.tenant, execution.execution_id, position.after)
            if self._executions.fail_for(execution, page.tasks):
                return None, None
            outcome = execution_outcome(page.tasks, position.outcome)
            if outcome is None or page.last is None:
                return outcome, None
            position = replace(position, after=page.last, outcome=outcome)
            if not self._backoff.has_time(TIME_FOR_A_PAGE_MS):
                return outcome, position
