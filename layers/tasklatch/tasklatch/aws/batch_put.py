"""Putting many items at once, none of them lost: what DynamoDB leaves unprocessed is put again."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

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

    def put(chunk: Sequence[Item]) -> None:
        request = {table: [{"PutRequest": {"Item": item}} for item in chunk]}
        for _ in patience.tries():
            answer = patience.call(partial(client.batch_write_item, RequestItems=request))  # type: ignore[arg-type]
            request = answer["UnprocessedItems"]  # type: ignore[assignment]
            if not request:
                break

    side_by_side(put, chunks(items, PUTS_A_CALL))
