"""Publication of changes: to the history, the event bus and the watchers."""

from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.domain.errors import ServiceBusyError
from tasklatch.notifications.publisher import ChangePublisher
from tasklatch.notifications.stream import read_changes
from tasklatch.runtime.observability import FIRST_RECORD, logger, metrics
from tasklatch.runtime.services import EventServices


@logger.inject_lambda_context(correlation_id_path=FIRST_RECORD, clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process a batch of the table's stream; return the failed records, so that Lambda retries them."""
    publisher: ChangePublisher = EventServices(context.get_remaining_time_in_millis).change_publisher
    changes, failed = read_changes(event["Records"])
    try:
        publisher.publish(list(changes.values()))
    except ServiceBusyError as busy:
        logger.warning("change publishing deferred", extra={"changes": len(changes), "detail": str(busy)})
        failed += changes
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}
