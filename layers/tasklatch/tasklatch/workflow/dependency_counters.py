"""Counters of the dependencies that a task still waits for.

Each pair of a dependency and its dependent is one item, and each dependent has one counter of the dependencies that
remain; both change in one transaction. Once a task that brings others has started, its counter is that of its
children. So the cost of a terminal task depends on the number of its dependents, never on
the number of tasks in the execution.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import ClientError

from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.batch_write import batched
from tasklatch.dynamodb.expiry import with_expiry
from tasklatch.dynamodb.items import Item, from_attribute, from_item, key_of, primary_key, to_item
from tasklatch.dynamodb.pagination import paginate
from tasklatch.dynamodb.queries import begins_with, partition_query
from tasklatch.dynamodb.update_expression import ItemUpdate
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PAIRS_A_TRANSACTION: Final = 25
_OF_CHILDREN: Final = "ofChildren"
_HAS_ROOM: Final = "attribute_not_exists(broughtTasks) OR broughtTasks <= :room"


class Counter(NamedTuple):
    """Number of the tasks that a task still waits for; True if these are its children: it has started."""

    remaining: int
    is_of_children: bool


class DependencyCounters:
    """Store of the counters.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._settings = settings
        self._table = settings.table_name
        self._backoff = backoff

    def read(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> dict[str, Counter]:
        """Return the counters of tasks by task id; a task that never waited has none.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        pk = keys.execution_pk(tenant, execution_id)
        item_keys: list[Item] = [primary_key(pk, keys.waits_sk(task_id)) for task_id in task_ids]
        counters = batch_get(self._client, self._table, item_keys, self._backoff)
        return {
            values["taskId"]: Counter(values["remaining"], _OF_CHILDREN in values)
            for values in map(from_item, counters)
        }

    def count_children(self, parent: Task, count: int, *, now: int, max_tasks: int | None = None) -> bool:
        """Let a started task wait for its children, once, before they exist.

        Parameters
        ----------
        count
            Number of the children.
        now
            Milliseconds since the epoch.
        max_tasks
            The most tasks that the execution may get in this way, all together; None without a limit.

        Returns
        -------
        bool
            False if nothing was written: the task waits for its children already, or there would be too many tasks, or
            another write interfered.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        pk = keys.execution_pk(parent.tenant, parent.execution_id)
        counter = to_item({"taskId": parent.task_id, "remaining": count, _OF_CHILDREN: True})
        expiry = with_expiry({}, self._settings.expires_at(now))
        update = ItemUpdate(assigned=counter, initial=expiry, absent=(_OF_CHILDREN,), must_exist=False).expressions()
        actions: list[Any] = [
            {"Update": {"TableName": self._table, "Key": primary_key(pk, keys.waits_sk(parent.task_id)), **update}}
        ]
        if max_tasks is not None:
            actions.append({"Update": self._add_brought_tasks(pk, count, max_tasks)})
        return self._transact(actions)

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
        return self._transact(
            [action for pair in pairs for action in (self._mark_done(pair), self._decrement(pk, pair))]
        )

    def _transact(self, actions: Sequence[Any]) -> bool:
        """Write all actions or none; return False if a condition failed, or another write interfered."""
        try:
            self._backoff.run(partial(self._client.transact_write_items, TransactItems=actions))
        except ClientError as error:
            if error.response["Error"]["Code"] != "TransactionCanceledException":
                raise
            return False
        return True

    def _add_brought_tasks(self, pk: str, count: int, max_tasks: int) -> Any:
        return {
            "TableName": self._table,
            "Key": primary_key(pk, keys.EXECUTION_SK),
            "UpdateExpression": "ADD broughtTasks :count",
            "ConditionExpression": f"attribute_exists(#pk) AND ({_HAS_ROOM})",
            "ExpressionAttributeNames": {"#pk": keys.PK},
            "ExpressionAttributeValues": {":count": {"N": str(count)}, ":room": {"N": str(max_tasks - count)}},
        }

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
