"""Consistent reads of many items at once: keys that DynamoDB leaves unprocessed are requested again."""

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
    """Read items by key, up to 100 per call.

    Parameters
    ----------
    item_keys
        Keys, all different.

    Returns
    -------
    list
        The items that exist, in no particular order.

    Raises
    ------
    ServiceBusyError
        If the table does not respond in time.
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
