"""List of the timers that wait for longer than a queue can delay a message, by due time.

An entry of the list is two attributes of the task's own item, which the sparse index `due` sorts. Every write that
gives the task another status removes them, so the timers of attempts that ended leave nothing behind.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.timer import Timer
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item, key_of, key_texts, to_attribute, to_item
from tasklatch.dynamodb.queries import at_most, due_query
from tasklatch.dynamodb.update_expression import ItemUpdate
from tasklatch.ledger.task_table import task_key
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.concurrency import map_concurrently
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

_ENTRIES_A_PAGE: Final = 100


class DueList:
    """List of timers in the table.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._table = settings.table_name
        self._backoff = backoff

    def add(self, timer: Timer) -> None:
        """Put a timer on the list, in place of an earlier one of its task, unless the task has another status by now.

        The task's version stays the same.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        key = task_key(timer.tenant, timer.execution_id, timer.task_id)
        shard = keys.shard_of(*key_texts(key))
        lowest, below = timer.precedence_interval
        update = ItemUpdate(
            assigned=to_item({keys.DUE_KEY: keys.timer_list(shard), keys.DUE_SORT: keys.due_sort(timer.due)}),
            conditions=[("precedence", ">=", to_attribute(lowest)), ("precedence", "<", to_attribute(below))],
        )
        self._update(key, update)

    def read_page(self, shard: int, until: int, start: Item | None) -> "tuple[list[Item], Item | None]":
        """Return the entries of one shard that are due, earliest first: at most a page.

        Parameters
        ----------
        until
            Milliseconds since the epoch.
        start
            Where the page starts: what the page before it returned, None for the first.

        Returns
        -------
        list[Item], Item or None
            The entries, with the keys of their tasks; and where the next page starts, None after the last.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        request = due_page_query(self._table, keys.timer_list(shard), until, start, _ENTRIES_A_PAGE)
        response = self._backoff.run(partial(self._client.query, **request))
        return response["Items"], response.get("LastEvaluatedKey")

    def remove(self, entries: "Sequence[Item]") -> None:
        """Take entries off the list, unless their tasks have been listed anew.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline; some entries may be removed.
        """
        map_concurrently(self._remove, entries)

    def _remove(self, entry: Item) -> None:
        key = key_of(entry)
        conditions = [(keys.DUE_SORT, "=", entry[keys.DUE_SORT])]
        self._update(key, ItemUpdate(assigned={}, removed=(keys.DUE_KEY, keys.DUE_SORT), conditions=conditions))

    def _update(self, key: Item, update: ItemUpdate) -> None:
        self._backoff.run_conditional(
            partial(self._client.update_item, TableName=self._table, Key=key, **update.expressions())
        )


def due_page_query(table: str, list_key: str, until: int, start: Item | None, limit: int) -> dict[str, Any]:
    """Return the arguments of DynamoDB's Query for one page of a list in the due index, earliest first.

    Parameters
    ----------
    until
        Milliseconds since the epoch.
    start
        The entry after which the page starts, with its keys in the index; None for the first page.
    """
    query = {**due_query(table, list_key, at_most(keys.due_sort(until))), "Limit": limit}
    if start is not None:
        query["ExclusiveStartKey"] = start
    return query
