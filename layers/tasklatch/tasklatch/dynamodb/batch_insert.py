"""Inserts of many items, each only if it does not exist: creation is safe to repeat and never resets an item."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.errors import ServiceBusyError
from tasklatch.dynamodb.batch_write import batched
from tasklatch.dynamodb.items import Item, sort_key_of
from tasklatch.runtime.aws_errors import BUSY_CODES
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.concurrency import map_concurrently

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

STATEMENTS_A_CALL: Final = 25
"""Limit of BatchExecuteStatement."""


def batch_insert(client: "DynamoDBClient", table: str, items: Sequence[Item], backoff: Backoff) -> set[str]:
    """Insert items, 25 per call, with concurrent calls.

    Parameters
    ----------
    items
        Items of one partition, all different.

    Returns
    -------
    set
        The sort keys of the items that existed already and stay unchanged.

    Raises
    ------
    ServiceBusyError
        If the table does not accept all of them in time.
    """
    waiting = {sort_key_of(item): _statement(table, item) for item in items}
    existing: set[str] = set()

    def insert() -> None:
        send = partial(_send, client, dict(waiting), backoff)
        for done in map_concurrently(send, batched(list(waiting), STATEMENTS_A_CALL)):
            existing.update(name for name, existed in done.items() if existed)
            for name in done:
                del waiting[name]
        if waiting:
            raise TryAgainError

    if waiting:
        backoff.run(insert)
    return existing


def _statement(table: str, item: Item) -> dict[str, Any]:
    fields = ", ".join(f"'{name}': ?" for name in item)
    return {"Statement": f'INSERT INTO "{table}" VALUE {{{fields}}}', "Parameters": list(item.values())}


def _send(
    client: "DynamoDBClient", statements: Mapping[str, Any], backoff: Backoff, names: Sequence[str]
) -> dict[str, bool]:
    """Insert one batch; return the items that are now in the table, each with True if it existed before."""
    request = [statements[name] for name in names]
    try:
        result = backoff.run(lambda: client.batch_execute_statement(Statements=request))
    except ServiceBusyError:
        return {}
    done = {}
    for name, response in zip(names, result["Responses"], strict=True):
        error = response.get("Error")
        if error is None or error["Code"] == "DuplicateItem":
            done[name] = error is not None
        elif error["Code"] not in BUSY_CODES:
            raise RuntimeError(f"DynamoDB refused a statement: {error['Code']}: {error['Message']}")
    return done
