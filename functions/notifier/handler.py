"""What follows from a change of a task: its history is written."""

from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse

from tasklatch.aws.clients import dynamodb
from tasklatch.aws.history import History
from tasklatch.aws.patience import Patience
from tasklatch.aws.task_stream import Change, read_changes
from tasklatch.domain.errors import BusyError
from tasklatch.domain.history import change_entry
from tasklatch.observability import logger
from tasklatch.settings import settings


def handler(event: dict[str, Any], context: Any) -> PartialItemFailureResponse:
    """Take a batch of the table's stream; report what could not be done, so that it alone comes again."""
    changes, unreadable = read_changes(event["Records"])
    failed = [*unreadable, *_keep(changes, Patience(context.get_remaining_time_in_millis))]
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}


def _keep(changes: dict[str, Change], patience: Patience) -> list[str]:
    """Write the history of changes; give the sequence numbers of those that could not be written in time."""
    entries = [(change.task, change_entry(change.task, change.before)) for change in changes.values()]
    try:
        History(dynamodb(), settings(), patience).put(entries)
    except BusyError:
        logger().warning("history is late: the table is busy", extra={"changes": len(changes)})
        return list(changes)
    return []
