"""Reactions to failures and deadlines: a timer for the next attempt, or the end of the task."""

from collections.abc import Sequence
from typing import Any, Final

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.domain.changes import Change
from tasklatch.notifications.stream import AnyChange
from tasklatch.notifications.stream_consumer import StreamConsumer
from tasklatch.retries.planner import RetryPlanner
from tasklatch.runtime.observability import FIRST_RECORD, logger, metrics
from tasklatch.runtime.services import EventServices

_NAME: Final = "retry_scheduler"


@logger.inject_lambda_context(correlation_id_path=FIRST_RECORD, clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process a batch of the table's stream; return the records that Lambda must deliver again."""
    services = EventServices(context.get_remaining_time_in_millis)
    planner: RetryPlanner = services.retry_planner

    def plan(changes: Sequence[AnyChange]) -> list[AnyChange]:
        """Plan the changed tasks; return the changes of those that a busy service left undone."""
        planned = [change for change in changes if isinstance(change, Change) and not change.only_continues]
        left = planner.plan(change.task for change in planned)
        return [change for change in planned if change.task in left]

    return StreamConsumer(plan, services.set_aside_records(_NAME)).consume(event)
