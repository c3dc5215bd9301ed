"""What follows when a task is settled or an execution ends: dependents go on, what is still open is cancelled."""

import json
from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse

from tasklatch.aws.clients import dynamodb, sqs
from tasklatch.aws.patience import Patience
from tasklatch.aws.queue import DeadLetters, take_each
from tasklatch.aws.workflow import Workflow
from tasklatch.clock import system_clock
from tasklatch.settings import settings


def handler(event: dict[str, Any], context: Any) -> PartialItemFailureResponse:
    """Take announcements from their queue; one that could not be served comes again or is set aside, alone."""
    patience = Patience(context.get_remaining_time_in_millis)
    workflow = Workflow(dynamodb(), settings(), system_clock, patience)
    dead_letters = DeadLetters(sqs, settings().dead_letter_queue_url, patience)
    moved: dict[tuple[str, str], str] = {}

    def follow(text: str) -> None:
        detail = json.loads(text)["detail"]
        tenant, execution_id = detail["tenant"], detail["executionId"]
        if "taskId" not in detail:
            workflow.cancel_open_tasks(tenant, execution_id)
        elif workflow.let_dependents_go_on(tenant, execution_id, detail["taskId"]):
            moved[tenant, execution_id] = text

    answer = take_each(event["Records"], follow, dead_letters)
    # Whether an execution is done is asked once for all its tasks, on behalf of the last of them.
    closing = {text: execution for execution, text in moved.items()}
    last = [record for record in event["Records"] if record["body"] in closing]
    late = take_each(last, lambda text: workflow.close_if_done(*closing[text]), dead_letters)
    return {"batchItemFailures": [*answer["batchItemFailures"], *late["batchItemFailures"]]}
