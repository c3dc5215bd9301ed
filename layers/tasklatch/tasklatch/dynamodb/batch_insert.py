"""Inserting many items, each only if it is not there: creating is safe to repeat, and never resets anything."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.errors import ServiceBusyError
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_write import batched
from tasklatch.dynamodb.task_item import Item
from tasklatch.runtime.backoff import BUSY_CODES, Backoff
from tasklatch.runtime.concurrency import map_concurrently

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

STATEMENTS_A_CALL: Final = 25
"""BatchExecuteStatement takes no more."""


def batch_insert(client: "DynamoDBClient", table: str, items: Sequence[Item], backoff: Backoff) -> set[str]:
    """Insert items, 25 to a call and the calls side by side.

    Parameters
    ----------
    items
        Of one partition, all different.

    Returns
    -------
    set
        The sort keys of those that were there already and stay as they are.

    Raises
    ------
    ServiceBusyError
        When the table would not take them all in time.
    """
    waiting = {item[keys.SK]["S"]: _statement(table, item) for item in items}
    present: set[str] = set()
    for _ in backoff.attempts() if waiting else ():
        done: dict[str, bool] = {}
        for part in map_concurrently(partial(_send, client, waiting, backoff), batched(waiting, STATEMENTS_A_CALL)):
            done.update(part)
        present.update(name for name, was_there in done.items() if was_there)
        waiting = {name: statement for name, statement in waiting.items() if name not in done}
        if not waiting:
            break
    return present


def _statement(table: str, item: Item) -> dict[str, Any]:
    fields = ", ".join(f"'{name}': ?" for name in item)
    return {"Statement": f'INSERT INTO "{table}" VALUE {{{fields}}}', "Parameters": list(item.values())}


def _send(
    client: "DynamoDBClient", statements: Mapping[str, Any], backoff: Backoff, names: Sequence[str]
) -> dict[str, bool]:
    """Insert some; tell of those that are in the table now whether they were before."""
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
