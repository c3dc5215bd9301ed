"""Routes for clients that define work as in Cognite Data Fusion: workflows and their versions."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.platforms.cognite.definitions import operations, requests
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.UPSERT_WORKFLOWS)
def upsert_workflows(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.upsert_workflows(
        request, services.workflow_definitions, services.concurrency_slots, services.advance_queue
    )


@app.route(operations.LIST_WORKFLOWS)
def list_workflows(request: Request) -> Response:
    return requests.list_workflows(request, RequestServices(request.remaining_ms).workflow_definitions)


@app.route(operations.GET_WORKFLOW)
def get_workflow(request: Request) -> Response:
    return requests.get_workflow(request, RequestServices(request.remaining_ms).workflow_definitions)


@app.route(operations.DELETE_WORKFLOWS)
def delete_workflows(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.delete_workflows(request, services.workflow_definitions, services.running_executions)


@app.route(operations.UPSERT_VERSIONS)
def upsert_versions(request: Request) -> Response:
    return requests.upsert_versions(request, RequestServices(request.remaining_ms).workflow_definitions)


@app.route(operations.LIST_VERSIONS)
def list_versions(request: Request) -> Response:
    return requests.list_versions(request, RequestServices(request.remaining_ms).workflow_definitions)


@app.route(operations.GET_VERSION)
def get_version(request: Request) -> Response:
    return requests.get_version(request, RequestServices(request.remaining_ms).workflow_definitions)


@app.route(operations.DELETE_VERSIONS)
def delete_versions(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.delete_versions(request, services.workflow_definitions, services.running_executions)
