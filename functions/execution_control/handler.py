"""Routes for clients that control a whole execution: cancel it, retry failed tasks, watch it live."""

from typing import Any
from urllib.parse import quote

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.api.v1 import execution_control as contract
from tasklatch.api.v1.executions.translation import execution_view
from tasklatch.executions.control import ExecutionControl
from tasklatch.executions.reader import ExecutionReader
from tasklatch.notifications.websockets import WebSocketConnections
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clients import dynamodb
from tasklatch.runtime.clock import format_timestamp, system_clock
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.settings import get_settings

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
    execution = _control(request).retry(request.tenant, request.path["executionId"])
    return Response(execution_view(execution))


@app.route(contract.WATCH_EXECUTION)
def watch_execution(request: Request) -> Response:
    execution = _reader(request).get(request.tenant, request.path["executionId"])
    settings = get_settings()
    live = WebSocketConnections(dynamodb(), settings, system_clock, Backoff(request.remaining_ms))
    ticket, valid_until = live.issue_ticket(request.tenant, execution.execution_id)
    view: contract.TicketView = {
        "ticket": ticket,
        "url": f"{settings.live_url}?ticket={quote(ticket)}",
        "validUntil": format_timestamp(valid_until),
    }
    return Response(view)


def _control(request: Request) -> ExecutionControl:
    return ExecutionControl(dynamodb(), get_settings(), system_clock, Backoff(request.remaining_ms))


def _reader(request: Request) -> ExecutionReader:
    return ExecutionReader(dynamodb(), get_settings(), system_clock, Backoff(request.remaining_ms))
