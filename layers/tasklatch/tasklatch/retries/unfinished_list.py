"""List of the executions that the reconciler checks, and its position in it.

An execution is on the list from its creation, or from a person's retry, until the reconciler has seen that it has ended
with nothing left to do. So a check costs what is running, and not what has ended.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.execution import Execution
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_key
from tasklatch.dynamodb.items import Item, from_attribute, primary_key, to_attribute, to_item
from tasklatch.dynamodb.update_expression import ItemUpdate
from tasklatch.retries.due_list import due_page_query
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_POSITION: Final[Item] = primary_key("RECONCILER", "RECONCILER")


@dataclass(frozen=True, slots=True)
class Position:
    """Position in the list.

    Attributes
    ----------
    shard
        The shard of the next execution.
    after
        The entry before the next execution; None at the start of the shard.
    tasks_after
        The key after which the tasks of the next execution follow; None if they have not been begun.
    is_interrupted
        True if the run that kept this position has not ended, or was killed.
    """

    shard: int = 0
    after: Item | None = None
    tasks_after: Item | None = None
    is_interrupted: bool = False


class UnfinishedList:
    """Store of the list and of the position in it. All methods raise `ServiceBusyError` if the table stays busy.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._table = settings.table_name
        self._backoff = backoff

    def read_page(self, position: Position, limit: int) -> list[Item]:
        """Return the entries that follow a position in its shard; none at the end of the shard."""
        list_key = keys.unfinished_list(position.shard)
        request = due_page_query(self._table, list_key, keys.LONGEST_TIME, position.after, limit)
        return self._backoff.run(partial(self._client.query, **request))["Items"]

    def remove(self, execution: Execution) -> None:
        """Take an execution off the list, unless its version has changed. The version stays the same."""
        update = ItemUpdate(
            assigned={},
            removed=(keys.DUE_KEY, keys.DUE_SORT),
            conditions=[("version", "=", to_attribute(execution.version))],
        )
        key = execution_key(execution.tenant, execution.execution_id)
        request: dict[str, Any] = {"TableName": self._table, "Key": key, **update.expressions()}
        self._backoff.run_conditional(partial(self._client.update_item, **request))

    def read_position(self) -> Position:
        """Return the position that was kept last; the start of the list if there is none."""
        response = self._backoff.run(
            lambda: self._client.get_item(TableName=self._table, Key=_POSITION, ConsistentRead=True)
        )
        item: Any = response.get("Item", {})
        return Position(
            shard=from_attribute(item["shard"]) if "shard" in item else 0,
            after=item["after"]["M"] if "after" in item else None,
            tasks_after=item["tasksAfter"]["M"] if "tasksAfter" in item else None,
            is_interrupted="interrupted" in item,
        )

    def store_position(self, position: Position) -> None:
        """Store a position."""
        item: Item = {**_POSITION, **to_item({"shard": position.shard, "interrupted": position.is_interrupted or None})}
        if position.after is not None:
            item["after"] = {"M": position.after}
        if position.tasks_after is not None:
            item["tasksAfter"] = {"M": position.tasks_after}
        self._backoff.run(lambda: self._client.put_item(TableName=self._table, Item=item))
