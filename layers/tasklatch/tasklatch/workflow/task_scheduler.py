"""Scheduling of tasks that have no dependency left: their first attempts open."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tasklatch.domain.conditional_write import ConditionalWrite, system_write, unopened_failure_write
from tasklatch.domain.parent_writes import parent_end_write, parent_start_write
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tasklatch.executions.execution_tasks import ExecutionTasks
from tasklatch.ledger.ledger import Ledger
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.dependency_counters import Counter, DependencyCounters
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

        A task that brings others starts instead, and is completed once all of its children have ended. A task whose
        input becomes too large or too deep once its references are resolved fails for good.

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
        counters = self._counters.read(tenant, execution_id, unique_ids)
        blocked = {name for name, counter in counters.items() if counter.remaining and not counter.is_of_children}
        tasks = self._tasks.read(tenant, execution_id, (name for name in unique_ids if name not in blocked))
        ready = [task for task in tasks.values() if _is_ready(task, counters.get(task.task_id))]
        errors = self._inputs.resolve(ready)
        now = self._clock()
        writes = [_next_write(task, counters.get(task.task_id), errors.get(task.task_id), now) for task in ready]
        self._ledger.write_all(tenant, execution_id, writes)
        return len(writes)


def _is_ready(task: Task, counter: Counter | None) -> bool:
    if task.status is TaskStatus.PENDING:
        return True
    return task.has_children and task.status is TaskStatus.IN_PROGRESS and _all_children_ended(counter)


def _all_children_ended(counter: Counter | None) -> bool:
    return counter is not None and counter.is_of_children and counter.remaining == 0


def _next_write(task: Task, counter: Counter | None, input_error: str | None, now: int) -> ConditionalWrite:
    if task.has_children and _all_children_ended(counter):
        return parent_end_write(task, now=now)
    if input_error is not None:
        return unopened_failure_write(task, now=now, message=input_error)
    if task.has_children:
        return parent_start_write(task, now=now)
    return system_write(task, TaskStatus.SCHEDULED, now=now)
