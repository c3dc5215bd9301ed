"""What follows from a change: its history is written, the event bus told, and those who watch."""

from functools import partial
from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse

from tasklatch.aws.announcer import Announcer
from tasklatch.aws.clients import dynamodb, events, live_callback
from tasklatch.aws.event_bus import EventBus
from tasklatch.aws.history import History
from tasklatch.aws.live import Live
from tasklatch.aws.patience import Patience
from tasklatch.aws.payloads import Payloads
from tasklatch.aws.task_stream import read_changes
from tasklatch.clock import system_clock
from tasklatch.domain.errors import BusyError
from tasklatch.observability import logger
from tasklatch.settings import settings


def handler(event: dict[str, Any], context: Any) -> PartialItemFailureResponse:
    """Take a batch of the table's stream; report what could not be done, so that it comes again."""
    changes, failed = read_changes(event["Records"])
    try:
        _announcer(Patience(context.get_remaining_time_in_millis)).announce(list(changes.values()))
    except BusyError as busy:
        logger().warning("changes are announced late", extra={"changes": len(changes), "detail": str(busy)})
        failed += changes
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}


def _announcer(patience: Patience) -> Announcer:
    client, found = dynamodb(), settings()
    return Announcer(
        History(client, found, patience),
        EventBus(events(), found, patience),
        Live(client, partial(live_callback, found.live_callback_url), found, system_clock, patience),
        Payloads(client, found, patience),
    )
