"""List of the executions that run, by group and version: a part of the index that only such executions are in."""

from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.batch_write import batched
from tasklatch.dynamodb.execution_item import execution_from_item
from tasklatch.dynamodb.items import Item, key_texts, primary_key, to_item
from tasklatch.dynamodb.pagination import paginate
from tasklatch.dynamodb.queries import begins_with, list_query
from tasklatch.dynamodb.update_expression import ItemUpdate
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_READS_A_CALL: Final = 25


class RunningExecutions:
    """Store of the list. It is a hint: an execution's own item says whether it runs.

    Only executions of a version of something are listed.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._table = settings.table_name
        self._backoff = backoff

    def contains(self, tenant: str, group: str, version: str | None = None) -> bool:
        """Return True if an execution of a group runs. The index follows writes within about a second.

        Parameters
        ----------
        version
            The version that it must have; None for any.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        of_version = begins_with(keys.running_list_sort(version)) if version is not None else None
        query = list_query(self._table, keys.running_list(tenant, group), of_version)
        for entries in batched(paginate(self._client, query, self._backoff), _READS_A_CALL):
            item_keys: list[Item] = [primary_key(key_texts(entry)[0], keys.EXECUTION_SK) for entry in entries]
            items = batch_get(self._client, self._table, item_keys, self._backoff)
            if any(execution_from_item(item).status is ExecutionStatus.RUNNING for item in items):
                return True
        return False

    def put(self, execution: Execution) -> None:
        """List an execution again that is to run again; nothing if it has no version.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        if execution.group is not None and execution.group_version is not None:
            self._update(execution, ItemUpdate(assigned=_listing(execution, execution.group), must_exist=False))

    def remove(self, execution: Execution) -> None:
        """Take an execution that has ended off the list; nothing if it has no version.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        if execution.group is not None and execution.group_version is not None:
            removed = (keys.LIST_KEY, keys.LIST_SORT)
            self._update(execution, ItemUpdate(assigned={}, removed=removed, must_exist=False))

    def _update(self, execution: Execution, update: ItemUpdate) -> None:
        request: dict[str, Any] = {"TableName": self._table, "Key": _key(execution), **update.expressions()}
        self._backoff.run(lambda: self._client.update_item(**request))


def running_item(execution: Execution, group: str) -> Item:
    """Return the item that lists an execution that runs."""
    return {**_key(execution), **_listing(execution, group)}


def _key(execution: Execution) -> Item:
    return primary_key(keys.execution_pk(execution.tenant, execution.execution_id), keys.RUNNING_SK)


def _listing(execution: Execution, group: str) -> Item:
    return to_item(
        {
            keys.LIST_KEY: keys.running_list(execution.tenant, group),
            keys.LIST_SORT: keys.running_list_sort(execution.group_version or "", execution.execution_id),
        }
    )
