"""The table's stream, as typed records of what happened to tasks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasklatch.aws import keys
from tasklatch.aws.task_item import task_of
from tasklatch.domain.task import Task
from tasklatch.observability import logger


@dataclass(frozen=True, slots=True)
class Change:
    """One applied transition of a task; `before` is None where the task was created."""

    task: Task
    before: Task | None


def change_of(record: Mapping[str, Any]) -> Change | None:
    """Read a record of the stream.

    Parameters
    ----------
    record
        As Lambda hands it over, with old and new image.

    Returns
    -------
    Change or None
        None for what is no applied change of a task: other items, heartbeats, what TTL removed.
    """
    images = record["dynamodb"]
    if "NewImage" not in images or not images["Keys"][keys.SK]["S"].startswith(keys.TASK_PREFIX):
        return None
    task = task_of(images["NewImage"])
    before = task_of(images["OldImage"]) if "OldImage" in images else None
    if before is not None and before.version == task.version:
        return None
    return Change(task, before)


def read_changes(records: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Change], list[str]]:
    """Read a batch of the stream.

    Returns
    -------
    dict, list
        The changes by sequence number, in order; and the sequence numbers of records that are not what this version
        of the service writes: they are logged, and nobody else's fault.
    """
    changes: dict[str, Change] = {}
    unreadable: list[str] = []
    for record in records:
        number = record["dynamodb"]["SequenceNumber"]
        try:
            change = change_of(record)
        except (AttributeError, KeyError, TypeError, ValueError):
            logger().exception("a record of the stream cannot be read", extra={"sequence_number": number})
            unreadable.append(number)
        else:
            if change is not None:
                changes[number] = change
    return changes, unreadable
