"""Routes for clients that run work: create executions, add tasks, read both."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.api.v1.executions import operations, requests
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.CREATE_EXECUTION)
def create_execution(request: Request) -> Response:
    return requests.create_execution(request, RequestServices(request.remaining_ms).execution_creator)


@app.route(operations.ADD_TASKS)
def add_tasks(request: Request) -> Response:
    return requests.add_tasks(request, RequestServices(request.remaining_ms).execution_creator)


@app.route(operations.LIST_EXECUTIONS)
def list_executions(request: Request) -> Response:
    return requests.list_executions(request, RequestServices(request.remaining_ms).execution_reader)


@app.route(operations.GET_EXECUTION)
def get_execution(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.get_execution(request, services.execution_reader, services.concurrency_slots)


@app.route(operations.LIST_TASKS)
def list_tasks(request: Request) -> Response:
    return requests.list_tasks(request, RequestServices(request.remaining_ms).execution_reader)


@app.route(operations.GET_TASK)
def get_task(request: Request) -> Response:
    return requests.get_task(request, RequestServices(request.remaining_ms).execution_reader)


@app.route(operations.GET_NAMED_TASK)
def get_named_task(request: Request) -> Response:
    return requests.get_named_task(request, RequestServices(request.remaining_ms).execution_reader)


@app.route(operations.LIST_HISTORY)
def list_history(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.list_history(request, services.execution_reader, services.history)


@app.route(operations.LIST_NAMED_HISTORY)
def list_named_history(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.list_named_history(request, services.execution_reader, services.history)
