"""Continuation of executions that have ended: by a person's retry, or by a success that takes their failure back.

Both go over all tasks page by page while the function has time. Then a message in the advance queue carries the
position to the next invocation.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from tasklatch.domain.advance import Advance, AdvanceMessage, SweepPosition, start_of_sweep
from tasklatch.domain.conditional_write import manual_retry_write
from tasklatch.domain.dependencies import can_be_retried, is_cancelled_by_failure, is_rescued
from tasklatch.domain.errors import ConflictError
from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.dynamodb.batch_write import batched
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.executions.execution_tasks import ExecutionTasks, TaskPage
from tasklatch.ledger.ledger import Ledger
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.advance_queue import AdvanceQueue
from tasklatch.workflow.advancer import WorkflowAdvancer
from tasklatch.workflow.cancellation import TaskCancellation
from tasklatch.workflow.closer import TIME_FOR_A_PAGE_MS, ExecutionCloser

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_TASKS_A_CALL: Final = 100
"""Waiting tasks that are scheduled at a time: their inputs are read, up to 100 KB each."""


class ExecutionReopener:
    """Setting of executions to running again. Every step is safe to repeat.

    In a retry the tasks are reopened first, and then the execution runs: one that dies in between can be requested
    again. After a success that takes a failure back it is the other way round, because nobody requests that again.

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
        self._clock = clock
        self._backoff = backoff
        self._queue = queue
        self._executions = ExecutionTable(client, settings, clock, backoff)
        self._tasks = ExecutionTasks(client, settings, backoff)
        self._ledger = Ledger(client, settings, clock, backoff)
        self._advancer = WorkflowAdvancer(client, settings, clock, backoff)
        self._cancellation = TaskCancellation(client, settings, clock, backoff)
        self._closer = ExecutionCloser(client, settings, clock, backoff, queue)

    def retry(self, tenant: str, execution_id: str) -> tuple[Execution, bool]:
        """Grant one more attempt to each failed or cancelled task, and set the execution to running again.

        Returns
        -------
        Execution, bool
            The execution, and True if its tasks are reopened; False if the rest is handed to the advance queue.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        ConflictError
            If it is completed, or is running and not kept open.
        ServiceBusyError
            If the table stays busy until the deadline; retry the request.
        """
        execution = self._executions.read(tenant, execution_id)
        is_running = execution.status is ExecutionStatus.RUNNING
        if execution.status is ExecutionStatus.COMPLETED or (is_running and not execution.keep_open):
            raise ConflictError(f"execution {execution_id!r} is {execution.status}: nothing to retry")
        is_reopened = self._reopen(execution, start_of_sweep(execution))
        return self._executions.read(tenant, execution_id), is_reopened

    def reopen(self, tenant: str, execution_id: str, position: SweepPosition) -> None:
        """Continue a retry; nothing is reopened once the execution has ended again.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        ServiceBusyError
            If the table stays busy until the deadline; retry the call.
        """
        execution = self._executions.read(tenant, execution_id)
        if execution.version == position.version:
            self._reopen(execution, position)
        else:
            # It may run by the last write of an earlier delivery, which died before it scheduled anything
            self.schedule(tenant, execution_id)

    def schedule(self, tenant: str, execution_id: str, position: SweepPosition | None = None) -> None:
        """Schedule the waiting tasks of a running execution that have no dependency left, and end it if none is open.

        A success that arrived after the execution's end has not been counted down before.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        ServiceBusyError
            If the table stays busy until the deadline; retry the call.
        """
        execution = self._executions.read(tenant, execution_id)
        if not execution.is_active or (execution.is_resuming and self._resume(execution, None)):
            return
        position = _valid(position, execution)
        while self._backoff.has_time(TIME_FOR_A_PAGE_MS):
            page = self._tasks.page(tenant, execution_id, position.after)
            self._schedule_waiting(tenant, execution_id, page.tasks)
            if page.last is None:
                self._closer.complete_if_finished(tenant, execution_id)
                return
            position = replace(position, after=page.last)
        self._queue.send([AdvanceMessage(Advance.SCHEDULE, tenant, execution_id, position=position)])

    def resume_if_rescued(self, tenant: str, execution_id: str, position: SweepPosition | None = None) -> bool:
        """Set an execution to running again if the tasks that failed it have succeeded since.

        What only that failure cancelled gets one more attempt. What a person or a worker cancelled stays cancelled, and
        the execution stays failed. It runs before its tasks are open again, so that nobody who saw it failed cancels
        them; until then `failed_by` shows that there is more to do, whatever interrupts it.

        Returns
        -------
        bool
            True if it runs or waits for a slot, or if the rest is handed to the advance queue.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        ServiceBusyError
            If the table stays busy until the deadline; retry the call.
        """
        execution = self._executions.read(tenant, execution_id)
        if not self._may_be_rescued(execution):
            return self._resume(execution, position)
        position = _valid(position, execution)
        while self._backoff.has_time(TIME_FOR_A_PAGE_MS):
            page = self._cancellation.cancel_page(tenant, execution_id, position)
            if page is not None and not is_rescued(page.tasks, execution.failed_by or ""):
                return False
            if page is None or page.last is None:
                is_set = page is not None and self._executions.set_running(execution, failed_by=execution.failed_by)
                if is_set and execution.concurrency_key is not None:
                    # It goes on once it has a slot
                    return True
                return self._resume(self._executions.read(tenant, execution_id), None)
            position = replace(position, after=page.last)
        self._queue.send([AdvanceMessage(Advance.RESUME, tenant, execution_id, position=position)])
        return True

    def _may_be_rescued(self, execution: Execution) -> bool:
        """Return True if an execution is failed by a task that has succeeded since."""
        if execution.status is not ExecutionStatus.FAILED or execution.failed_by is None:
            return False
        if execution.deleted_at is not None:
            return False
        task = self._ledger.read(execution.tenant, execution.execution_id, execution.failed_by)
        return task.status is TaskStatus.COMPLETED

    def _resume(self, execution: Execution, position: SweepPosition | None) -> bool:
        """Reopen what a failure that was taken back cancelled, or a person retries; False if the execution may not run.

        Nothing of it is scheduled before all of that is done.
        """
        tenant, execution_id = execution.tenant, execution.execution_id
        if not execution.is_active:
            # One that waits goes on once it has a slot
            return execution.status is ExecutionStatus.RUNNING
        if not execution.is_resuming:
            # It may run by the last write of an earlier delivery, which died before it scheduled anything
            self.schedule(tenant, execution_id)
            return True
        position = _valid(position, execution)
        by_failure = partial(is_cancelled_by_failure, failed_by=execution.failed_by or "")
        while self._backoff.has_time(TIME_FOR_A_PAGE_MS):
            page = self._tasks.page(tenant, execution_id, position.after)
            # Read after its tasks: once this is done elsewhere, they may have failed since
            if execution.reopens and not self._still_reopens(execution):
                return False
            self._grant(execution, page, can_be_retried if execution.reopens else by_failure)
            if page.last is None:
                if not self._executions.mark_resumed(tenant, execution_id):
                    self._closer.cancel_open_tasks(tenant, execution_id)
                    return False
                self.schedule(tenant, execution_id)
                return True
            position = replace(position, after=page.last)
        self._queue.send([AdvanceMessage(Advance.RESUME, tenant, execution_id, position=position)])
        return True

    def _still_reopens(self, execution: Execution) -> bool:
        current = self._executions.read(execution.tenant, execution.execution_id)
        return current.reopens and current.version == execution.version

    def _grant(self, execution: Execution, page: TaskPage, needs_attempt: Callable[[Task], bool]) -> None:
        now = self._clock()
        writes = [manual_retry_write(task, now=now) for task in page.tasks if needs_attempt(task)]
        self._ledger.write_all(execution.tenant, execution.execution_id, writes)

    def _reopen(self, execution: Execution, position: SweepPosition) -> bool:
        """Reopen tasks from a position on, then let the execution run; False if the rest is handed on."""
        tenant, execution_id = execution.tenant, execution.execution_id
        while self._backoff.has_time(TIME_FOR_A_PAGE_MS):
            page = self._closed_page(execution, position)
            if page is None:
                return True
            waits = execution.concurrency_key is not None
            if not waits:
                self._grant(execution, page, can_be_retried)
            if page.last is None:
                if execution.status is not ExecutionStatus.RUNNING:
                    self._executions.set_running(execution)
                if not waits:
                    self.schedule(tenant, execution_id)
                return not waits
            position = replace(position, after=page.last)
        self._queue.send([AdvanceMessage(Advance.REOPEN, tenant, execution_id, position=position)])
        return False

    def _closed_page(self, execution: Execution, position: SweepPosition) -> TaskPage | None:
        """Return a page of which no task is open, unless the execution runs; None if the execution has changed."""
        tenant, execution_id = execution.tenant, execution.execution_id
        if execution.status is ExecutionStatus.RUNNING:
            return self._tasks.page(tenant, execution_id, position.after)
        return self._cancellation.cancel_page(tenant, execution_id, position)

    def _schedule_waiting(self, tenant: str, execution_id: str, tasks: Iterable[Task]) -> None:
        waiting = (task.task_id for task in tasks if task.status is TaskStatus.PENDING)
        for task_ids in batched(waiting, _TASKS_A_CALL):
            self._advancer.schedule_unblocked(tenant, execution_id, task_ids)


def _valid(position: SweepPosition | None, execution: Execution) -> SweepPosition:
    """Return a position if it holds for an execution as it was read, else the start of a sweep."""
    if position is None or position.version != execution.version:
        return start_of_sweep(execution)
    return position
