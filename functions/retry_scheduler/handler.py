"""Reactions to failures and deadlines: a timer for the next attempt, or the end of the task."""

from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.domain.changes import Change
from tasklatch.domain.errors import ServiceBusyError
from tasklatch.notifications.stream import read_changes
from tasklatch.retries.planner import RetryPlanner
from tasklatch.runtime.observability import FIRST_RECORD, logger, metrics
from tasklatch.runtime.services import EventServices


@logger.inject_lambda_context(correlation_id_path=FIRST_RECORD, clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process a batch of the table's stream; return the failed records, so that Lambda retries them."""
    retry_planner: RetryPlanner = EventServices(context.get_remaining_time_in_millis).retry_planner
    changes, failed = read_changes(event["Records"])
    tasks = {
        number: change.task
        for number, change in changes.items()
        if isinstance(change, Change) and not change.only_continues
    }
    try:
        retry_planner.plan(tasks.values())
    except ServiceBusyError as busy:
        logger.warning("timer scheduling deferred", extra={"tasks": len(tasks), "detail": str(busy)})
        failed += tasks
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}
