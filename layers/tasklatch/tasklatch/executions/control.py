"""Control of whole executions by a person: cancel, delete."""

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tasklatch.domain.advance import start_of_sweep
from tasklatch.domain.errors import ConflictError, NotFoundError, ServiceBusyError
from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.cancellation import TaskCancellation

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MAX_CANCELLED_AT_ONCE: Final = 1_000
"""Number of tasks that a cancellation goes over before it is answered: four pages of a sweep."""


_MAX_READS: Final = 5


class ExecutionControl:
    """Changes of whole executions at a person's request.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff) -> None:
        self._executions = ExecutionTable(client, settings, clock, backoff)
        self._cancellation = TaskCancellation(client, settings, clock, backoff)

    def cancel(self, tenant: str, execution_id: str, reason: str | None) -> Execution:
        """Terminate a running execution, and cancel its open tasks.

        They are cancelled when this returns, except those after the first `MAX_CANCELLED_AT_ONCE` tasks: these are when
        the change arrives on the stream. An execution that is terminated already stays as it is.

        Raises
        ------
        NotFoundError
            If it does not exist.
        ConflictError
            If it has completed or failed.
        ServiceBusyError
            If the table stays busy until the deadline; retry the request.
        """
        execution = self._terminate(tenant, execution_id, reason)
        if execution.status is not ExecutionStatus.TERMINATED:
            raise ConflictError(f"execution {execution_id!r} is already {execution.status}")
        self._cancel_first(tenant, execution_id)
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
            self._terminate(tenant, execution_id, "deleted")
            self._cancel_first(tenant, execution_id)
        self._executions.mark_deleted(tenant, execution_id)

    def _terminate(self, tenant: str, execution_id: str, reason: str | None) -> Execution:
        """Terminate an execution if it runs, and return it as it is then."""
        for _ in range(_MAX_READS):
            execution = self._executions.read(tenant, execution_id)
            if execution.status is not ExecutionStatus.RUNNING:
                return execution
            # No change is made if it got its slot, or ended, since it was read
            self._executions.change_status(execution, ExecutionStatus.TERMINATED, reason)
        raise ServiceBusyError(f"execution {execution_id!r} kept changing while it was being terminated")

    def _cancel_first(self, tenant: str, execution_id: str) -> None:
        """Cancel the open ones of the first `MAX_CANCELLED_AT_ONCE` tasks of an execution that has ended."""
        position = start_of_sweep(self._executions.read(tenant, execution_id))
        left = MAX_CANCELLED_AT_ONCE
        while left > 0:
            page = self._cancellation.cancel_page(tenant, execution_id, position)
            if page is None or page.last is None:
                return
            left -= len(page.tasks)
            position = replace(position, after=page.last)
