"""Handling of due timers: open the next attempt, or time out a silent one."""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.retries.timer_handler import TimerHandler
from tasklatch.retries.timer_scheduler import timer_from_message
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.queue_records import process_message
from tasklatch.runtime.services import EventServices


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Handle timers from their queue; a failed one alone is retried or moved to the dead-letter queue."""
    services = EventServices(context.get_remaining_time_in_millis)
    timer_handler: TimerHandler = services.timer_handler
    dead_letters = services.dead_letters

    def handle_timer(body: str) -> None:
        timer = timer_from_message(body)
        result = timer_handler.handle(timer)
        logger.info("timer handled", extra={"kind": timer.kind, "attempt": timer.attempt, "result": result})

    def handle_record(record: SQSRecord) -> None:
        process_message(record.message_id, record.body, handle_timer, dead_letters)

    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
    with processor(event["Records"], handle_record, context):
        processor.process()
    return processor.response()
