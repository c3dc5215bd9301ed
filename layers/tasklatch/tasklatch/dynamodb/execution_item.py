"""Conversion of an execution to an item of the table and back."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tasklatch.domain.execution import Execution
from tasklatch.domain.later_values import read_value
from tasklatch.domain.status import ExecutionStatus
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.task_item import Item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef


def execution_key(tenant: str, execution_id: str) -> Item:
    """Return the key of an execution's item."""
    return {keys.PK: {"S": keys.execution_pk(tenant, execution_id)}, keys.SK: {"S": keys.EXECUTION_SK}}


def execution_to_item(execution: Execution) -> Item:
    """Return the item of a new execution, keys included."""
    item: Item = {
        **execution_key(execution.tenant, execution.execution_id),
        keys.LIST_KEY: {"S": keys.execution_list(execution.tenant)},
        keys.LIST_SORT: {"S": keys.execution_list_sort(execution.created_at, execution.execution_id)},
        "tenant": {"S": execution.tenant},
        "executionId": {"S": execution.execution_id},
        "status": {"S": execution.status},
        "version": {"N": str(execution.version)},
        "createdAt": {"N": str(execution.created_at)},
        "updatedAt": {"N": str(execution.updated_at)},
        "definition": {"S": execution.definition},
    }
    if execution.name is not None:
        item["name"] = {"S": execution.name}
    if execution.metadata is not None:
        item["metadata"] = {"S": execution.metadata}
    if execution.group is not None:
        item["group"] = {"S": execution.group}
    if execution.group_version is not None:
        item["groupVersion"] = {"S": execution.group_version}
    if execution.has_attempt_index:
        item["namesTasksById"] = {"BOOL": True}
    if execution.keep_open:
        item["staysOpen"] = {"BOOL": True}
    return item


def group_to_item(execution: Execution, group: str) -> Item:
    """Return the item that lists an execution in its group."""
    return {
        keys.PK: {"S": keys.execution_pk(execution.tenant, execution.execution_id)},
        keys.SK: {"S": keys.GROUP_SK},
        keys.LIST_KEY: {"S": keys.group_list(execution.tenant, group)},
        keys.LIST_SORT: {"S": keys.execution_list_sort(execution.created_at, execution.execution_id)},
    }


def execution_from_item(item: "Mapping[str, AttributeValueTypeDef]") -> Execution:
    """Return the execution in an item."""
    return Execution(
        tenant=item["tenant"]["S"],
        execution_id=item["executionId"]["S"],
        status=read_value(ExecutionStatus, item["status"]["S"]),
        version=int(item["version"]["N"]),
        created_at=int(item["createdAt"]["N"]),
        updated_at=int(item["updatedAt"]["N"]),
        definition=item["definition"]["S"],
        name=item["name"]["S"] if "name" in item else None,
        metadata=item["metadata"]["S"] if "metadata" in item else None,
        ended_at=int(item["endedAt"]["N"]) if "endedAt" in item else None,
        reason=item["reason"]["S"] if "reason" in item else None,
        additions=int(item["additions"]["N"]) if "additions" in item else 0,
        group=item["group"]["S"] if "group" in item else None,
        group_version=item["groupVersion"]["S"] if "groupVersion" in item else None,
        has_attempt_index="namesTasksById" in item,
        keep_open="staysOpen" in item,
        deleted_at=int(item["deletedAt"]["N"]) if "deletedAt" in item else None,
    )
