"""Reading many items at once, as they stand now: what DynamoDB leaves unprocessed is asked for again."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tasklatch.aws.batch_put import chunks
from tasklatch.aws.patience import Patience
from tasklatch.aws.task_item import Item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_READS_A_CALL: Final = 100


def get_all(client: "DynamoDBClient", table: str, wanted: Iterable[Item], patience: Patience) -> list[Item]:
    """Read items by key, up to 100 a call; they come in no order, and those that are not there do not come.

    Parameters
    ----------
    wanted
        Keys, all different.

    Raises
    ------
    BusyError
        When the table would not answer in time.
    """
    items: list[Item] = []
    for chunk in chunks(wanted, _READS_A_CALL):
        request: Any = {table: {"Keys": chunk, "ConsistentRead": True}}
        for _ in patience.tries():
            answer = patience.call(partial(client.batch_get_item, RequestItems=request))
            items += answer["Responses"].get(table, [])
            request = answer["UnprocessedKeys"]
            if not request:
                break
    return items
