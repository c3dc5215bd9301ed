"""Reconciler: repairs tasks and executions that a lost timer or a lost event left behind.

The index lists open tasks and all executions. A run scans it page by page, from the position where the last run
stopped, while the function has time. So the cost of a run does not grow with the table, and a large table takes several
runs.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.dependencies import is_terminal, retries_exhausted
from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.execution import Execution
from tasklatch.domain.overdue import OVERDUE_MS, is_overdue
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.execution_item import execution_from_item
from tasklatch.dynamodb.items import Item, key_of, primary_key
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.executions.execution_tasks import ExecutionTasks
from tasklatch.retries.planner import RetryPlanner
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.advancer import WorkflowAdvancer
from tasklatch.workflow.closer import ExecutionCloser

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_ENTRIES_A_PAGE: Final = 100
_POSITION: Final[Item] = primary_key("RECONCILER", "RECONCILER")


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
    """

    looked_at: int = 0
    overdue_tasks: int = 0
    stuck_executions: int = 0


class Reconciler:
    """Repair of overdue tasks and stuck executions."""

    def __init__(
        self,
        client: "DynamoDBClient",
        settings: Settings,
        retry_planner: RetryPlanner,
        advancer: WorkflowAdvancer,
        closer: ExecutionCloser,
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._client = client
        self._table = settings.table_name
        self._retry_planner = retry_planner
        self._advancer = advancer
        self._closer = closer
        self._tasks = ExecutionTasks(client, settings, backoff)
        self._clock = clock
        self._backoff = backoff

    def run(self, has_time: Iterable[bool]) -> ReconcileSummary:
        """Continue from the position of the last run, at most to the end of the index.

        Parameters
        ----------
        has_time
            Yields one value for each page that there is still time for.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline; the next run starts at the same position.
        """
        summary = ReconcileSummary()
        position = self._read_position()
        for _ in has_time:
            request: dict[str, Any] = {
                "TableName": self._table,
                "IndexName": keys.LISTS_INDEX,
                "Limit": _ENTRIES_A_PAGE,
            }
            if position:
                request["ExclusiveStartKey"] = position
            page = self._backoff.run(partial(self._client.scan, **request))
            self._reconcile_page(page["Items"], summary)
            position = page.get("LastEvaluatedKey")
            if position is None:
                break
        self._write_position(position)
        return summary

    def _reconcile_page(self, entries: "Sequence[Item]", summary: ReconcileSummary) -> None:
        tasks, executions = self._read_page(entries)
        summary.looked_at += len(tasks) + len(executions)
        now = self._clock()
        overdue = [task for task in tasks if is_overdue(task, now)]
        self._retry_planner.plan(overdue)
        summary.overdue_tasks += len(overdue)
        for terminal in (task for task in tasks if is_terminal(task) and now - task.updated_at > OVERDUE_MS):
            # A task of an execution that was never committed has nothing to advance
            with suppress(NotFoundError):
                self._advancer.advance(terminal.tenant, terminal.execution_id, terminal.task_id)
        self._schedule_waiting(tasks, now, summary)
        self._close_executions(executions, now, summary)

    def _read_page(self, entries: "Sequence[Item]") -> tuple[list[Task], list[Execution]]:
        """Read the tasks and executions of a page of the index, which has only their keys."""
        item_keys = [
            key_of(entry)
            for entry in entries
            if entry[keys.SK]["S"] == keys.EXECUTION_SK or entry[keys.SK]["S"].startswith(keys.TASK_PREFIX)
        ]
        tasks: list[Task] = []
        executions: list[Execution] = []
        for item in batch_get(self._client, self._table, item_keys, self._backoff):
            if item[keys.SK]["S"] == keys.EXECUTION_SK:
                executions.append(execution_from_item(item))
            else:
                tasks.append(task_from_item(item))
        return tasks, executions

    def _schedule_waiting(self, tasks: Sequence[Task], now: int, summary: ReconcileSummary) -> None:
        """Schedule tasks that stayed pending although their dependencies have ended."""
        waiting: Mapping[tuple[str, str], list[str]] = defaultdict(list)
        for task in tasks:
            if task.status is TaskStatus.PENDING and now - task.updated_at > OVERDUE_MS:
                waiting[task.tenant, task.execution_id].append(task.task_id)
        for (tenant, execution_id), task_ids in waiting.items():
            dependencies = self._advancer.dependencies_of(tenant, execution_id, task_ids)
            self._retry_planner.plan(task for task in dependencies if not is_terminal(task) and is_overdue(task, now))
            summary.overdue_tasks += self._advancer.schedule_unblocked(tenant, execution_id, task_ids)

    def _close_executions(self, executions: Iterable[Execution], now: int, summary: ReconcileSummary) -> None:
        """Complete executions without open tasks, and cancel the open tasks of executions that have ended."""
        for execution in executions:
            if execution.status is ExecutionStatus.COMPLETED or now - execution.updated_at <= OVERDUE_MS:
                continue
            tenant, execution_id = execution.tenant, execution.execution_id
            has_open_tasks = self._tasks.has_open(execution)
            if execution.status is not ExecutionStatus.RUNNING:
                if has_open_tasks:
                    self._closer.cancel_open_tasks(tenant, execution_id)
                    summary.stuck_executions += 1
            elif not has_open_tasks and not execution.keep_open:
                # Running without open tasks: an exhausted task was not sealed, or its completion was missed
                tasks = self._tasks.iterate(tenant, execution_id)
                self._retry_planner.plan(task for task in tasks if retries_exhausted(task) and not is_terminal(task))
                self._closer.complete_if_finished(tenant, execution_id)
                summary.stuck_executions += 1

    def _read_position(self) -> Item | None:
        response = self._backoff.run(lambda: self._client.get_item(TableName=self._table, Key=_POSITION))
        return response["Item"]["position"]["M"] if "position" in response.get("Item", {}) else None  # type: ignore[return-value]

    def _write_position(self, position: Any) -> None:
        item: Item = {**_POSITION, **({"position": {"M": position}} if position else {})}
        self._backoff.run(lambda: self._client.put_item(TableName=self._table, Item=item))
