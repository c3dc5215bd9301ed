"""Publication of changes: to the history, the event bus and the watchers."""

from functools import partial
from typing import Any, Final

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.ledger.history import History
from tasklatch.ledger.payloads import Payloads
from tasklatch.notifications.broadcast import WatcherBroadcast
from tasklatch.notifications.event_bus import EventBus
from tasklatch.notifications.publisher import ChangePublisher
from tasklatch.notifications.set_aside import SetAsideRecords
from tasklatch.notifications.stream_consumer import StreamConsumer
from tasklatch.notifications.websockets import WebSocketConnections
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clients import dynamodb, events, live_callback, s3
from tasklatch.runtime.clock import system_clock
from tasklatch.runtime.observability import FIRST_RECORD, logger, metrics
from tasklatch.runtime.settings import get_settings

_NAME: Final = "notifier"


@logger.inject_lambda_context(correlation_id_path=FIRST_RECORD, clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process a batch of the table's stream; return the records that Lambda must deliver again."""
    backoff = Backoff(context.get_remaining_time_in_millis)
    set_aside = SetAsideRecords(s3, get_settings().stream_failures_bucket, _NAME, backoff)
    return StreamConsumer(_publisher(backoff).publish, set_aside).consume(event)


def _publisher(backoff: Backoff) -> ChangePublisher:
    client, settings = dynamodb(), get_settings()
    return ChangePublisher(
        History(client, settings, backoff),
        EventBus(events(), settings, backoff),
        WatcherBroadcast(
            WebSocketConnections(client, settings, system_clock, backoff),
            partial(live_callback, settings.live_callback_url),
            backoff,
        ),
        Payloads(client, settings, backoff),
    )
