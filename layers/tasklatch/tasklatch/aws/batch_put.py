"""Putting or deleting many items at once, none left out: what DynamoDB leaves unprocessed is sent again."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from tasklatch.aws.patience import Patience
from tasklatch.aws.side_by_side import side_by_side
from tasklatch.aws.task_item import Item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PUTS_A_CALL = 25
T = TypeVar("T")


def chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut into lists of at most this size."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk


def put_all(client: "DynamoDBClient", table: str, items: Sequence[Item], patience: Patience) -> None:
    """Put items, each of a key of its own, 25 a call and the calls side by side.

    Raises
    ------
    BusyError
        When the table would not take them all in time.
    """
    _write_all(client, table, ({"PutRequest": {"Item": item}} for item in items), patience)


def delete_all(client: "DynamoDBClient", table: str, item_keys: Iterable[Item], patience: Patience) -> None:
    """Delete items by key, 25 a call and the calls side by side; one that is not there is no error.

    Raises
    ------
    BusyError
        When the table would not take them all in time.
    """
    _write_all(client, table, ({"DeleteRequest": {"Key": key}} for key in item_keys), patience)


def _write_all(client: "DynamoDBClient", table: str, writes: Iterable[Any], patience: Patience) -> None:
    def write(chunk: Sequence[Any]) -> None:
        request: Any = {table: chunk}
        for _ in patience.tries():
            request = patience.call(partial(client.batch_write_item, RequestItems=request))["UnprocessedItems"]
            if not request:
                break

    side_by_side(write, chunks(writes, PUTS_A_CALL))
