"""Finding what a lost timer or a lost announcement left behind, and driving it on.

The index lists the tasks that are open and all executions. It is read a page at a time, from where the last run
stopped, for as long as the function has time: so a run costs the same however much there is, and a large table is gone
through in several runs.
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
from tasklatch.dynamodb.task_item import Item, task_from_item
from tasklatch.retries.planner import RetryPlanner
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.engine import WorkflowEngine

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_ENTRIES_A_PAGE: Final = 100
_POSITION: Final[Item] = {keys.PK: {"S": "RECONCILER"}, keys.SK: {"S": "RECONCILER"}}


@dataclass(slots=True)
class ReconcileSummary:
    """What a run came across.

    Attributes
    ----------
    looked_at
        Open tasks and executions that were read.
    overdue_tasks
        Tasks whose timer should have fired, or whose end should have been noted, and that were driven on.
    stuck_executions
        Executions that nothing would have moved any more, and that were driven on.
    """

    looked_at: int = 0
    overdue_tasks: int = 0
    stuck_executions: int = 0


class Reconciler:
    """Goes through what is open."""

    def __init__(
        self,
        client: "DynamoDBClient",
        settings: Settings,
        retry_planner: RetryPlanner,
        workflow: WorkflowEngine,
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._client = client
        self._table = settings.table_name
        self._retry_planner = retry_planner
        self._workflow = workflow
        self._clock = clock
        self._patience = backoff

    def run(self, has_time: Iterable[bool]) -> ReconcileSummary:
        """Go on from where the last run stopped, to the end of the index at most.

        Parameters
        ----------
        has_time
            Gives something as long as there is time for another page.

        Raises
        ------
        ServiceBusyError
            When the table is too busy; the next run starts at the same place.
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
            page = self._patience.run(partial(self._client.scan, **request))
            self._reconcile_page(page["Items"], summary)
            position = page.get("LastEvaluatedKey")
            if position is None:
                break
        self._write_position(position)
        return summary

    def _reconcile_page(self, entries: "Sequence[Item]", summary: ReconcileSummary) -> None:
        item_keys = [
            {keys.PK: entry[keys.PK], keys.SK: entry[keys.SK]}
            for entry in entries
            if entry[keys.SK]["S"] == keys.EXECUTION_SK or entry[keys.SK]["S"].startswith(keys.TASK_PREFIX)
        ]
        tasks: list[Task] = []
        executions: list[Execution] = []
        for item in batch_get(self._client, self._table, item_keys, self._patience):
            if item[keys.SK]["S"] == keys.EXECUTION_SK:
                executions.append(execution_from_item(item))
            else:
                tasks.append(task_from_item(item))
        summary.looked_at += len(tasks) + len(executions)
        now = self._clock()
        overdue = [task for task in tasks if is_overdue(task, now)]
        self._retry_planner.plan(overdue)
        summary.overdue_tasks += len(overdue)
        for terminal in (task for task in tasks if is_terminal(task) and now - task.updated_at > OVERDUE_MS):
            # Of an execution that was never committed, nothing follows.
            with suppress(NotFoundError):
                self._workflow.advance(terminal.tenant, terminal.execution_id, terminal.task_id)
        self._schedule_waiting(tasks, now, summary)
        self._close_executions(executions, now, summary)

    def _schedule_waiting(self, tasks: Sequence[Task], now: int, summary: ReconcileSummary) -> None:
        """Schedule tasks that nothing holds up any more, though nobody scheduled them."""
        waiting: Mapping[tuple[str, str], list[str]] = defaultdict(list)
        for task in tasks:
            if task.status is TaskStatus.PENDING and now - task.updated_at > OVERDUE_MS:
                waiting[task.tenant, task.execution_id].append(task.task_id)
        for (tenant, execution_id), task_ids in waiting.items():
            awaited = self._workflow.dependencies_of(tenant, execution_id, task_ids)
            self._retry_planner.plan(task for task in awaited if not is_terminal(task) and is_overdue(task, now))
            summary.overdue_tasks += self._workflow.schedule_unblocked(tenant, execution_id, task_ids)

    def _close_executions(self, executions: Iterable[Execution], now: int, summary: ReconcileSummary) -> None:
        """End what is done, and cancel what is still open in what is over."""
        for execution in executions:
            if execution.status is ExecutionStatus.COMPLETED or now - execution.updated_at <= OVERDUE_MS:
                continue
            tenant, execution_id = execution.tenant, execution.execution_id
            has_open_tasks = self._workflow.has_open_tasks(execution)
            if execution.status is not ExecutionStatus.RUNNING:
                if has_open_tasks:
                    self._workflow.cancel_open_tasks(tenant, execution_id)
                    summary.stuck_executions += 1
            elif not has_open_tasks and not execution.keep_open:
                # Nothing of it is open and it is not over: what gave up was not sealed, or nobody counted.
                tasks = self._workflow.tasks(tenant, execution_id)
                self._retry_planner.plan(task for task in tasks if retries_exhausted(task) and not is_terminal(task))
                self._workflow.complete_if_finished(tenant, execution_id)
                summary.stuck_executions += 1

    def _read_position(self) -> Item | None:
        response = self._patience.run(lambda: self._client.get_item(TableName=self._table, Key=_POSITION))
        return response["Item"]["position"]["M"] if "position" in response.get("Item", {}) else None  # type: ignore[return-value]

    def _write_position(self, position: Any) -> None:
        item: Item = {**_POSITION, **({"position": {"M": position}} if position else {})}
        self._patience.run(lambda: self._client.put_item(TableName=self._table, Item=item))
