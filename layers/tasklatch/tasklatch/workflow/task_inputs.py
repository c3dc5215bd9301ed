"""Input items of tasks: the input as it was sent, the dependencies, and the input with its references resolved."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.items import Item, key_of, primary_key, sort_key_of, to_item
from tasklatch.ledger.payloads import RESOLVED
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class TaskInputs:
    """Store of the input items.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._table = settings.table_name
        self._backoff = backoff

    def read(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> dict[str, Item]:
        """Read the input items of tasks by task id; a task without one is left out.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        pk = keys.execution_pk(tenant, execution_id)
        sort_keys = {keys.input_sk(task_id): task_id for task_id in task_ids}
        item_keys: list[Item] = [primary_key(pk, sk) for sk in sort_keys]
        items = batch_get(self._client, self._table, item_keys, self._backoff)
        return {sort_keys[sort_key_of(item)]: item for item in items}

    def put_resolved(self, item: Item, text: str) -> None:
        """Store the resolved input in its item, unless there is one already.

        Parameters
        ----------
        text
            JSON text of the input with its references resolved.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": key_of(item),
            "UpdateExpression": "SET #resolved = if_not_exists(#resolved, :resolved)",
            "ExpressionAttributeNames": {"#resolved": RESOLVED},
            "ExpressionAttributeValues": to_item({":resolved": text}),
        }
        self._backoff.run(lambda: self._client.update_item(**request))
