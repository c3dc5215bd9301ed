"""Puts and deletes of many items at once: items that DynamoDB leaves unprocessed are sent again."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from tasklatch.dynamodb.items import Item
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.concurrency import map_concurrently

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PUTS_A_CALL = 25
T = TypeVar("T")


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the values in lists of at most `size`."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk


def batch_put(client: "DynamoDBClient", table: str, items: Sequence[Item], backoff: Backoff) -> None:
    """Put items with different keys, 25 per call, with concurrent calls.

    Raises
    ------
    ServiceBusyError
        If the table does not accept all of them in time.
    """
    _batch_write(client, table, ({"PutRequest": {"Item": item}} for item in items), backoff)


def batch_delete(client: "DynamoDBClient", table: str, item_keys: Iterable[Item], backoff: Backoff) -> None:
    """Delete items by key, 25 per call, with concurrent calls; a missing item is no error.

    Raises
    ------
    ServiceBusyError
        If the table does not accept all of them in time.
    """
    _batch_write(client, table, ({"DeleteRequest": {"Key": key}} for key in item_keys), backoff)


def _batch_write(client: "DynamoDBClient", table: str, writes: Iterable[Any], backoff: Backoff) -> None:
    map_concurrently(partial(_write, client, table, backoff), batched(writes, PUTS_A_CALL))


def _write(client: "DynamoDBClient", table: str, backoff: Backoff, writes: Sequence[Any]) -> None:
    request: Any = {table: writes}

    def write() -> None:
        nonlocal request
        request = client.batch_write_item(RequestItems=request)["UnprocessedItems"]
        if request:
            raise TryAgainError

    backoff.run(write)
