"""Tasks of one execution in the table: all of them, some by id, those in the index of open tasks."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.dependencies import is_terminal
from tasklatch.domain.execution import Execution
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.items import Item, key_of, primary_key
from tasklatch.dynamodb.pagination import paginate
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_OPEN_TASKS_A_PAGE: Final = 5


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

    def iterate_attribute(self, tenant: str, execution_id: str, attribute: str) -> Iterator[str]:
        """Yield one text attribute of each task of an execution; pages are read on demand."""
        query = tasks_query(self._table, tenant, execution_id)
        query["ProjectionExpression"] = "#attribute"
        query["ExpressionAttributeNames"]["#attribute"] = attribute
        return (item[attribute]["S"] for item in paginate(self._client, query, self._backoff))

    def read(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> dict[str, Task]:
        """Read tasks by id; tasks that do not exist are left out."""
        items = batch_get(self._client, self._table, task_keys(tenant, execution_id, task_ids), self._backoff)
        return {task.task_id: task for task in map(task_from_item, items)}

    def has_open(self, execution: Execution) -> bool:
        """Return True if one of the tasks in the index of open tasks is not terminal."""
        return any(not is_terminal(task) for task in self._iterate_open(execution))

    def _iterate_open(self, execution: Execution) -> Iterator[Task]:
        """Yield the tasks in the index of open tasks, each read from the table, a few at a time."""
        query: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": keys.LISTS_INDEX,
            "KeyConditionExpression": "#key = :key",
            "ExpressionAttributeNames": {"#key": keys.LIST_KEY},
            "ExpressionAttributeValues": {":key": {"S": keys.open_list(execution.tenant, execution.execution_id)}},
            "Limit": _OPEN_TASKS_A_PAGE,
        }
        while True:
            response = self._backoff.run(partial(self._client.query, **query))
            item_keys: list[Item] = [key_of(item) for item in response["Items"]]
            # Callers stop at the first open task, which is mostly the first entry: read the others only on demand
            for chunk in (item_keys[:1], item_keys[1:]):
                yield from map(task_from_item, batch_get(self._client, self._table, chunk, self._backoff))
            if "LastEvaluatedKey" not in response:
                return
            query["ExclusiveStartKey"] = response["LastEvaluatedKey"]


def tasks_query(table: str, tenant: str, execution_id: str) -> dict[str, Any]:
    """Return the arguments of DynamoDB's Query for the tasks of an execution, by id."""
    return {
        "TableName": table,
        "KeyConditionExpression": "#pk = :pk AND begins_with(#sk, :prefix)",
        "ExpressionAttributeNames": {"#pk": keys.PK, "#sk": keys.SK},
        "ExpressionAttributeValues": {
            ":pk": {"S": keys.execution_pk(tenant, execution_id)},
            ":prefix": {"S": keys.TASK_PREFIX},
        },
        "ConsistentRead": True,
    }


def task_keys(tenant: str, execution_id: str, task_ids: Iterable[str]) -> list[Item]:
    """Return the primary keys of tasks of an execution."""
    pk = keys.execution_pk(tenant, execution_id)
    return [primary_key(pk, keys.task_sk(task_id)) for task_id in task_ids]
