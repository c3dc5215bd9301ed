"""Counters of the dependencies that a task still waits for.

Each pair of a dependency and its dependent is one item, and each dependent has one counter of the dependencies that
remain; both change in one transaction. So the cost of a terminal task depends on the number of its dependents, never on
the number of tasks in the execution.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.batch_write import batched
from tasklatch.dynamodb.items import Item, from_attribute, from_item, key_of, primary_key, to_item
from tasklatch.dynamodb.pagination import paginate
from tasklatch.dynamodb.queries import begins_with, partition_query
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PAIRS_A_TRANSACTION: Final = 25


class DependencyCounters:
    """Store of the counters.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._table = settings.table_name
        self._backoff = backoff

    def blocked(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> set[str]:
        """Return the ids of those tasks that have dependencies left.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        pk = keys.execution_pk(tenant, execution_id)
        item_keys: list[Item] = [primary_key(pk, keys.waits_sk(task_id)) for task_id in task_ids]
        counters = batch_get(self._client, self._table, item_keys, self._backoff)
        return {values["taskId"] for values in map(from_item, counters) if values["remaining"] > 0}

    def count_down(self, tenant: str, execution_id: str, task_id: str) -> list[str]:
        """Decrement the counters of a terminal task's dependents, each once.

        Returns
        -------
        list[str]
            The ids of all dependents, also of those counted before.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        pk = keys.execution_pk(tenant, execution_id)
        query = partition_query(self._table, pk, begins_with(keys.dependent_prefix(task_id)))

        def count_down() -> list[str]:
            pairs = list(paginate(self._client, query, self._backoff))
            remaining = [pair for pair in pairs if "done" not in pair]
            counted = [self._count_down_pairs(pk, chunk) for chunk in batched(remaining, _PAIRS_A_TRANSACTION)]
            if not all(counted):
                raise TryAgainError
            return [from_attribute(pair["taskId"]) for pair in pairs]

        return self._backoff.run(count_down)

    def _count_down_pairs(self, pk: str, pairs: Sequence[Item]) -> bool:
        """Count pairs down in one transaction; False if it was cancelled by a concurrent one: read the pairs again."""
        actions = [action for pair in pairs for action in (self._mark_done(pair), self._decrement(pk, pair))]
        try:
            self._backoff.run(partial(self._client.transact_write_items, TransactItems=actions))
        except ClientError as error:
            if error.response["Error"]["Code"] != "TransactionCanceledException":
                raise
            return False
        return True

    def _mark_done(self, pair: Item) -> Any:
        return {
            "Update": {
                "TableName": self._table,
                "Key": key_of(pair),
                "UpdateExpression": "SET #done = :yes",
                "ConditionExpression": "attribute_exists(#pk) AND attribute_not_exists(#done)",
                "ExpressionAttributeNames": {"#pk": keys.PK, "#done": "done"},
                "ExpressionAttributeValues": to_item({":yes": True}),
            },
        }

    def _decrement(self, pk: str, pair: Item) -> Any:
        return {
            "Update": {
                "TableName": self._table,
                "Key": primary_key(pk, keys.waits_sk(from_attribute(pair["taskId"]))),
                "UpdateExpression": "SET #remaining = #remaining - :one",
                "ConditionExpression": "attribute_exists(#pk)",
                "ExpressionAttributeNames": {"#pk": keys.PK, "#remaining": "remaining"},
                "ExpressionAttributeValues": to_item({":one": 1}),
            },
        }
