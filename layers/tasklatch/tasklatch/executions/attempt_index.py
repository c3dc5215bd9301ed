"""Index from an attempt's id to its task, for contracts whose requests carry only that id.

The ids of all attempts at a task contain one suffix, signed or not, so one pointer per task is enough. It is stored
when the task is created; opening an attempt writes nothing here.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from tasklatch.domain.attempt_id import attempt_id_suffix, parse_attempt_id
from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.dynamodb.expiry import with_expiry
from tasklatch.dynamodb.items import Item, from_attribute, primary_key, to_item
from tasklatch.runtime.attempt_ids import attempt_ids
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
            If it is not an attempt id that this deployment accepts, or no task has a pointer for it.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        parsed = parse_attempt_id(task_execution_id)
        for suffix in attempt_ids().suffixes(task_execution_id, tenant):
            item = self._get(tenant, suffix)
            if parsed is not None and item is not None:
                return AttemptRef(from_attribute(item["executionId"]), from_attribute(item["taskId"]), parsed[0])
        raise NotFoundError("task", task_execution_id)

    def _get(self, tenant: str, suffix: str) -> "Item | None":
        request: Any = {"TableName": self._settings.table_name, "Key": _key(tenant, suffix), "ConsistentRead": True}
        return self._backoff.run(lambda: self._client.get_item(**request)).get("Item")


def _pointer(task: Task) -> Item:
    return {
        **_key(task.tenant, attempt_id_suffix(task.tenant, task.execution_id, task.task_id)),
        **to_item({"executionId": task.execution_id, "taskId": task.task_id}),
    }


def _key(tenant: str, suffix: str) -> Item:
    return primary_key(keys.task_id_pk(tenant, suffix), keys.TASK_ID_SK)
