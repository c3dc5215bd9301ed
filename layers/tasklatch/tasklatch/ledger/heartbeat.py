"""Heartbeats: the request that records one, and the reason for a worker to stop."""

from typing import Any, Final

from tasklatch.domain.conditional_write import heartbeat_interval
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.task_item import Item

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
    names = {"#pk": keys.PK, "#heartbeat": "heartbeatAt"}
    values: Item = {":now": {"N": str(now)}}
    update = "SET #heartbeat = :now"
    if attempt is not None:
        lowest, below = heartbeat_interval(attempt)
        names["#precedence"] = "precedence"
        values |= {":lowest": {"N": str(lowest)}, ":below": {"N": str(below)}}
        condition = "#precedence >= :lowest AND #precedence < :below"
    else:
        # The current attempt's number is not known, so the precedence interval cannot be computed
        names["#status"] = "status"
        values |= {f":{status}": {"S": status} for status in _UNDER_WAY}
        condition = f"#status IN ({', '.join(f':{status}' for status in _UNDER_WAY)})"
    if progress is not None:
        names["#progress"] = "progress"
        values[":progress"] = {"N": str(progress)}
        update += ", #progress = :progress"
    return {
        "TableName": table,
        "Key": key,
        "UpdateExpression": update,
        "ConditionExpression": f"attribute_exists(#pk) AND {condition}",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def stop_reason(task: Task, attempt: int | None) -> str:
    """Return the reason for which the worker of an attempt should stop; `attempt` is None for the current one."""
    if attempt is not None and attempt != task.attempt:
        return f"attempt {attempt} is stale: the current attempt is {task.attempt}"
    return f"the task is {task.status}"
