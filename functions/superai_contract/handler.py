"""Routes for SuperAI's workers and clients: flow executions, and the status updates of their tasks."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.platforms.superai import operations, requests
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.ADD_TASK_STATUSES)
def add_task_statuses(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.add_task_statuses(request, services.execution_reader, services.ledger)


@app.route(operations.CREATE_FLOW_EXECUTION)
def create_flow_execution(request: Request) -> Response:
    return requests.create_flow_execution(request, RequestServices(request.remaining_ms).execution_creator)


@app.route(operations.LIST_FLOW_EXECUTIONS)
def list_flow_executions(request: Request) -> Response:
    return requests.list_flow_executions(request, RequestServices(request.remaining_ms).execution_reader)


@app.route(operations.GET_FLOW_EXECUTION)
def get_flow_execution(request: Request) -> Response:
    return requests.get_flow_execution(request, RequestServices(request.remaining_ms).execution_reader)


@app.route(operations.DELETE_FLOW_EXECUTION)
def delete_flow_execution(request: Request) -> Response:
    return requests.delete_flow_execution(request, RequestServices(request.remaining_ms).execution_control)


@app.route(operations.CANCEL_FLOW_EXECUTION)
def cancel_flow_execution(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.cancel_flow_execution(request, services.execution_reader, services.execution_control)


@app.route(operations.LIST_TASK_EXECUTIONS)
def list_task_executions(request: Request) -> Response:
    return requests.list_task_executions(request, RequestServices(request.remaining_ms).execution_reader)
