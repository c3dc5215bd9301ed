"""Handling of the times of schedules: start an execution each, and keep EventBridge Scheduler as the table is."""

from functools import partial
from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.v1.schedules.translation import new_execution
from tasklatch.domain.schedule import ScheduleKind
from tasklatch.platforms.cognite.triggers.translation import new_run
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.queue_records import process_records
from tasklatch.runtime.services import EventServices
from tasklatch.schedules.firing import ScheduleFiring, Translators
from tasklatch.schedules.scheduler_sync import parse_message


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Handle messages from the queue; a failed one alone is retried or moved to the dead-letter queue."""
    services = EventServices(context.get_remaining_time_in_millis)
    firing: ScheduleFiring = services.schedule_firing
    definitions = services.workflow_definitions
    translators: Translators = {
        ScheduleKind.EXECUTION: new_execution,
        ScheduleKind.WORKFLOW: partial(new_run, definitions),
    }

    def handle_message(body: str) -> None:
        message = parse_message(body)
        result = firing.handle(message, translators)
        logger.info("schedule handled", extra={"kind": message.ref.kind, "result": result})

    return process_records(event["Records"], handle_message, services.dead_letters)
