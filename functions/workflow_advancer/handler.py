"""Consequences of terminal tasks and ended executions: schedule dependents, end executions, cancel, retry."""

from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.queue_records import process_records
from tasklatch.runtime.services import EventServices
from tasklatch.workflow.advance_queue import from_body
from tasklatch.workflow.message_handler import AdvanceHandler, short_first


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process messages of the advance queue; a failed one alone is retried or moved to the dead-letter queue."""
    services = EventServices(context.get_remaining_time_in_millis)
    advance: AdvanceHandler = services.advance_handler
    records = sorted(event["Records"], key=lambda record: short_first(record["body"]))
    return process_records(records, lambda body: advance.handle(from_body(body)), services.dead_letters)
