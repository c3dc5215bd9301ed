"""Conversion of an execution to an item of the table and back."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tasklatch.domain.execution import Execution
from tasklatch.domain.later_values import read_value
from tasklatch.domain.status import ExecutionStatus
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item, Value, from_item, primary_key, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef


def execution_key(tenant: str, execution_id: str) -> Item:
    """Return the key of an execution's item."""
    return primary_key(keys.execution_pk(tenant, execution_id), keys.EXECUTION_SK)


def unfinished_entry(tenant: str, execution_id: str, now: int) -> Item:
    """Return the attributes that list an execution for the reconciler; `now` is in milliseconds since the epoch."""
    shard = keys.shard_of(keys.execution_pk(tenant, execution_id), keys.EXECUTION_SK)
    return to_item({keys.DUE_KEY: keys.unfinished_list(shard), keys.DUE_SORT: keys.due_sort(now)})


def execution_to_item(execution: Execution) -> Item:
    """Return the item of a new execution, keys included."""
    values: dict[str, Value | None] = {
        keys.LIST_KEY: keys.execution_list(execution.tenant),
        keys.LIST_SORT: keys.execution_list_sort(execution.created_at, execution.execution_id),
        "tenant": execution.tenant,
        "executionId": execution.execution_id,
        "status": execution.status,
        "version": execution.version,
        "createdAt": execution.created_at,
        "updatedAt": execution.updated_at,
        "definition": execution.definition,
        "name": execution.name,
        "metadata": execution.metadata,
        "group": execution.group,
        "groupVersion": execution.group_version,
        "namesTasksById": execution.has_attempt_index or None,
        "staysOpen": execution.keep_open or None,
        "queue": execution.queue,
        "priority": execution.priority,
        "concurrencyKey": execution.concurrency_key,
        "waitingSince": execution.waiting_since,
    }
    tenant, execution_id = execution.tenant, execution.execution_id
    listed = unfinished_entry(tenant, execution_id, execution.created_at)
    return {**execution_key(tenant, execution_id), **listed, **to_item(values)}


def group_to_item(execution: Execution, group: str) -> Item:
    """Return the item that lists an execution in its group."""
    listing = {
        keys.LIST_KEY: keys.group_list(execution.tenant, group),
        keys.LIST_SORT: keys.execution_list_sort(execution.created_at, execution.execution_id),
    }
    return {
        **primary_key(keys.execution_pk(execution.tenant, execution.execution_id), keys.GROUP_SK),
        **to_item(listing),
    }


def execution_from_item(item: "Mapping[str, AttributeValueTypeDef]") -> Execution:
    """Return the execution in an item."""
    values = from_item(item)
    return Execution(
        tenant=values["tenant"],
        execution_id=values["executionId"],
        status=read_value(ExecutionStatus, values["status"]),
        version=values["version"],
        created_at=values["createdAt"],
        updated_at=values["updatedAt"],
        definition=values["definition"],
        name=values.get("name"),
        metadata=values.get("metadata"),
        ended_at=values.get("endedAt"),
        reason=values.get("reason"),
        failed_by=values.get("failedBy"),
        additions=values.get("additions", 0),
        group=values.get("group"),
        group_version=values.get("groupVersion"),
        has_attempt_index="namesTasksById" in values,
        keep_open="staysOpen" in values,
        brought_tasks=values.get("broughtTasks", 0),
        deleted_at=values.get("deletedAt"),
        queue=values.get("queue"),
        priority=values.get("priority"),
        concurrency_key=values.get("concurrencyKey"),
        waiting_since=values.get("waitingSince"),
        started_at=values.get("startedAt"),
        slot=values.get("slot"),
        reopens="reopens" in values,
    )
