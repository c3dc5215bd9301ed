"""Reactions to terminal tasks and ended executions: schedule dependents, complete executions, cancel open tasks."""

import json
from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.queue_records import process_records
from tasklatch.runtime.services import EventServices
from tasklatch.workflow.advancer import WorkflowAdvancer
from tasklatch.workflow.closer import ExecutionCloser


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Process change events from their queue; a failed one alone is retried or moved to the dead-letter queue."""
    services = EventServices(context.get_remaining_time_in_millis)
    advancer: WorkflowAdvancer = services.workflow_advancer
    closer: ExecutionCloser = services.execution_closer
    moved: dict[tuple[str, str], str] = {}

    def advance(body: str) -> None:
        detail = json.loads(body)["detail"]
        tenant, execution_id = detail["tenant"], detail["executionId"]
        if "taskId" not in detail:
            closer.cancel_open_tasks(tenant, execution_id)
        elif advancer.schedule_dependents(tenant, execution_id, detail["taskId"]):
            moved[tenant, execution_id] = body

    response = process_records(event["Records"], advance, services.dead_letters)
    # One check per execution covers all its tasks in the batch; if it fails, the last task's message is retried.
    closing = {body: execution for execution, body in moved.items()}
    last = [record for record in event["Records"] if record["body"] in closing]
    late = process_records(last, lambda body: closer.complete_if_finished(*closing[body]), services.dead_letters)
    return {"batchItemFailures": [*response["batchItemFailures"], *late["batchItemFailures"]]}
