"""Routes for a Forge app: updateTaskStatus for its taskRunner, and the registration of scans and child tasks."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.platforms.forge import operations, requests
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.UPDATE_TASK_STATUS)
def update_task_status(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.update_task_status(request, services.ledger, services.execution_reader)


@app.route(operations.REGISTER_SCAN)
def register_scan(request: Request) -> Response:
    return requests.register_scan(request, RequestServices(request.remaining_ms).execution_creator)


@app.route(operations.ADD_CHILDREN)
def add_children(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.add_children(request, services.execution_reader, services.execution_creator)
