"""What timers do when they fire: the next attempt is opened, or a silent one timed out."""

from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse

from tasklatch.aws.clients import dynamodb, scheduler, sqs
from tasklatch.aws.dispatcher import TimerHandler
from tasklatch.aws.ledger import Ledger
from tasklatch.aws.patience import Backoff
from tasklatch.aws.queue import DeadLetters, process_records
from tasklatch.aws.timers import TimerScheduler, timer_from_message
from tasklatch.aws.workflow import WorkflowEngine
from tasklatch.clock import system_clock
from tasklatch.observability import logger
from tasklatch.settings import get_settings


def handler(event: dict[str, Any], context: Any) -> PartialItemFailureResponse:
    """Take timers from their queue; one that could not be served comes again or is set aside, alone."""
    backoff = Backoff(context.get_remaining_time_in_millis)
    timer_handler = _dispatcher(backoff)

    def fire(text: str) -> None:
        timer = timer_from_message(text)
        logger().info("timer", extra={"kind": timer.kind, "attempt": timer.attempt, "did": timer_handler.handle(timer)})

    return process_records(event["Records"], fire, DeadLetters(sqs, get_settings().dead_letter_queue_url, backoff))


def _dispatcher(backoff: Backoff) -> TimerHandler:
    client, settings = dynamodb(), get_settings()
    return TimerHandler(
        Ledger(client, settings, system_clock, backoff),
        WorkflowEngine(client, settings, system_clock, backoff),
        TimerScheduler(sqs(), scheduler(), settings, system_clock, backoff),
        system_clock,
    )
