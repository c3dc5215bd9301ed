"""List of the tasks that wait for workers, by queue.

An entry is two attributes of the task's own item, which the sparse index `work` sorts: every write that schedules a
task sets them, and every other removes them. The index is eventually consistent, so an entry is only a hint: the
conditional write that begins a task decides.
"""

from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from tasklatch.domain.claim import ClaimRequest, WorkEntry
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item, key_texts, sort_key_of
from tasklatch.dynamodb.queries import at_least, work_query
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.concurrency import map_concurrently
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ENTRIES_A_PAGE: Final = 16
"""They fit into half a read unit, 4 KB, where ids are short."""

_FIRST: Final = "0"
_LAST: Final = "~"
"""Sorts behind every digit, so behind all entries with the same prefix."""


class WorkList:
    """List of the tasks that wait for workers.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._table = settings.table_name
        self._backoff = backoff

    def read(self, request: ClaimRequest) -> list[WorkEntry]:
        """Read entries of a queue: the most urgent, of as many executions as a few queries find.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        parts = map_concurrently(partial(self._read_shard, request), range(keys.WORK_SHARDS))
        return [entry for part in parts for entry in part]

    def _read_shard(self, request: ClaimRequest, shard: int) -> list[WorkEntry]:
        list_key = keys.work_list(request.tenant, request.queue, shard)
        entries = self._query(list_key, _FIRST)
        if len(entries) < ENTRIES_A_PAGE:
            return entries
        # An execution with many tasks can fill the page: look behind it, and at a place that differs by request
        last = entries[-1]
        digest = last.sort.split("#")[1]
        anywhere = f"{Random(request.request_id).getrandbits(32):08x}"  # noqa: S311 - spreads load, guards nothing
        entries += self._query(list_key, f"{last.urgency}#{digest}#{_LAST}")
        return entries + self._query(list_key, f"{last.urgency}#{anywhere}")

    def _query(self, list_key: str, start: str) -> list[WorkEntry]:
        query = {**work_query(self._table, list_key, at_least(start)), "Limit": ENTRIES_A_PAGE}
        response = self._backoff.run(partial(self._client.query, **query))
        return [_entry(item) for item in response["Items"]]


def _entry(item: Item) -> WorkEntry:
    sort = sort_key_of(item, keys.WORK_SORT)
    return WorkEntry(*key_texts(item), sort[0], sort)
