"""What follows when a task is settled or an execution ends: dependents go on, what is still open is cancelled."""

import json
from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse

from tasklatch.aws.clients import dynamodb
from tasklatch.aws.patience import Patience
from tasklatch.aws.queue import all_failed, take_each
from tasklatch.aws.workflow import Workflow
from tasklatch.clock import system_clock
from tasklatch.domain.errors import BusyError
from tasklatch.settings import settings


def handler(event: dict[str, Any], context: Any) -> PartialItemFailureResponse:
    """Take announcements from their queue; one that could not be served comes again, alone."""
    workflow = Workflow(dynamodb(), settings(), system_clock, Patience(context.get_remaining_time_in_millis))
    moved: set[tuple[str, str]] = set()

    def follow(text: str) -> None:
        detail = json.loads(text)["detail"]
        tenant, execution_id = detail["tenant"], detail["executionId"]
        if "taskId" not in detail:
            workflow.cancel_open_tasks(tenant, execution_id)
        elif workflow.let_dependents_go_on(tenant, execution_id, detail["taskId"]):
            moved.add((tenant, execution_id))

    answer = take_each(event["Records"], follow)
    try:
        for tenant, execution_id in moved:
            workflow.close_if_done(tenant, execution_id)
    except BusyError as busy:
        return all_failed(event["Records"], busy)
    return answer
