"""Reading a query to its end, page by page, as far as it is asked for."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from tasklatch.aws.patience import Patience
from tasklatch.aws.task_item import Item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def pages(client: "DynamoDBClient", query: Mapping[str, Any], patience: Patience) -> Iterator[Item]:
    """Give the items of all pages of a query; the next page is read when the last item of one was taken.

    Parameters
    ----------
    query
        Query's arguments.

    Raises
    ------
    BusyError
        When the table would not answer in time.
    """
    request = dict(query)
    while True:
        answer = patience.call(partial(client.query, **request))
        yield from answer["Items"]
        if "LastEvaluatedKey" not in answer:
            return
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
