"""From the id of an attempt alone to its task, for contracts that name nothing else.

All attempts at a task share most of their ids, so one pointer serves them all: it is put when the task is created, and
opening an attempt costs nothing more.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from tasklatch.aws import keys
from tasklatch.aws.batch_put import put_all
from tasklatch.aws.patience import Patience
from tasklatch.aws.task_item import Item
from tasklatch.domain.attempt import id_of_all_attempts, parts_of
from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.task import Task
from tasklatch.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class NamedAttempt(NamedTuple):
    """What an attempt's id says: whose it is, and which."""

    execution_id: str
    task_id: str
    attempt: int


class TaskPointers:
    """Where the pointers are kept.

    Parameters
    ----------
    patience
        How long to wait for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, patience: Patience) -> None:
        self._client = client
        self._settings = settings
        self._patience = patience

    def put(self, tasks: Iterable[Task], now: int) -> None:
        """Make tasks known by their attempts' ids; again is harmless.

        Parameters
        ----------
        now
            Milliseconds since the epoch.

        Raises
        ------
        BusyError
            When the table would not take them all in time.
        """
        expires_at = self._settings.expires_at(now)
        items: list[Item] = []
        for task in tasks:
            shared = id_of_all_attempts(task.tenant, task.execution_id, task.task_id)
            item: Item = {
                **_key(task.tenant, shared),
                "executionId": {"S": task.execution_id},
                "taskId": {"S": task.task_id},
            }
            if expires_at is not None:
                item["expiresAt"] = {"N": str(expires_at)}
            items.append(item)
        put_all(self._client, self._settings.table_name, items, self._patience)

    def find(self, tenant: str, task_execution_id: str) -> NamedAttempt:
        """Read whose attempt an id names; whether that attempt was opened is not told.

        Raises
        ------
        NotFoundError
            If it is no id of an attempt, or of no task that is known by it.
        BusyError
            If the table would not answer in time.
        """
        attempt, shared = parts_of(task_execution_id) or (0, "")
        if attempt == 0:
            raise NotFoundError("task", task_execution_id)
        key = _key(tenant, shared)
        answer = self._patience.call(
            lambda: self._client.get_item(TableName=self._settings.table_name, Key=key, ConsistentRead=True),
        )
        item = answer.get("Item")
        if item is None:
            raise NotFoundError("task", task_execution_id)
        return NamedAttempt(item["executionId"]["S"], item["taskId"]["S"], attempt)


def _key(tenant: str, shared: str) -> Item:
    return {keys.PK: {"S": keys.task_id_pk(tenant, shared)}, keys.SK: {"S": keys.TASK_ID_SK}}
