"""Heartbeats: the request that records one, and the reason for a worker to stop."""

from typing import Any, Final

from tasklatch.domain.conditional_write import heartbeat_interval
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tasklatch.dynamodb.items import Item, to_attribute, to_item
from tasklatch.dynamodb.task_item import FORM_ATTRIBUTE, HEARTBEAT_MARK
from tasklatch.dynamodb.update_expression import Condition, ItemUpdate

_UNDER_WAY: Final = (TaskStatus.SCHEDULED, TaskStatus.IN_PROGRESS)


def heartbeat_request(table: str, key: Item, attempt: int | None, progress: float | None, now: int) -> dict[str, Any]:
    """Return the arguments of UpdateItem. Its condition is that the attempt is scheduled or in progress.

    Parameters
    ----------
    attempt
        The attempt that is alive; None for the current attempt.
    progress
        Completed share of the work, 0 to 1.
    now
        Milliseconds since the epoch.
    """
    # The mark keeps the functions that follow the table's stream asleep
    assigned = to_item({"heartbeatAt": now, HEARTBEAT_MARK: 1, "progress": progress})
    conditions: list[Condition]
    if attempt is not None:
        lowest, below = heartbeat_interval(attempt)
        conditions = [("precedence", ">=", to_attribute(lowest)), ("precedence", "<", to_attribute(below))]
    else:
        # The current attempt's number is not known, so the precedence interval cannot be computed
        conditions = [("status", "IN", to_attribute(status)) for status in _UNDER_WAY]
    return {
        "TableName": table,
        "Key": key,
        **ItemUpdate(assigned=assigned, conditions=conditions, absent=(FORM_ATTRIBUTE,)).expressions(),
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def stop_reason(task: Task, attempt: int | None) -> str:
    """Return the reason for which the worker of an attempt should stop; `attempt` is None for the current one."""
    if attempt is not None and attempt != task.attempt:
        return f"attempt {attempt} is stale: the current attempt is {task.attempt}"
    return f"the task is {task.status}"
