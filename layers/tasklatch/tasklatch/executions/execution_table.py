"""Executions in the table: consistent reads, the insert that commits an execution, and changes of its status."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from tasklatch.domain.concurrency import ConcurrencyLimit
from tasklatch.domain.dependencies import fails_execution, failure_summary
from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.dynamodb.execution_item import (
    execution_from_item,
    execution_key,
    execution_to_item,
    group_to_item,
    unfinished_entry,
)
from tasklatch.dynamodb.expiry import with_expiry
from tasklatch.dynamodb.items import Item, key_of, to_attribute, to_item
from tasklatch.dynamodb.transaction import transact
from tasklatch.dynamodb.update_expression import ItemUpdate
from tasklatch.executions.concurrency_slots import limit_action, line_action
from tasklatch.executions.running_executions import RunningExecutions, running_item
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
        self._running = RunningExecutions(client, settings, backoff)

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

    def read_all(self, tenant: str, execution_ids: Iterable[str]) -> list[Execution]:
        """Read executions by id with consistent reads; those that do not exist are left out.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        item_keys = [execution_key(tenant, execution_id) for execution_id in execution_ids]
        items = batch_get(self._client, self._settings.table_name, item_keys, self._backoff)
        return [execution_from_item(item) for item in items]

    def insert(self, execution: Execution, limit: ConcurrencyLimit | None = None) -> Execution | None:
        """Insert an execution, and list it in its group.

        Parameters
        ----------
        limit
            The limit of its concurrency key from now on; it waits in the line of that key.

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
            entries = [group_to_item(execution, execution.group)]
            if execution.group_version is not None:
                entries.append(running_item(execution, execution.group))
            batch_put(self._client, table, [with_expiry(entry, expires_at) for entry in entries], self._backoff)
        item = with_expiry(execution_to_item(execution), expires_at)
        if limit is not None:
            return self._insert_into_line(execution, limit, item)
        request: dict[str, Any] = {
            "TableName": table,
            "Item": item,
            "ConditionExpression": f"attribute_not_exists({keys.PK})",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            self._backoff.run(lambda: self._client.put_item(**request))
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            return execution_from_item(cast("dict[str, Any]", error.response)["Item"])
        return None

    def _insert_into_line(self, execution: Execution, limit: ConcurrencyLimit, item: Item) -> Execution | None:
        tenant, settings, key = execution.tenant, self._settings, key_of(item)
        assigned = {name: value for name, value in item.items() if name not in key}
        insert = ItemUpdate(assigned=assigned, absent=(keys.PK,), must_exist=False)
        actions = [
            {"Update": {"TableName": settings.table_name, "Key": key, **insert.expressions()}},
            line_action(settings, execution, execution.version),
            limit_action(settings, tenant, limit.key, limit.max_executions, execution.created_at),
        ]
        failed = transact(self._client, actions, self._backoff)
        return self.read(tenant, execution.execution_id) if failed else None

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
            "ExpressionAttributeValues": to_item({":one": 1, ":running": ExecutionStatus.RUNNING}),
        }
        return self._update(request)

    def change_status(
        self,
        execution: Execution,
        status: ExecutionStatus,
        reason: str | None,
        *,
        failed_by: str | None = None,
        unless_tasks_added: bool = False,
    ) -> bool:
        """End an execution with a status, unless its version has changed since it was read.

        Parameters
        ----------
        failed_by
            The task whose failure ends it.
        unless_tasks_added
            Make no change either if tasks were added after the read.

        Returns
        -------
        bool
            False if no change was made.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        request = _status_update(execution, status, {"reason": reason, "failedBy": failed_by}, self._clock())
        if unless_tasks_added:
            request["ConditionExpression"] += " AND (attribute_not_exists(additions) OR additions = :additions)"
            request["ExpressionAttributeValues"][":additions"] = to_attribute(execution.additions)
        is_changed = self._update(request)
        if is_changed:
            self._running.remove(execution)
        return is_changed

    def set_running(self, execution: Execution, *, failed_by: str | None = None) -> bool:
        """Set an execution that has ended to running again, unless its version has changed since it was read.

        One with a concurrency key waits for a slot first. A person's retry of it opens its tasks then, and not before.

        Parameters
        ----------
        failed_by
            The task whose failure had ended it, if a success takes that back.

        Returns
        -------
        bool
            False if no change was made.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        now = self._clock()
        waits = execution.concurrency_key is not None
        causes = {"reason": None, "failedBy": failed_by}
        held_back = to_item({"waitingSince": now, "reopens": failed_by is None or None}) if waits else {}
        request = _status_update(execution, ExecutionStatus.RUNNING, causes, now, held_back)
        self._running.put(execution)
        if not waits:
            return self._update(request)
        actions = [
            {"Update": {"TableName": self._settings.table_name, **request}},
            line_action(self._settings, execution, execution.version + 1),
        ]
        return not transact(self._client, actions, self._backoff)

    def mark_resumed(self, tenant: str, execution_id: str) -> bool:
        """Forget the failure of an execution that runs again; a concurrent completion fails its condition.

        Returns
        -------
        bool
            False if the execution has ended.
        """
        request: dict[str, Any] = {
            "Key": execution_key(tenant, execution_id),
            "UpdateExpression": "REMOVE #failed, #reopens ADD #additions :one",
            "ConditionExpression": "#status = :running",
            "ExpressionAttributeNames": {
                "#failed": "failedBy",
                "#reopens": "reopens",
                "#additions": "additions",
                "#status": "status",
            },
            "ExpressionAttributeValues": to_item({":one": 1, ":running": ExecutionStatus.RUNNING}),
        }
        return self._update(request)

    def fail_for(self, execution: Execution, tasks: Iterable[Task]) -> bool:
        """Fail a running execution if one of its tasks fails it and it is not kept open.

        Returns
        -------
        bool
            True if a task fails the execution.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        cause = None if execution.keep_open else next(filter(fails_execution, tasks), None)
        if cause is not None:
            self.change_status(execution, ExecutionStatus.FAILED, failure_summary(cause), failed_by=cause.task_id)
        return cause is not None

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
            "ExpressionAttributeValues": to_item({":now": self._clock()}),
        }
        self._backoff.run(lambda: self._client.update_item(**request))

    def _update(self, request: dict[str, Any]) -> bool:
        """Send an UpdateItem request; return False if its condition failed."""
        return self._backoff.run_conditional(
            lambda: self._client.update_item(TableName=self._settings.table_name, **request)
        )


def _status_update(
    execution: Execution,
    status: ExecutionStatus,
    causes: Mapping[str, str | None],
    now: int,
    held_back: Item | None = None,
) -> dict[str, Any]:
    """Return the arguments of UpdateItem, without the table, that change an execution's status from one version."""
    assigned = {**to_item({"status": status, "updatedAt": now, **causes}), **(held_back or {})}
    if status is ExecutionStatus.RUNNING:
        assigned |= unfinished_entry(execution.tenant, execution.execution_id, now)
    else:
        # It stays on the reconciler's list, which takes it off once nothing of it is left to do
        assigned["endedAt"] = assigned["updatedAt"]
    limited = ("waitingSince", "reopens") if execution.concurrency_key is not None else ()
    update = ItemUpdate(
        assigned=assigned,
        removed=[name for name in ("endedAt", *causes, *limited) if name not in assigned],
        conditions=[("version", "=", to_attribute(execution.version))],
        is_new_version=True,
    )
    return {"Key": execution_key(execution.tenant, execution.execution_id), **update.expressions()}
