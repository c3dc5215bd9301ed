"""Reading a query to its end, page by page, as far as it is asked for."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from tasklatch.dynamodb.task_item import Item
from tasklatch.runtime.backoff import Backoff

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def paginate(client: "DynamoDBClient", query: Mapping[str, Any], backoff: Backoff) -> Iterator[Item]:
    """Give the items of all pages of a query; the next page is read when the last item of one was taken.

    Parameters
    ----------
    query
        Query's arguments.

    Raises
    ------
    ServiceBusyError
        When the table would not answer in time.
    """
    request = dict(query)
    while True:
        response = backoff.run(partial(client.query, **request))
        yield from response["Items"]
        if "LastEvaluatedKey" not in response:
            return
        request["ExclusiveStartKey"] = response["LastEvaluatedKey"]
