"""Route for workers of Cognite Data Fusion: the update of a task."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.domain.errors import AttemptNotOpenError, NotFoundError
from tasklatch.domain.task import OutputRef, Task
from tasklatch.ledger.ledger import Ledger
from tasklatch.platforms.cognite.executions import models, operations, translation
from tasklatch.runtime.observability import count_verdicts, logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.UPDATE_TASK)
def update_task(request: Request) -> Response:
    body, services = request.parse_body(models.TaskUpdateBody), RequestServices(request.remaining_ms)
    attempt_ref = services.attempt_index.find(request.tenant, request.path["taskId"])
    report = body.report(attempt_ref.task_id, attempt_ref.attempt)
    ledger: Ledger = services.ledger
    try:
        result = ledger.record(request.tenant, attempt_ref.execution_id, report, request.request_id)
    except AttemptNotOpenError as error:
        # A valid id of an attempt that is not open: the service may issue it later.
        raise NotFoundError("task", request.path["taskId"]) from error
    return Response(
        _attempt_view(result.task, attempt_ref.attempt, body, services), log_fields=count_verdicts([(report, result)])
    )


def _attempt_view(
    task: Task, attempt: int, update: models.TaskUpdateBody, services: RequestServices
) -> models.TaskExecutionView:
    """Return the view of the attempt in the path, which may not be the current one."""
    detail = services.payloads.get_details(task.tenant, task.execution_id, [task])[0]
    if not translation.is_earlier_attempt(task, attempt):
        return translation.workflow_task_view(detail, translation.current_attempt_state(detail, attempt))
    entry = services.history.last_change(task.tenant, task.execution_id, task.task_id, attempt)
    output = None
    if entry is not None and entry.output_attempt is not None and entry.output_fingerprint is not None:
        output = services.payloads.get_output_at(task, OutputRef(entry.output_attempt, entry.output_fingerprint))
    return translation.workflow_task_view(
        detail, translation.earlier_attempt_state(attempt, entry, output, update.status)
    )
