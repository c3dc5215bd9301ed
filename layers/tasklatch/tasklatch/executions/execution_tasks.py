"""Tasks of one execution in the table: all of them, some by id, those in the index of open tasks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.dependencies import is_terminal
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.items import Item, from_attribute, key_of, primary_key, sort_key_of
from tasklatch.dynamodb.pagination import paginate
from tasklatch.dynamodb.queries import begins_with, list_query, partition_query
from tasklatch.dynamodb.task_item import COLUMNS, task_from_item
from tasklatch.dynamodb.update_expression import ItemUpdate
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.concurrency import map_concurrently
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_OPEN_TASKS_A_PAGE: Final = 5
TASKS_A_PAGE: Final = 250
"""Tasks of a page: a page is what one invocation holds in memory, and does at least."""


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Page of the tasks of an execution, by id.

    Attributes
    ----------
    last
        The sort key after which the next page starts; None if this is the last page.
    """

    tasks: Sequence[Task]
    last: str | None


class ExecutionTasks:
    """Reads of the tasks of an execution. All are consistent, and raise `ServiceBusyError` if the table stays busy.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._table = settings.table_name
        self._backoff = backoff

    def iterate(self, tenant: str, execution_id: str) -> Iterator[Task]:
        """Yield all tasks of an execution; pages are read on demand."""
        query = tasks_query(self._table, tenant, execution_id)
        return map(task_from_item, paginate(self._client, query, self._backoff))

    def page(self, tenant: str, execution_id: str, after: str | None) -> TaskPage:
        """Return the tasks of one page: those that follow a sort key, or the first."""
        query = {**tasks_query(self._table, tenant, execution_id), "Limit": TASKS_A_PAGE}
        if after is not None:
            query["ExclusiveStartKey"] = primary_key(keys.execution_pk(tenant, execution_id), after)
        response: Any = self._backoff.run(partial(self._client.query, **query))
        last = sort_key_of(response["LastEvaluatedKey"]) if "LastEvaluatedKey" in response else None
        return TaskPage([task_from_item(item) for item in response["Items"]], last)

    def iterate_attribute(self, tenant: str, execution_id: str, attribute: str) -> Iterator[str]:
        """Yield one text attribute of each task of an execution; pages are read on demand."""
        query = tasks_query(self._table, tenant, execution_id)
        query |= {"ProjectionExpression": "#attribute", "ExpressionAttributeNames": {"#attribute": attribute}}
        return (from_attribute(item[attribute]) for item in paginate(self._client, query, self._backoff))

    def read(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> dict[str, Task]:
        """Read tasks by id; tasks that do not exist are left out."""
        items = batch_get(self._client, self._table, task_keys(tenant, execution_id, task_ids), self._backoff)
        return {task.task_id: task for task in map(task_from_item, items)}

    def expect_dependents(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> None:
        """Note at tasks that others wait for them from now on; their versions stay the same."""
        removal = ItemUpdate(assigned={}, removed=[COLUMNS["follow_up"].attribute]).expressions()

        def remove(key: Item) -> None:
            self._backoff.run(partial(self._client.update_item, TableName=self._table, Key=key, **removal))

        map_concurrently(remove, task_keys(tenant, execution_id, task_ids))

    def has_open(self, tenant: str, execution_id: str, *, max_pages: int | None = None) -> bool:
        """Return True if one of the tasks in the index of open tasks is not terminal.

        Parameters
        ----------
        max_pages
            Number of pages of the index to read; all by default. Few of its entries are terminal, if any.
        """
        pages = islice(self._open_pages(tenant, execution_id), max_pages)
        return any(not is_terminal(task) for tasks in pages for task in tasks)

    def _open_pages(self, tenant: str, execution_id: str) -> Iterator[Iterator[Task]]:
        """Yield the pages of the index of open tasks, their tasks read from the table on demand."""
        query = {**list_query(self._table, keys.open_list(tenant, execution_id)), "Limit": _OPEN_TASKS_A_PAGE}
        while True:
            response = self._backoff.run(partial(self._client.query, **query))
            item_keys: list[Item] = [key_of(item) for item in response["Items"]]
            yield self._read_open(item_keys)
            if "LastEvaluatedKey" not in response:
                return
            query["ExclusiveStartKey"] = response["LastEvaluatedKey"]

    def _read_open(self, item_keys: Sequence[Item]) -> Iterator[Task]:
        # Callers stop at the first open task, which is mostly the first entry: read the others only on demand
        for chunk in (item_keys[:1], item_keys[1:]):
            yield from map(task_from_item, batch_get(self._client, self._table, chunk, self._backoff))


def tasks_query(table: str, tenant: str, execution_id: str) -> dict[str, Any]:
    """Return the arguments of DynamoDB's Query for the tasks of an execution, by id."""
    return partition_query(table, keys.execution_pk(tenant, execution_id), begins_with(keys.TASK_PREFIX))


def task_keys(tenant: str, execution_id: str, task_ids: Iterable[str]) -> list[Item]:
    """Return the primary keys of tasks of an execution."""
    pk = keys.execution_pk(tenant, execution_id)
    return [primary_key(pk, keys.task_sk(task_id)) for task_id in task_ids]
