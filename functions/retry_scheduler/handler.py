"""What follows from a failure or a deadline: a timer for the next attempt, or the end of the task."""

from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse

from tasklatch.aws.clients import dynamodb, scheduler, sqs
from tasklatch.aws.follow_up import FollowUp
from tasklatch.aws.ledger import Ledger
from tasklatch.aws.patience import Patience
from tasklatch.aws.task_stream import read_changes
from tasklatch.aws.timers import Timers
from tasklatch.clock import system_clock
from tasklatch.domain.announcement import Change
from tasklatch.domain.errors import BusyError
from tasklatch.observability import logger
from tasklatch.settings import settings


def handler(event: dict[str, Any], context: Any) -> PartialItemFailureResponse:
    """Take a batch of the table's stream; report what could not be done, so that it comes again."""
    changes, failed = read_changes(event["Records"])
    tasks = {
        number: change.task
        for number, change in changes.items()
        if isinstance(change, Change) and not change.is_a_sign_of_life
    }
    try:
        _follow_up(Patience(context.get_remaining_time_in_millis)).follow(tasks.values())
    except BusyError as busy:
        logger().warning("timers are armed late", extra={"tasks": len(tasks), "detail": str(busy)})
        failed += tasks
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}


def _follow_up(patience: Patience) -> FollowUp:
    found = settings()
    return FollowUp(
        Ledger(dynamodb(), found, system_clock, patience),
        Timers(sqs(), scheduler(), found, system_clock, patience),
        system_clock,
    )
