"""Consistent reads of many items at once: keys that DynamoDB leaves unprocessed are requested again."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from tasklatch.dynamodb.batch_write import batched
from tasklatch.dynamodb.items import Item
from tasklatch.runtime.backoff import Backoff, TryAgainError

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
        items += _read(client, table, chunk, backoff)
    return items


def _read(client: "DynamoDBClient", table: str, item_keys: Sequence[Item], backoff: Backoff) -> list[Item]:
    items: list[Item] = []
    request: Any = {table: {"Keys": item_keys, "ConsistentRead": True}}

    def read() -> None:
        nonlocal request
        response = client.batch_get_item(RequestItems=request)
        items.extend(response["Responses"].get(table, []))
        request = response["UnprocessedKeys"]
        if request:
            raise TryAgainError

    backoff.run(read)
    return items
