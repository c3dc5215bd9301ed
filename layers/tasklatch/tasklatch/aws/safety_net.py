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

from tasklatch.aws import keys
from tasklatch.aws.batch_get import get_all
from tasklatch.aws.execution_item import execution_of
from tasklatch.aws.follow_up import FollowUp
from tasklatch.aws.patience import Patience
from tasklatch.aws.task_item import Item, task_of
from tasklatch.aws.workflow import Workflow
from tasklatch.clock import Clock
from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.execution import Execution
from tasklatch.domain.overdue import OVERDUE_MS, is_overdue
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.domain.workflow import gave_up, is_settled
from tasklatch.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_ENTRIES_A_PAGE: Final = 100
_POSITION: Final[Item] = {keys.PK: {"S": "RECONCILER"}, keys.SK: {"S": "RECONCILER"}}


@dataclass(slots=True)
class Found:
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


class SafetyNet:
    """Goes through what is open."""

    def __init__(
        self,
        client: "DynamoDBClient",
        settings: Settings,
        follow_up: FollowUp,
        workflow: Workflow,
        clock: Clock,
        patience: Patience,
    ) -> None:
        self._client = client
        self._table = settings.table_name
        self._follow_up = follow_up
        self._workflow = workflow
        self._clock = clock
        self._patience = patience

    def run(self, has_time: Iterable[bool]) -> Found:
        """Go on from where the last run stopped, to the end of the index at most.

        Parameters
        ----------
        has_time
            Gives something as long as there is time for another page.

        Raises
        ------
        BusyError
            When the table is too busy; the next run starts at the same place.
        """
        found = Found()
        position = self._read_position()
        for _ in has_time:
            request: dict[str, Any] = {
                "TableName": self._table,
                "IndexName": keys.LISTS_INDEX,
                "Limit": _ENTRIES_A_PAGE,
            }
            if position:
                request["ExclusiveStartKey"] = position
            page = self._patience.call(partial(self._client.scan, **request))
            self._look_at(page["Items"], found)
            position = page.get("LastEvaluatedKey")
            if position is None:
                break
        self._write_position(position)
        return found

    def _look_at(self, entries: "Sequence[Item]", found: Found) -> None:
        wanted = [
            {keys.PK: entry[keys.PK], keys.SK: entry[keys.SK]}
            for entry in entries
            if entry[keys.SK]["S"] == keys.EXECUTION_SK or entry[keys.SK]["S"].startswith(keys.TASK_PREFIX)
        ]
        tasks: list[Task] = []
        executions: list[Execution] = []
        for item in get_all(self._client, self._table, wanted, self._patience):
            if item[keys.SK]["S"] == keys.EXECUTION_SK:
                executions.append(execution_of(item))
            else:
                tasks.append(task_of(item))
        found.looked_at += len(tasks) + len(executions)
        now = self._clock()
        overdue = [task for task in tasks if is_overdue(task, now)]
        self._follow_up.follow(overdue)
        found.overdue_tasks += len(overdue)
        for settled in (task for task in tasks if is_settled(task) and now - task.updated_at > OVERDUE_MS):
            # Of an execution that was never committed, nothing follows.
            with suppress(NotFoundError):
                self._workflow.advance(settled.tenant, settled.execution_id, settled.task_id)
        self._start_waiting(tasks, now, found)
        self._close(executions, now, found)

    def _start_waiting(self, tasks: Sequence[Task], now: int, found: Found) -> None:
        """Schedule tasks that nothing holds up any more, though nobody scheduled them."""
        waiting: Mapping[tuple[str, str], list[str]] = defaultdict(list)
        for task in tasks:
            if task.status is TaskStatus.PENDING and now - task.updated_at > OVERDUE_MS:
                waiting[task.tenant, task.execution_id].append(task.task_id)
        for (tenant, execution_id), task_ids in waiting.items():
            awaited = self._workflow.awaited_by(tenant, execution_id, task_ids)
            self._follow_up.follow(task for task in awaited if not is_settled(task) and is_overdue(task, now))
            found.overdue_tasks += self._workflow.catch_up(tenant, execution_id, task_ids)

    def _close(self, executions: Iterable[Execution], now: int, found: Found) -> None:
        """End what is done, and cancel what is still open in what is over."""
        for execution in executions:
            if execution.status is ExecutionStatus.COMPLETED or now - execution.updated_at <= OVERDUE_MS:
                continue
            tenant, execution_id = execution.tenant, execution.execution_id
            has_open_tasks = self._workflow.has_open_tasks(execution)
            if execution.status is not ExecutionStatus.RUNNING:
                if has_open_tasks:
                    self._workflow.cancel_open_tasks(tenant, execution_id)
                    found.stuck_executions += 1
            elif not has_open_tasks and not execution.stays_open:
                # Nothing of it is open and it is not over: what gave up was not sealed, or nobody counted.
                tasks = self._workflow.tasks(tenant, execution_id)
                self._follow_up.follow(task for task in tasks if gave_up(task) and not is_settled(task))
                self._workflow.close_if_done(tenant, execution_id)
                found.stuck_executions += 1

    def _read_position(self) -> Item | None:
        answer = self._patience.call(lambda: self._client.get_item(TableName=self._table, Key=_POSITION))
        return answer["Item"]["position"]["M"] if "position" in answer.get("Item", {}) else None  # type: ignore[return-value]

    def _write_position(self, position: Any) -> None:
        item: Item = {**_POSITION, **({"position": {"M": position}} if position else {})}
        self._patience.call(lambda: self._client.put_item(TableName=self._table, Item=item))
