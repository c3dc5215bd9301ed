"""Entry of the executions of version 0.1.0 on the list of unfinished executions.

Versions from 0.2.0 on list an execution when they create it. Those that ran before an update are found by passes over
the index of all executions, until one pass has begun so long after the update that no old function could follow it.
"""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.execution_item import execution_from_item, execution_key, unfinished_entry
from tasklatch.dynamodb.items import Item, from_attribute, key_of, primary_key, sort_key_of, to_attribute, to_item
from tasklatch.dynamodb.update_expression import ItemUpdate
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

UPDATE_MS: Final = 3_600_000
"""Time in milliseconds after which an update of the stack is certainly over."""

_ENTRIES_A_PAGE: Final = 100
_STATE: Final[Item] = primary_key("RECONCILER", "ENLISTING")


class Enlisting:
    """Passes over the index of all executions; none is made once the last has ended.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff) -> None:
        self._client = client
        self._table = settings.table_name
        self._clock = clock
        self._backoff = backoff

    def run(self, has_time: Iterable[bool]) -> int:
        """Continue the pass, at most to its end; return the number of executions that were put on the list.

        Parameters
        ----------
        has_time
            Yields one value for each page that there is still time for.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline; the next run starts at the same place.
        """
        response = self._backoff.run(
            lambda: self._client.get_item(TableName=self._table, Key=_STATE, ConsistentRead=True)
        )
        state: Any = response.get("Item", {})
        if "done" in state:
            return 0
        now = to_attribute(self._clock())
        since, begun = state.get("since", now), state.get("begun", now)
        start, enlisted, is_over = state.get("after", {}).get("M"), 0, False
        for _ in has_time:
            entries, start = self._read_page(start)
            enlisted += self._enlist(entries)
            is_over = start is None
            if is_over:
                break
        after: Item = {"after": {"M": start}} if start else {}
        following: Item = {} if is_over else {"begun": begun, **after}
        if is_over and from_attribute(begun) - from_attribute(since) >= UPDATE_MS:
            following = to_item({"done": True})
        item: Item = {**_STATE, "since": since, **following}
        self._backoff.run(lambda: self._client.put_item(TableName=self._table, Item=item))
        return enlisted

    def _read_page(self, start: Item | None) -> tuple[list[Item], Item | None]:
        request: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": keys.LISTS_INDEX,
            "Limit": _ENTRIES_A_PAGE,
            **({"ExclusiveStartKey": start} if start else {}),
        }
        page = self._backoff.run(partial(self._client.scan, **request))
        return page["Items"], page.get("LastEvaluatedKey")

    def _enlist(self, entries: Iterable[Item]) -> int:
        item_keys = [key_of(entry) for entry in entries if sort_key_of(entry) == keys.EXECUTION_SK]
        items = batch_get(self._client, self._table, item_keys, self._backoff)
        unlisted = [item for item in items if keys.DUE_KEY not in item]
        running = [item for item in unlisted if from_attribute(item["status"]) == ExecutionStatus.RUNNING]
        return sum(self._put_on_list(execution_from_item(item)) for item in running)

    def _put_on_list(self, execution: Execution) -> bool:
        update = ItemUpdate(
            assigned=unfinished_entry(execution.tenant, execution.execution_id, execution.created_at),
            conditions=[("version", "=", to_attribute(execution.version))],
        )
        key = execution_key(execution.tenant, execution.execution_id)
        request: dict[str, Any] = {"TableName": self._table, "Key": key, **update.expressions()}
        return self._backoff.run_conditional(partial(self._client.update_item, **request))
