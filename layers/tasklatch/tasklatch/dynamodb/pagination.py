"""Lazy reading of all pages of a query."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from tasklatch.dynamodb.items import Item
from tasklatch.runtime.backoff import Backoff

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def paginate(client: "DynamoDBClient", query: Mapping[str, Any], backoff: Backoff) -> Iterator[Item]:
    """Yield the items of all pages of a query; a page is read only after all items of the previous one are consumed.

    Parameters
    ----------
    query
        Arguments of DynamoDB's Query.

    Raises
    ------
    ServiceBusyError
        If the table does not respond in time.
    """
    request = dict(query)
    while True:
        response = backoff.run(partial(client.query, **request))
        yield from response["Items"]
        if "LastEvaluatedKey" not in response:
            return
        request["ExclusiveStartKey"] = response["LastEvaluatedKey"]
