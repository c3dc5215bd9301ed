"""Reading many items at once, as they stand now: what DynamoDB leaves unprocessed is asked for again."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tasklatch.dynamodb.batch_write import batched
from tasklatch.dynamodb.task_item import Item
from tasklatch.runtime.backoff import Backoff

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_READS_A_CALL: Final = 100


def batch_get(client: "DynamoDBClient", table: str, item_keys: Iterable[Item], backoff: Backoff) -> list[Item]:
    """Read items by key, up to 100 a call; they come in no order, and those that are not there do not come.

    Parameters
    ----------
    wanted
        Keys, all different.

    Raises
    ------
    ServiceBusyError
        When the table would not answer in time.
    """
    items: list[Item] = []
    for chunk in batched(item_keys, _READS_A_CALL):
        request: Any = {table: {"Keys": chunk, "ConsistentRead": True}}
        for _ in backoff.attempts():
            response = backoff.run(partial(client.batch_get_item, RequestItems=request))
            items += response["Responses"].get(table, [])
            request = response["UnprocessedKeys"]
            if not request:
                break
    return items
