"""Routes for clients that start executions at recurring times: schedules, and the triggers of Cognite Data Fusion."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.api.v1.schedules import operations, requests
from tasklatch.platforms.cognite.triggers import operations as trigger_operations
from tasklatch.platforms.cognite.triggers import requests as trigger_requests
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.CREATE_SCHEDULE)
def create_schedule(request: Request) -> Response:
    return requests.create_schedule(request, RequestServices(request.remaining_ms).schedules)


@app.route(operations.LIST_SCHEDULES)
def list_schedules(request: Request) -> Response:
    return requests.list_schedules(request, RequestServices(request.remaining_ms).schedules)


@app.route(operations.GET_SCHEDULE)
def get_schedule(request: Request) -> Response:
    return requests.get_schedule(request, RequestServices(request.remaining_ms).schedules)


@app.route(operations.REPLACE_SCHEDULE)
def replace_schedule(request: Request) -> Response:
    return requests.replace_schedule(request, RequestServices(request.remaining_ms).schedules)


@app.route(operations.DELETE_SCHEDULE)
def delete_schedule(request: Request) -> Response:
    return requests.delete_schedule(request, RequestServices(request.remaining_ms).schedules)


@app.route(operations.PAUSE_SCHEDULE)
def pause_schedule(request: Request) -> Response:
    return requests.pause_schedule(request, RequestServices(request.remaining_ms).schedules)


@app.route(operations.RESUME_SCHEDULE)
def resume_schedule(request: Request) -> Response:
    return requests.resume_schedule(request, RequestServices(request.remaining_ms).schedules)


@app.route(operations.LIST_FIRINGS)
def list_schedule_history(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return requests.list_schedule_history(request, services.schedules, services.schedule_history)


@app.route(trigger_operations.UPSERT_TRIGGERS)
def upsert_triggers(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return trigger_requests.upsert_triggers(request, services.workflow_definitions, services.schedules)


@app.route(trigger_operations.LIST_TRIGGERS)
def list_triggers(request: Request) -> Response:
    return trigger_requests.list_triggers(request, RequestServices(request.remaining_ms).schedules)


@app.route(trigger_operations.DELETE_TRIGGERS)
def delete_triggers(request: Request) -> Response:
    return trigger_requests.delete_triggers(request, RequestServices(request.remaining_ms).schedules)


@app.route(trigger_operations.PAUSE_TRIGGER)
def pause_trigger(request: Request) -> Response:
    return trigger_requests.pause_trigger(request, RequestServices(request.remaining_ms).schedules)


@app.route(trigger_operations.RESUME_TRIGGER)
def resume_trigger(request: Request) -> Response:
    return trigger_requests.resume_trigger(request, RequestServices(request.remaining_ms).schedules)


@app.route(trigger_operations.LIST_RUNS)
def list_trigger_runs(request: Request) -> Response:
    services = RequestServices(request.remaining_ms)
    return trigger_requests.list_trigger_runs(request, services.schedules, services.schedule_history)
