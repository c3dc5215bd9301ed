"""Repair of one execution: what a lost timer or a lost event left behind is continued from the table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from tasklatch.domain.advance import Advance, AdvanceMessage
from tasklatch.domain.dependencies import is_terminal, retries_exhausted
from tasklatch.domain.errors import NotFoundError, ServiceBusyError
from tasklatch.domain.execution import Execution
from tasklatch.domain.later_values import is_known
from tasklatch.domain.overdue import OVERDUE_MS, is_overdue
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.items import Item, key_of
from tasklatch.dynamodb.queries import list_query
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.executions.execution_tasks import ExecutionTasks, tasks_query
from tasklatch.executions.running_executions import RunningExecutions
from tasklatch.retries.lost_changes import LostChanges
from tasklatch.retries.planner import RetryPlanner
from tasklatch.retries.unfinished_list import UnfinishedList
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.observability import logger
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.advance_queue import AdvanceQueue
from tasklatch.workflow.advancer import WorkflowAdvancer
from tasklatch.workflow.closer import ExecutionCloser
from tasklatch.workflow.reopener import ExecutionReopener
from tasklatch.workflow.slot_assigner import SlotAssigner

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_TASKS_A_PAGE: Final = 100


@dataclass(slots=True)
class ReconcileSummary:
    """Counts of one run.

    Attributes
    ----------
    looked_at
        Open tasks and executions that were read.
    overdue_tasks
        Tasks that the run repaired: their timer was overdue, their end was not handled, or they were not scheduled.
    stuck_executions
        Executions that the run repaired: they had ended with open tasks, or had no open task and had not ended.
    lost_changes
        Changes that the run published because the stream had not.
    faults
        Steps that failed, and tasks that could not be read; the others went on.
    """

    looked_at: int = 0
    overdue_tasks: int = 0
    stuck_executions: int = 0
    lost_changes: int = 0
    faults: int = 0


@dataclass(frozen=True, slots=True)
class RepairServices:
    """Services that take the steps of a repair."""

    retry_planner: RetryPlanner
    advancer: WorkflowAdvancer
    closer: ExecutionCloser
    reopener: ExecutionReopener
    slot_assigner: SlotAssigner
    lost_changes: LostChanges
    advance_queue: AdvanceQueue


class ExecutionRepair:
    """Repair of an execution, a page of its tasks at a time. Every step is safe to repeat.

    Parameters
    ----------
    backoff
        Retry policy for a busy service.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        settings: Settings,
        services: RepairServices,
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._client = client
        self._table = settings.table_name
        self._retry_planner = services.retry_planner
        self._advancer = services.advancer
        self._closer = services.closer
        self._reopener = services.reopener
        self._slot_assigner = services.slot_assigner
        self._lost_changes = services.lost_changes
        self._advance_queue = services.advance_queue
        self._repaired_lines: set[tuple[str, str]] = set()
        self._unfinished = UnfinishedList(client, settings, backoff)
        self._tasks = ExecutionTasks(client, settings, backoff)
        self._running = RunningExecutions(client, settings, backoff)
        self._clock = clock
        self._backoff = backoff

    def repair(self, execution: Execution, tasks_after: Item | None, summary: ReconcileSummary) -> Item | None:
        """Repair what is overdue among a page of an execution's tasks, and the execution itself.

        Parameters
        ----------
        tasks_after
            Where the page starts: what the call before returned, None for the first.

        Returns
        -------
        Item or None
            Where the next page starts; None after the last.

        Raises
        ------
        ServiceBusyError
            If a service stays busy until the deadline.
        """
        summary.looked_at += tasks_after is None
        is_overdue_itself = self._clock() - execution.updated_at > OVERDUE_MS
        if execution.status is ExecutionStatus.RUNNING and execution.waiting_since is not None:
            if is_overdue_itself:
                self._repair_line(execution, summary)
            return None
        if execution.status is ExecutionStatus.RUNNING:
            if tasks_after is None and is_overdue_itself and execution.is_resuming:
                self._resume(execution, summary)
            return self._repair_running(execution, tasks_after, summary)
        if not is_overdue_itself or not is_known(execution.status):
            return None
        return self._repair_ended(execution, tasks_after, summary)

    def _repair_line(self, execution: Execution, summary: ReconcileSummary) -> None:
        """Give the free slots of an execution's key to those that wait; once a run is enough for all of them."""
        line = (execution.tenant, execution.concurrency_key or "")
        if line not in self._repaired_lines:
            self._repaired_lines.add(line)
            with _isolated(execution, summary):
                summary.stuck_executions += self._slot_assigner.repair(*line)

    def _repair_running(self, execution: Execution, tasks_after: Item | None, summary: ReconcileSummary) -> Item | None:
        tasks, following = self._open_tasks(execution, tasks_after, summary)
        now = self._clock()
        overdue = [task for task in tasks if is_overdue(task, now)]
        with _isolated(execution, summary):
            self._retry_planner.plan(overdue)
            summary.overdue_tasks += len(overdue)
        with _isolated(execution, summary):
            self._publish([task for task in tasks if task.status is TaskStatus.SCHEDULED], summary)
        for terminal in (task for task in tasks if is_terminal(task) and now - task.updated_at > OVERDUE_MS):
            # A task that is gone has nothing to advance
            with _isolated(execution, summary), suppress(NotFoundError):
                self._advance(terminal)
        with _isolated(execution, summary):
            self._schedule_waiting(execution, tasks, summary)
        with _isolated(execution, summary):
            self._create_children(tasks)
        has_open = following is not None or tasks_after is not None or any(not is_terminal(task) for task in tasks)
        if not has_open and not execution.keep_open and now - execution.updated_at > OVERDUE_MS:
            self._complete(execution, summary)
        return following

    def _open_tasks(
        self, execution: Execution, tasks_after: Item | None, summary: ReconcileSummary
    ) -> tuple[list[Task], Item | None]:
        """Read a page of the open tasks, which the index lists by their keys alone."""
        query = list_query(self._table, keys.open_list(execution.tenant, execution.execution_id))
        query |= {"Limit": _TASKS_A_PAGE} | ({"ExclusiveStartKey": tasks_after} if tasks_after is not None else {})
        page = self._backoff.run(partial(self._client.query, **query))
        item_keys: list[Item] = [key_of(entry) for entry in page["Items"]]
        items = batch_get(self._client, self._table, item_keys, self._backoff)
        tasks: list[Task] = []
        for item in items:
            with _isolated(execution, summary):
                tasks.append(task_from_item(item))
        summary.looked_at += len(items)
        return tasks, page.get("LastEvaluatedKey")

    def _advance(self, terminal: Task) -> None:
        tenant, execution_id = terminal.tenant, terminal.execution_id
        if self._advancer.schedule_dependents(tenant, execution_id, terminal.task_id):
            self._closer.complete_if_finished(tenant, execution_id)

    def _schedule_waiting(self, execution: Execution, tasks: Sequence[Task], summary: ReconcileSummary) -> None:
        """Schedule tasks that stayed pending although their dependencies have ended."""
        now = self._clock()
        waiting = [task for task in tasks if task.status is TaskStatus.PENDING and now - task.updated_at > OVERDUE_MS]
        if not waiting:
            return
        task_ids = [task.task_id for task in waiting]
        tenant, execution_id = execution.tenant, execution.execution_id
        dependencies = self._advancer.dependencies_of(tenant, execution_id, task_ids)
        self._publish([task for task in dependencies if is_terminal(task)], summary)
        self._retry_planner.plan(task for task in dependencies if not is_terminal(task) and is_overdue(task, now))
        summary.overdue_tasks += self._advancer.schedule_unblocked(tenant, execution_id, task_ids)

    def _create_children(self, tasks: Sequence[Task]) -> None:
        """Let the advancer complete the children of tasks that have been in progress for long, and these tasks.

        The advancer alone creates tasks.
        """
        now = self._clock()
        parents = [
            task
            for task in tasks
            if task.has_children and task.status is TaskStatus.IN_PROGRESS and now - task.updated_at > OVERDUE_MS
        ]
        self._advance_queue.send(
            AdvanceMessage(Advance.CHILDREN, task.tenant, task.execution_id, task.task_id) for task in parents
        )

    def _complete(self, execution: Execution, summary: ReconcileSummary) -> None:
        """End an execution that runs without open tasks: one was not sealed, or the completion was missed."""
        tasks = self._tasks.iterate(execution.tenant, execution.execution_id)
        self._retry_planner.plan(task for task in tasks if retries_exhausted(task) and not is_terminal(task))
        self._closer.complete_if_finished(execution.tenant, execution.execution_id)
        summary.stuck_executions += 1

    def _repair_ended(self, execution: Execution, tasks_after: Item | None, summary: ReconcileSummary) -> Item | None:
        """Cancel open tasks of an execution that has ended, publish lost changes, and take it off the list at last.

        An execution that a success has rescued runs again instead.
        """
        if tasks_after is None and self._tasks.has_open(execution.tenant, execution.execution_id):
            self._closer.cancel_open_tasks(execution.tenant, execution.execution_id)
            summary.stuck_executions += 1
            return None
        if tasks_after is None and self._resume(execution, summary):
            return None
        if tasks_after is None and execution.concurrency_key is not None:
            # Its slot is free before it leaves the reconciler's list
            self._slot_assigner.assign(execution.tenant, execution.concurrency_key, execution.execution_id)
        query = tasks_query(self._table, execution.tenant, execution.execution_id) | {"Limit": _TASKS_A_PAGE}
        if tasks_after is not None:
            query["ExclusiveStartKey"] = tasks_after
        page = self._backoff.run(partial(self._client.query, **query))
        left = self._publish([task_from_item(item) for item in page["Items"]], summary)
        if left:
            return None
        if "LastEvaluatedKey" not in page:
            self._running.remove(execution)
            self._unfinished.remove(execution)
        return page.get("LastEvaluatedKey")

    def _resume(self, execution: Execution, summary: ReconcileSummary) -> bool:
        """Continue an execution that a person retried, or whose failure a success took back; True if it runs again."""
        if not execution.is_resuming:
            return False
        is_resumed = False
        # A task that is gone takes no failure back
        with _isolated(execution, summary), suppress(NotFoundError):
            is_resumed = self._reopener.resume_if_rescued(execution.tenant, execution.execution_id)
        summary.stuck_executions += is_resumed
        return is_resumed

    def _publish(self, tasks: Sequence[Task], summary: ReconcileSummary) -> int:
        """Publish lost changes; return the number of those that are not published yet."""
        published, left = self._lost_changes.publish(tasks)
        summary.lost_changes += published
        return left


@contextmanager
def _isolated(execution: Execution, summary: ReconcileSummary) -> Iterator[None]:
    """Log and count an error of one step, so that the next ones are taken; without time left, none is."""
    try:
        yield
    except ServiceBusyError:
        raise
    except Exception:  # noqa: BLE001 - whatever it is, an alarm reports it
        fields = {"tenant": execution.tenant, "execution_id": execution.execution_id}
        logger.exception("step of reconciliation failed", extra=fields)
        summary.faults += 1
