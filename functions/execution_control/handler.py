"""Routes for clients that control a whole execution: cancel it, retry failed tasks, watch it live."""

from functools import partial
from typing import Any
from urllib.parse import quote

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.api.v1 import execution_control as contract
from tasklatch.api.v1.executions.translation import execution_view
from tasklatch.notifications.websockets import WebSocketConnections
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clients import dynamodb, live_callback
from tasklatch.runtime.clock import format_timestamp, system_clock
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.settings import get_settings
from tasklatch.workflow.engine import WorkflowEngine

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(contract.CANCEL_EXECUTION)
def cancel_execution(request: Request) -> Response:
    body = request.parse_body(contract.CancelBody)
    execution = _workflow(request).cancel(request.tenant, request.path["executionId"], body.reason)
    return Response(execution_view(execution))


@app.route(contract.RETRY_EXECUTION)
def retry_execution(request: Request) -> Response:
    execution = _workflow(request).retry(request.tenant, request.path["executionId"])
    return Response(execution_view(execution))


@app.route(contract.WATCH_EXECUTION)
def watch_execution(request: Request) -> Response:
    execution = _workflow(request).read(request.tenant, request.path["executionId"])
    settings = get_settings()
    callback = partial(live_callback, settings.live_callback_url)
    live = WebSocketConnections(dynamodb(), callback, settings, system_clock, Backoff(request.remaining_ms))
    ticket, valid_until = live.issue_ticket(request.tenant, execution.execution_id)
    view: contract.TicketView = {
        "ticket": ticket,
        "url": f"{settings.live_url}?ticket={quote(ticket)}",
        "validUntil": format_timestamp(valid_until),
    }
    return Response(view)


def _workflow(request: Request) -> WorkflowEngine:
    return WorkflowEngine(dynamodb(), get_settings(), system_clock, Backoff(request.remaining_ms))
