"""Scheduling of tasks that have no dependency left: their first attempts open."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tasklatch.domain.conditional_write import ConditionalWrite, system_write, unopened_failure_write
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tasklatch.executions.execution_tasks import ExecutionTasks
from tasklatch.ledger.ledger import Ledger
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.dependency_counters import DependencyCounters
from tasklatch.workflow.input_resolver import InputResolver

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class TaskScheduler:
    """Scheduling of tasks. Every step is safe to repeat.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff) -> None:
        self._clock = clock
        self._counters = DependencyCounters(client, settings, backoff)
        self._tasks = ExecutionTasks(client, settings, backoff)
        self._inputs = InputResolver(client, settings, clock, backoff)
        self._ledger = Ledger(client, settings, clock, backoff)

    def schedule(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> int:
        """Schedule those of these tasks that are pending and have no dependency left.

        A task whose input becomes too large or too deep once its references are resolved fails for good instead.

        Returns
        -------
        int
            Number of tasks that were ready, those that failed included.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        unique_ids = list(dict.fromkeys(task_ids))
        blocked = self._counters.blocked(tenant, execution_id, unique_ids)
        tasks = self._tasks.read(tenant, execution_id, (name for name in unique_ids if name not in blocked))
        ready = [task for task in tasks.values() if task.status is TaskStatus.PENDING]
        errors = self._inputs.resolve(ready)
        now = self._clock()
        writes = [_first_write(task, errors.get(task.task_id), now) for task in ready]
        self._ledger.write_all(tenant, execution_id, writes)
        return len(writes)


def _first_write(task: Task, input_error: str | None, now: int) -> ConditionalWrite:
    if input_error is not None:
        return unopened_failure_write(task, now=now, message=input_error)
    return system_write(task, TaskStatus.SCHEDULED, now=now)
