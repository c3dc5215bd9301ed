"""What those who run work do to an execution as a whole: cancel it, retry what failed, watch it live."""

from functools import partial
from urllib.parse import quote

from tasklatch.aws.clients import dynamodb, live_callback
from tasklatch.aws.live import Live
from tasklatch.aws.patience import Patience
from tasklatch.aws.workflow import Workflow
from tasklatch.clock import moment, system_clock
from tasklatch.http import control_contract as contract
from tasklatch.http.execution_contract import execution_view
from tasklatch.http.routes import Answer, Call, Routes
from tasklatch.settings import settings

routes = Routes()
handler = routes.serve


@routes.serves(contract.CANCEL_EXECUTION)
def cancel_execution(call: Call) -> Answer:
    body = call.checked_body(contract.CancelBody)
    execution = _workflow(call).cancel(call.tenant, call.path["executionId"], body.reason)
    return Answer(execution_view(execution))


@routes.serves(contract.RETRY_EXECUTION)
def retry_execution(call: Call) -> Answer:
    execution = _workflow(call).retry(call.tenant, call.path["executionId"])
    return Answer(execution_view(execution))


@routes.serves(contract.WATCH_EXECUTION)
def watch_execution(call: Call) -> Answer:
    execution = _workflow(call).read(call.tenant, call.path["executionId"])
    found = settings()
    callback = partial(live_callback, found.live_callback_url)
    live = Live(dynamodb(), callback, found, system_clock, Patience(call.remaining_ms))
    ticket, valid_until = live.issue_ticket(call.tenant, execution.execution_id)
    answer: contract.TicketView = {
        "ticket": ticket,
        "url": f"{found.live_url}?ticket={quote(ticket)}",
        "validUntil": moment(valid_until),
    }
    return Answer(answer)


def _workflow(call: Call) -> Workflow:
    return Workflow(dynamodb(), settings(), system_clock, Patience(call.remaining_ms))
