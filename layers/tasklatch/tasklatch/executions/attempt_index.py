"""Index from an attempt's id to its task, for contracts whose requests carry only that id.

The ids of all attempts at a task share a suffix, so one pointer per task is enough. It is stored when the task is
created; opening an attempt writes nothing here.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from tasklatch.domain.attempt_id import attempt_id_suffix, parse_attempt_id
from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.dynamodb.expiry import with_expiry
from tasklatch.dynamodb.items import Item, primary_key
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class AttemptRef(NamedTuple):
    """Execution, task and number of an attempt."""

    execution_id: str
    task_id: str
    attempt: int


class AttemptIndex:
    """Store of the pointers from attempt ids to tasks.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._settings = settings
        self._backoff = backoff

    def put(self, tasks: Iterable[Task], now: int) -> None:
        """Store the pointers of tasks; safe to repeat.

        Parameters
        ----------
        now
            Milliseconds since the epoch.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline; some pointers may be stored.
        """
        expires_at = self._settings.expires_at(now)
        items = [with_expiry(_pointer(task), expires_at) for task in tasks]
        batch_put(self._client, self._settings.table_name, items, self._backoff)

    def find(self, tenant: str, task_execution_id: str) -> AttemptRef:
        """Find the attempt of an id; the attempt may not have been opened.

        Raises
        ------
        NotFoundError
            If it is not an attempt id, or no task has a pointer for it.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        attempt, suffix = parse_attempt_id(task_execution_id) or (0, "")
        if attempt == 0:
            raise NotFoundError("task", task_execution_id)
        key = _key(tenant, suffix)
        response = self._backoff.run(
            lambda: self._client.get_item(TableName=self._settings.table_name, Key=key, ConsistentRead=True),
        )
        item = response.get("Item")
        if item is None:
            raise NotFoundError("task", task_execution_id)
        return AttemptRef(item["executionId"]["S"], item["taskId"]["S"], attempt)


def _pointer(task: Task) -> Item:
    return {
        **_key(task.tenant, attempt_id_suffix(task.tenant, task.execution_id, task.task_id)),
        "executionId": {"S": task.execution_id},
        "taskId": {"S": task.task_id},
    }


def _key(tenant: str, suffix: str) -> Item:
    return primary_key(keys.task_id_pk(tenant, suffix), keys.TASK_ID_SK)
