"""What follows when a task is settled or an execution ends: dependents go on, what is still open is cancelled."""

import json
from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse

from tasklatch.aws.clients import dynamodb
from tasklatch.aws.patience import Patience
from tasklatch.aws.queue import take_each
from tasklatch.aws.workflow import Workflow
from tasklatch.clock import system_clock
from tasklatch.settings import settings


def handler(event: dict[str, Any], context: Any) -> PartialItemFailureResponse:
    """Take announcements from their queue; one that could not be served comes again, alone."""
    workflow = Workflow(dynamodb(), settings(), system_clock, Patience(context.get_remaining_time_in_millis))

    def follow(text: str) -> None:
        detail = json.loads(text)["detail"]
        if "taskId" in detail:
            workflow.advance(detail["tenant"], detail["executionId"], detail["taskId"])
        else:
            workflow.cancel_open_tasks(detail["tenant"], detail["executionId"])

    return take_each(event["Records"], follow)
