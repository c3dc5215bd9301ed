"""The table's stream, parsed into typed changes of tasks and executions."""

from collections.abc import Iterable, Mapping
from typing import Any

from tasklatch.domain.changes import Change, ExecutionChange
from tasklatch.domain.later_values import is_known
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_from_item
from tasklatch.dynamodb.items import sort_key_of
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.runtime.failure_reason import failure_reason
from tasklatch.runtime.observability import logger

AnyChange = Change | ExecutionChange


def parse_change(record: Mapping[str, Any]) -> AnyChange | None:
    """Parse a record of the stream.

    Parameters
    ----------
    record
        A DynamoDB stream record as Lambda delivers it, with old and new image.

    Returns
    -------
    Change, ExecutionChange or None
        None if the record is not an applied change: other items, heartbeats, items that TTL removed.
    """
    images = record["dynamodb"]
    if "NewImage" not in images:
        return None
    new, old = images["NewImage"], images.get("OldImage")
    if old is not None and old.get("version") == new.get("version"):
        return None
    sk = sort_key_of(images["Keys"])
    if sk.startswith(keys.TASK_PREFIX):
        task = task_from_item(new)
        if task.is_of_later_version:
            raise ValueError(f"task of a later version: status {task.status}, form {task.form}")
        return Change(task, task_from_item(old) if old else None)
    if sk == keys.EXECUTION_SK:
        execution = execution_from_item(new)
        if not is_known(execution.status):
            raise ValueError(f"execution of a later version: status {execution.status}")
        return ExecutionChange(execution, execution_from_item(old) if old else None)
    return None


def read_changes(records: Iterable[Mapping[str, Any]]) -> tuple[dict[str, AnyChange], dict[str, str]]:
    """Parse a batch of the stream.

    Returns
    -------
    dict, dict
        The changes by sequence number, in order; and the reasons, by sequence number, why this version of the service
        cannot parse a record. Those are logged, and do not stop the other records.
    """
    changes: dict[str, AnyChange] = {}
    invalid: dict[str, str] = {}
    for record in records:
        sequence_number = record["dynamodb"]["SequenceNumber"]
        try:
            change = parse_change(record)
        except Exception as error:  # noqa: BLE001 - whatever it is, the record is stored, and an alarm reports it
            logger.exception("invalid stream record", extra={"sequence_number": sequence_number})
            invalid[sequence_number] = failure_reason(error)
        else:
            if change is not None:
                changes[sequence_number] = change
    return changes, invalid
