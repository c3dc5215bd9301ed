"""Routes for workers: a report on an attempt, a batch of reports, a heartbeat."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.api.v1.reports import operations, requests
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.REPORT_STATUS)
def report_status(request: Request) -> Response:
    return requests.report_status(request, RequestServices(request.remaining_ms).ledger)


@app.route(operations.REPORT_STATUSES)
def report_statuses(request: Request) -> Response:
    return requests.report_statuses(request, RequestServices(request.remaining_ms).ledger)


@app.route(operations.SEND_HEARTBEAT)
def send_heartbeat(request: Request) -> Response:
    return requests.send_heartbeat(request, RequestServices(request.remaining_ms).ledger)


@app.route(operations.SEND_NAMED_HEARTBEAT)
def send_named_heartbeat(request: Request) -> Response:
    return requests.send_named_heartbeat(request, RequestServices(request.remaining_ms).ledger)
