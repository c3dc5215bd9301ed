"""Transactions: several writes that take effect together, or none of them."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from tasklatch.runtime.aws_errors import CONDITION_FAILURE
from tasklatch.runtime.backoff import Backoff, TryAgainError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def transact(
    client: "DynamoDBClient", actions: Sequence[Any], backoff: Backoff, *, token: str | None = None
) -> list[bool]:
    """Write all or nothing; a conflict with another write is tried again.

    Parameters
    ----------
    token
        With it, a repeat after a lost response succeeds again; without it, it fails its own conditions.

    Returns
    -------
    list[bool]
        Empty if it was written; else, for each action, whether its condition failed.

    Raises
    ------
    ServiceBusyError
        If the table stays busy until the deadline.
    """
    arguments: Any = {"TransactItems": actions, **({"ClientRequestToken": token} if token is not None else {})}
    request = partial(client.transact_write_items, **arguments)

    def write() -> list[bool]:
        try:
            request()
        except ClientError as error:
            if error.response["Error"]["Code"] != "TransactionCanceledException":
                raise
            reasons = cast("dict[str, Any]", error.response)["CancellationReasons"]
            failed = [reason["Code"] == CONDITION_FAILURE for reason in reasons]
            if not any(failed):
                raise TryAgainError from error
            return failed
        return []

    return backoff.run(write)
