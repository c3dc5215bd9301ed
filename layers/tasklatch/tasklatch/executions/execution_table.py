"""Executions in the table: consistent reads, the insert that commits an execution, and changes of its status."""

from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.dynamodb.execution_item import execution_from_item, execution_key, execution_to_item, group_to_item
from tasklatch.dynamodb.expiry import with_expiry
from tasklatch.dynamodb.items import Item
from tasklatch.dynamodb.update_expression import ItemUpdate
from tasklatch.runtime.aws_errors import is_condition_failure
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class ExecutionTable:
    """Store of the executions themselves, without their tasks.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._backoff = backoff

    def read(self, tenant: str, execution_id: str) -> Execution:
        """Read an execution with a consistent read.

        Raises
        ------
        NotFoundError
            If it does not exist.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        key = execution_key(tenant, execution_id)
        response = self._backoff.run(
            lambda: self._client.get_item(TableName=self._settings.table_name, Key=key, ConsistentRead=True),
        )
        if "Item" not in response:
            raise NotFoundError("execution", execution_id)
        return execution_from_item(response["Item"])

    def insert(self, execution: Execution) -> Execution | None:
        """Insert an execution, and list it in its group.

        Returns
        -------
        Execution or None
            None if it was inserted; the stored execution if another request has inserted one with its id before.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        table, expires_at = self._settings.table_name, self._settings.expires_at(execution.created_at)
        if execution.group is not None:
            listed = with_expiry(group_to_item(execution, execution.group), expires_at)
            batch_put(self._client, table, [listed], self._backoff)
        request: dict[str, Any] = {
            "TableName": table,
            "Item": with_expiry(execution_to_item(execution), expires_at),
            "ConditionExpression": "attribute_not_exists(#pk)",
            "ExpressionAttributeNames": {"#pk": keys.PK},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            self._backoff.run(lambda: self._client.put_item(**request))
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            return execution_from_item(cast("dict[str, Any]", error.response)["Item"])
        return None

    def count_addition(self, tenant: str, execution_id: str) -> bool:
        """Count an addition of tasks, so that a concurrent completion fails its condition.

        Returns
        -------
        bool
            False if the execution has ended.
        """
        request: dict[str, Any] = {
            "Key": execution_key(tenant, execution_id),
            "UpdateExpression": "ADD #additions :one",
            "ConditionExpression": "#status = :running",
            "ExpressionAttributeNames": {"#additions": "additions", "#status": "status"},
            "ExpressionAttributeValues": {":one": {"N": "1"}, ":running": {"S": ExecutionStatus.RUNNING}},
        }
        return self._update(request)

    def change_status(
        self, execution: Execution, status: ExecutionStatus, reason: str | None, *, unless_tasks_added: bool = False
    ) -> None:
        """Change an execution's status, unless its version has changed since it was read.

        Parameters
        ----------
        unless_tasks_added
            Make no change either if tasks were added after the read.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        request = _status_update(execution, status, reason, self._clock())
        if unless_tasks_added:
            request["ConditionExpression"] += " AND (attribute_not_exists(additions) OR additions = :additions)"
            request["ExpressionAttributeValues"][":additions"] = {"N": str(execution.additions)}
        self._update(request)

    def mark_deleted(self, tenant: str, execution_id: str) -> None:
        """Mark an execution as deleted; its item and its history stay.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        request: dict[str, Any] = {
            "TableName": self._settings.table_name,
            "Key": execution_key(tenant, execution_id),
            "UpdateExpression": "SET #deleted = :now",
            "ConditionExpression": "attribute_exists(#pk)",
            "ExpressionAttributeNames": {"#deleted": "deletedAt", "#pk": keys.PK},
            "ExpressionAttributeValues": {":now": {"N": str(self._clock())}},
        }
        self._backoff.run(lambda: self._client.update_item(**request))

    def _update(self, request: dict[str, Any]) -> bool:
        """Send an UpdateItem request; return False if its condition failed."""
        try:
            self._backoff.run(lambda: self._client.update_item(TableName=self._settings.table_name, **request))
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            return False
        return True


def _status_update(execution: Execution, status: ExecutionStatus, reason: str | None, now: int) -> dict[str, Any]:
    """Return the arguments of UpdateItem, without the table, that change an execution's status from one version."""
    assigned: Item = {"status": {"S": status}, "updatedAt": {"N": str(now)}}
    if status is not ExecutionStatus.RUNNING:
        assigned["endedAt"] = assigned["updatedAt"]
    if reason is not None:
        assigned["reason"] = {"S": reason}
    update = ItemUpdate(
        assigned=assigned,
        removed=[name for name in ("endedAt", "reason") if name not in assigned],
        conditions=[("version", "=", {"N": str(execution.version)})],
        is_new_version=True,
    )
    return {"Key": execution_key(execution.tenant, execution.execution_id), **update.expressions()}
