"""Routes for clients that run workflows as in Cognite Data Fusion: sessions, runs and their executions."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.platforms.cognite.executions import operations, requests
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.CREATE_SESSIONS)
def create_sessions(request: Request) -> Response:
    return requests.create_sessions(request)


@app.route(operations.RUN_WORKFLOW)
def run_workflow(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.run_workflow(request, services.workflow_definitions, services.execution_creator)


@app.route(operations.LIST_EXECUTIONS)
def list_executions(request: Request) -> Response:
    return requests.list_executions(request, RequestServices(request.remaining_ms).execution_reader)


@app.route(operations.GET_EXECUTION)
def get_execution(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.get_execution(request, services.execution_reader, services.payloads)


@app.route(operations.CANCEL_EXECUTION)
def cancel_execution(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.cancel_execution(request, services.execution_reader, services.execution_control)


@app.route(operations.RETRY_EXECUTION)
def retry_execution(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.retry_execution(request, services.execution_reader, services.execution_reopener)
