"""Publication of changes: to the workflow advancer, the history, the event bus and the watchers."""

from collections.abc import Sequence
from typing import Any, Final

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.notifications.stream import AnyChange
from tasklatch.notifications.stream_consumer import StreamConsumer
from tasklatch.runtime.observability import FIRST_RECORD, logger, metrics
from tasklatch.runtime.services import EventServices

_NAME: Final = "notifier"


@logger.inject_lambda_context(correlation_id_path=FIRST_RECORD, clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process a batch of the table's stream; return the records that Lambda must deliver again."""
    services = EventServices(context.get_remaining_time_in_millis)

    def publish(changes: Sequence[AnyChange]) -> None:
        # First, as it repeats nothing that anybody sees if the publication is busy
        services.follow_ups.send(changes)
        services.change_publisher.publish(changes)

    return StreamConsumer(publish, services.set_aside_records(_NAME)).consume(event)
