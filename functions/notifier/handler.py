"""Publication of changes: to the history, the event bus and the watchers."""

from functools import partial
from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.domain.errors import ServiceBusyError
from tasklatch.ledger.history import History
from tasklatch.ledger.payloads import Payloads
from tasklatch.notifications.event_bus import EventBus
from tasklatch.notifications.publisher import ChangePublisher
from tasklatch.notifications.stream import read_changes
from tasklatch.notifications.websockets import WebSocketConnections
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clients import dynamodb, events, live_callback
from tasklatch.runtime.clock import system_clock
from tasklatch.runtime.observability import FIRST_RECORD, logger, metrics
from tasklatch.runtime.settings import get_settings


@logger.inject_lambda_context(correlation_id_path=FIRST_RECORD, clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process a batch of the table's stream; return the failed records, so that Lambda retries them."""
    changes, failed = read_changes(event["Records"])
    try:
        _publisher(Backoff(context.get_remaining_time_in_millis)).publish(list(changes.values()))
    except ServiceBusyError as busy:
        logger.warning("change publishing deferred", extra={"changes": len(changes), "detail": str(busy)})
        failed += changes
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}


def _publisher(backoff: Backoff) -> ChangePublisher:
    client, settings = dynamodb(), get_settings()
    return ChangePublisher(
        History(client, settings, backoff),
        EventBus(events(), settings, backoff),
        WebSocketConnections(
            client, partial(live_callback, settings.live_callback_url), settings, system_clock, backoff
        ),
        Payloads(client, settings, backoff),
    )
