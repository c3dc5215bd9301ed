"""Handling of due timers: open the next attempt, or time out a silent one."""

from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.ledger.ledger import Ledger
from tasklatch.retries.timer_handler import TimerHandler
from tasklatch.retries.timer_scheduler import TimerScheduler, timer_from_message
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clients import dynamodb, scheduler, sqs
from tasklatch.runtime.clock import system_clock
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.queue_records import DeadLetters, process_records
from tasklatch.runtime.settings import get_settings
from tasklatch.workflow.engine import WorkflowEngine


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Handle timers from their queue; a failed one alone is retried or moved to the dead-letter queue."""
    backoff = Backoff(context.get_remaining_time_in_millis)
    timer_handler = _dispatcher(backoff)

    def fire(text: str) -> None:
        timer = timer_from_message(text)
        logger.info("timer", extra={"kind": timer.kind, "attempt": timer.attempt, "did": timer_handler.handle(timer)})

    return process_records(event["Records"], fire, DeadLetters(sqs, get_settings().dead_letter_queue_url, backoff))


def _dispatcher(backoff: Backoff) -> TimerHandler:
    client, settings = dynamodb(), get_settings()
    return TimerHandler(
        Ledger(client, settings, system_clock, backoff),
        WorkflowEngine(client, settings, system_clock, backoff),
        TimerScheduler(sqs(), scheduler(), settings, system_clock, backoff),
        system_clock,
    )
