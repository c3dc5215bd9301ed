"""Reactions to failures and deadlines: a timer for the next attempt, or the end of the task."""

from collections.abc import Sequence
from typing import Any, Final

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.domain.changes import Change
from tasklatch.ledger.ledger import Ledger
from tasklatch.notifications.set_aside import SetAsideRecords
from tasklatch.notifications.stream import AnyChange
from tasklatch.notifications.stream_consumer import StreamConsumer
from tasklatch.retries.planner import RetryPlanner
from tasklatch.retries.timer_scheduler import TimerScheduler
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clients import dynamodb, s3, scheduler, sqs
from tasklatch.runtime.clock import system_clock
from tasklatch.runtime.observability import FIRST_RECORD, logger, metrics
from tasklatch.runtime.settings import get_settings

_NAME: Final = "retry_scheduler"


@logger.inject_lambda_context(correlation_id_path=FIRST_RECORD, clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process a batch of the table's stream; return the records that Lambda must deliver again."""
    backoff = Backoff(context.get_remaining_time_in_millis)
    planner = _retry_planner(backoff)

    def plan(changes: Sequence[AnyChange]) -> None:
        planner.plan(change.task for change in changes if isinstance(change, Change) and not change.only_continues)

    set_aside = SetAsideRecords(s3, get_settings().stream_failures_bucket, _NAME, backoff)
    return StreamConsumer(plan, set_aside).consume(event)


def _retry_planner(backoff: Backoff) -> RetryPlanner:
    settings = get_settings()
    return RetryPlanner(
        Ledger(dynamodb(), settings, system_clock, backoff),
        TimerScheduler(sqs(), scheduler(), settings, system_clock, backoff),
        system_clock,
    )
