"""Routes for clients that control a whole execution: cancel it, retry failed tasks, watch it live."""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.api.v1 import execution_control as contract
from tasklatch.api.v1.executions.translation import execution_view
from tasklatch.executions.control import ExecutionControl
from tasklatch.executions.reader import ExecutionReader
from tasklatch.runtime.clock import format_timestamp
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices
from tasklatch.workflow.reopener import ExecutionReopener

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(contract.CANCEL_EXECUTION)
def cancel_execution(request: Request) -> Response:
    body = request.parse_body(contract.CancelBody)
    execution = _control(request).cancel(request.tenant, request.path["executionId"], body.reason)
    return Response(execution_view(execution))


@app.route(contract.RETRY_EXECUTION)
def retry_execution(request: Request) -> Response:
    reopener: ExecutionReopener = RequestServices(request.remaining_ms).execution_reopener
    execution, is_reopened = reopener.retry(request.tenant, request.path["executionId"])
    return Response(execution_view(execution), HTTPStatus.OK if is_reopened else HTTPStatus.ACCEPTED)


@app.route(contract.WATCH_EXECUTION)
def watch_execution(request: Request) -> Response:
    execution = _reader(request).get(request.tenant, request.path["executionId"])
    services = RequestServices(request.remaining_ms)
    services.settings.check_set("live_url")
    ticket, valid_until = services.websocket_connections.issue_ticket(request.tenant, execution.execution_id)
    view: contract.TicketView = {
        "ticket": ticket,
        "url": f"{services.settings.live_url}?ticket={quote(ticket)}",
        "validUntil": format_timestamp(valid_until),
    }
    return Response(view)


def _control(request: Request) -> ExecutionControl:
    return RequestServices(request.remaining_ms).execution_control


def _reader(request: Request) -> ExecutionReader:
    return RequestServices(request.remaining_ms).execution_reader
