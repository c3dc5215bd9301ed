"""What those who run work do to an execution as a whole: cancel it, retry what failed, watch it live."""

from functools import partial
from urllib.parse import quote

from tasklatch.aws.clients import dynamodb, live_callback
from tasklatch.aws.live import WebSocketConnections
from tasklatch.aws.patience import Backoff
from tasklatch.aws.workflow import WorkflowEngine
from tasklatch.clock import format_timestamp, system_clock
from tasklatch.http import control_contract as contract
from tasklatch.http.execution_contract import execution_view
from tasklatch.http.routes import HttpApp, Request, Response
from tasklatch.settings import get_settings

app = HttpApp()
handler = app.resolve


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
