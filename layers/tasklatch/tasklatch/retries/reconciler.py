"""Reconciler: repairs tasks and executions that a lost timer or a lost event left behind.

A run goes through the list of unfinished executions, from the position where the last run stopped, while the function
has time. The position is kept page by page, and moves past an execution that cannot be repaired: no execution holds up
another for good.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tasklatch.domain.errors import ServiceBusyError
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.execution_item import execution_from_item
from tasklatch.dynamodb.items import Item, key_of, key_texts
from tasklatch.retries.execution_repair import ExecutionRepair, ReconcileSummary
from tasklatch.retries.unfinished_list import Position, UnfinishedList
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.observability import logger
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_EXECUTIONS_A_PAGE: Final = 25


class Reconciler:
    """Repair of overdue tasks and stuck executions.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, repair: ExecutionRepair, backoff: Backoff) -> None:
        self._client = client
        self._table = settings.table_name
        self._unfinished = UnfinishedList(client, settings, backoff)
        self._repair = repair
        self._backoff = backoff

    def run(self, has_time: Iterable[bool]) -> ReconcileSummary:
        """Continue from the position of the last run, at most to the end of the list.

        If the last run did not end by itself, this one takes one execution at a time and keeps the position behind it
        before it begins: an execution that kills the function is not met again before all others had their turn.

        Parameters
        ----------
        has_time
            Yields one value for each page that there is still time for.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline; the next run starts at the position that was kept last.
        """
        summary = ReconcileSummary()
        position: Position | None = self._unfinished.read_position()
        stored = position
        careful = _EXECUTIONS_A_PAGE if position is not None and position.is_interrupted else 0
        for _ in has_time:
            if position is None:
                break
            single = careful > 0 or position.tasks_after is not None
            entries = self._unfinished.read_page(position, 1 if single else _EXECUTIONS_A_PAGE)
            if entries:
                ahead = Position(position.shard, entries[-1]) if careful > 0 else position
                stored = replace(ahead, is_interrupted=True)
                self._unfinished.store_position(stored)
                careful -= 1
            position = self._reconcile_page(position, entries, summary)
        end = position or Position()
        if end != stored:
            self._unfinished.store_position(end)
        return summary

    def _reconcile_page(
        self, position: Position, entries: Sequence[Item], summary: ReconcileSummary
    ) -> Position | None:
        """Repair the executions of a page; return the position behind what was done, None at the end of the list."""
        if not entries:
            return Position(position.shard + 1) if position.shard + 1 < keys.SHARDS else None
        tasks_after, after = position.tasks_after, position.after
        for entry, item in self._read(entries):
            try:
                following = self._repair_one(item, tasks_after, summary) if item is not None else None
            except ServiceBusyError:
                # No time is left: the others keep their turn
                return Position(position.shard, entry)
            if following is not None:
                return Position(position.shard, after, following)
            tasks_after, after = None, entry
        return Position(position.shard, after)

    def _read(self, entries: Sequence[Item]) -> Iterator[tuple[Item, Item | None]]:
        """Yield each entry with its execution's item; None if it is gone or no longer on the list."""
        item_keys = [key_of(entry) for entry in entries]
        items = batch_get(self._client, self._table, item_keys, self._backoff)
        listed = {key_texts(item)[0]: item for item in items if keys.DUE_KEY in item}
        return ((entry, listed.get(key_texts(entry)[0])) for entry in entries)

    def _repair_one(self, item: Item, tasks_after: Item | None, summary: ReconcileSummary) -> Item | None:
        try:
            return self._repair.repair(execution_from_item(item), tasks_after, summary)
        except Exception as error:  # whatever it is, the other executions have their turn, and an alarm reports it
            logger.exception("execution not reconciled", extra={"execution": key_texts(item)[0]})
            summary.faults += 1
            if isinstance(error, ServiceBusyError):
                raise
            return None
