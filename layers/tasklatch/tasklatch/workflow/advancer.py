"""Advance of an execution after a terminal task: its dependents are scheduled, or its execution fails."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tasklatch.domain.dependencies import fails_execution, is_terminal
from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.dynamodb.items import from_attribute
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.executions.execution_tasks import ExecutionTasks
from tasklatch.ledger.ledger import Ledger
from tasklatch.ledger.payloads import DEPENDS_ON
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.dependency_counters import DependencyCounters
from tasklatch.workflow.task_inputs import TaskInputs
from tasklatch.workflow.task_scheduler import TaskScheduler

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class WorkflowAdvancer:
    """Reaction to terminal tasks. Every step is safe to repeat.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff) -> None:
        self._executions = ExecutionTable(client, settings, clock, backoff)
        self._tasks = ExecutionTasks(client, settings, backoff)
        self._inputs = TaskInputs(client, settings, backoff)
        self._counters = DependencyCounters(client, settings, backoff)
        self._ledger = Ledger(client, settings, clock, backoff)
        self._scheduler = TaskScheduler(client, settings, clock, backoff)
        self._execution_cache: dict[tuple[str, str], Execution] = {}

    def schedule_dependents(self, tenant: str, execution_id: str, task_id: str, *, is_final: bool = False) -> bool:
        """Schedule the dependents of a task if it is terminal; if it fails its execution, fail the execution instead.

        Parameters
        ----------
        is_final
            True if the task has ended without a failure and can never be reopened: it is not read then.

        Returns
        -------
        bool
            True if the execution may be complete now, or no failure any more; one call of
            `ExecutionCloser.complete_if_finished` can follow many tasks. False also if dependents were ready: they end
            later than the task.

        Raises
        ------
        NotFoundError
            If the task does not exist, or its execution is not committed yet.
        ServiceBusyError
            If the table stays busy until the deadline; retry the call.
        """
        task = None if is_final else self._ledger.read(tenant, execution_id, task_id)
        if task is not None and not is_terminal(task):
            return False
        execution = self._cached_execution(tenant, execution_id)
        if execution.status is not ExecutionStatus.RUNNING:
            may_be_rescue = task is None or task.status is TaskStatus.COMPLETED
            return execution.failed_by is not None and may_be_rescue
        if execution.is_held_back:
            # All its tasks are read once it may schedule some, this one too
            return False
        if task is not None and fails_execution(task):
            self._executions.fail_for(execution, [task])
            return False
        dependents = self._counters.count_down(tenant, execution_id, task_id)
        return not self._scheduler.schedule(tenant, execution_id, dependents)

    def schedule_unblocked(self, tenant: str, execution_id: str, task_ids: Sequence[str]) -> int:
        """Schedule pending tasks of a running execution after counting down their terminal dependencies.

        This repairs dependencies that ended without being counted. If one of them fails the execution, the execution
        fails instead.

        Returns
        -------
        int
            Number of tasks that were ready.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        try:
            execution = self._executions.read(tenant, execution_id)
        except NotFoundError:
            return 0
        if execution.status is not ExecutionStatus.RUNNING or execution.is_held_back:
            return 0
        terminal = [task for task in self.dependencies_of(tenant, execution_id, task_ids) if is_terminal(task)]
        if self._executions.fail_for(execution, terminal):
            return 0
        for task in terminal:
            if not fails_execution(task):
                self._counters.count_down(tenant, execution_id, task.task_id)
        return self._scheduler.schedule(tenant, execution_id, task_ids)

    def dependencies_of(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> list[Task]:
        """Read the dependencies of tasks, as their definitions name them.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        inputs = self._inputs.read(tenant, execution_id, task_ids).values()
        names = {name for item in inputs if DEPENDS_ON in item for name in from_attribute(item[DEPENDS_ON])}
        return list(self._tasks.read(tenant, execution_id, names).values())

    def _cached_execution(self, tenant: str, execution_id: str) -> Execution:
        """Read an execution and, if it is running, cache it for the life of this object.

        An execution that ends after the read does no harm: its open tasks are sealed, and no write schedules a sealed
        task. That an ended one runs again, or one that is held back goes on, must not be missed.
        """
        key = (tenant, execution_id)
        execution = self._execution_cache.get(key) or self._executions.read(tenant, execution_id)
        if execution.status is ExecutionStatus.RUNNING and not execution.is_held_back:
            self._execution_cache[key] = execution
        return execution
