"""What timers do when they fire: the next attempt is opened, or a silent one timed out."""

from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse

from tasklatch.aws.clients import dynamodb, scheduler, sqs
from tasklatch.aws.dispatcher import Dispatcher
from tasklatch.aws.ledger import Ledger
from tasklatch.aws.patience import Patience
from tasklatch.aws.queue import DeadLetters, take_each
from tasklatch.aws.timers import Timers, timer_from
from tasklatch.aws.workflow import Workflow
from tasklatch.clock import system_clock
from tasklatch.observability import logger
from tasklatch.settings import settings


def handler(event: dict[str, Any], context: Any) -> PartialItemFailureResponse:
    """Take timers from their queue; one that could not be served comes again or is set aside, alone."""
    patience = Patience(context.get_remaining_time_in_millis)
    dispatcher = _dispatcher(patience)

    def fire(text: str) -> None:
        timer = timer_from(text)
        logger().info("timer", extra={"kind": timer.kind, "attempt": timer.attempt, "did": dispatcher.fire(timer)})

    return take_each(event["Records"], fire, DeadLetters(sqs, settings().dead_letter_queue_url, patience))


def _dispatcher(patience: Patience) -> Dispatcher:
    client, found = dynamodb(), settings()
    return Dispatcher(
        Ledger(client, found, system_clock, patience),
        Workflow(client, found, system_clock, patience),
        Timers(sqs(), scheduler(), found, system_clock, patience),
        system_clock,
    )
