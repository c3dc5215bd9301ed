"""Control of whole executions by a person: cancel, delete, retry."""

from typing import TYPE_CHECKING

from tasklatch.domain.conditional_write import manual_retry_write
from tasklatch.domain.dependencies import can_be_retried
from tasklatch.domain.errors import ConflictError, NotFoundError
from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.executions.execution_tasks import ExecutionTasks
from tasklatch.ledger.ledger import Ledger
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.advancer import WorkflowAdvancer
from tasklatch.workflow.closer import ExecutionCloser

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class ExecutionControl:
    """Changes of whole executions at a person's request.

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
        self._advancer = WorkflowAdvancer(client, settings, clock, backoff)
        self._closer = ExecutionCloser(client, settings, clock, backoff)

    def cancel(self, tenant: str, execution_id: str, reason: str | None) -> Execution:
        """Terminate a running execution; its open tasks are cancelled when that change arrives on the stream.

        An execution that is terminated already stays as it is.

        Raises
        ------
        NotFoundError
            If it does not exist.
        ConflictError
            If it has completed or failed.
        """
        execution = self._executions.read(tenant, execution_id)
        if execution.status is ExecutionStatus.RUNNING:
            self._executions.change_status(execution, ExecutionStatus.TERMINATED, reason)
            execution = self._executions.read(tenant, execution_id)
        if execution.status is not ExecutionStatus.TERMINATED:
            raise ConflictError(f"execution {execution_id!r} is already {execution.status}")
        return execution

    def delete(self, tenant: str, execution_id: str) -> None:
        """Terminate an execution if it is running, and mark it as deleted; its item and its history stay.

        Raises
        ------
        NotFoundError
            If it does not exist, or is deleted already.
        """
        execution = self._executions.read(tenant, execution_id)
        if execution.deleted_at is not None:
            raise NotFoundError("execution", execution_id)
        if execution.status is ExecutionStatus.RUNNING:
            self._executions.change_status(execution, ExecutionStatus.TERMINATED, "deleted")
        self._executions.mark_deleted(tenant, execution_id)

    def retry(self, tenant: str, execution_id: str) -> Execution:
        """Grant one more attempt to each failed or cancelled task, and set the execution to running again.

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
        self._closer.cancel_open_tasks(tenant, execution_id)
        now = self._clock()
        tasks = self._tasks.iterate(tenant, execution_id)
        writes = [manual_retry_write(task, now=now) for task in tasks if can_be_retried(task)]
        self._ledger.write_all(tenant, execution_id, writes)
        if not is_running:
            self._executions.change_status(execution, ExecutionStatus.RUNNING, None)
        tasks = self._tasks.iterate(tenant, execution_id)
        pending = [task.task_id for task in tasks if task.status is TaskStatus.PENDING]
        # A success that arrived after the execution's end has not been counted down yet
        self._advancer.schedule_unblocked(tenant, execution_id, pending)
        self._closer.complete_if_finished(tenant, execution_id)
        return self._executions.read(tenant, execution_id)
