"""Checks of the WebSocket API: a watcher receives a change, and a ticket is valid once."""

from contextlib import closing
from typing import Final

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from local.smoke.check import Check, CheckFailedError, expect
from local.smoke.session import SmokeSession
from local.watch import ExecutionFeed


def check_watch(session: SmokeSession) -> str:
    """Watch an execution while its task changes; the change must come over the connection."""
    execution_id = session.create("watch", {"taskId": "work"})
    with closing(ExecutionFeed(session.api, execution_id).updates()) as updates:
        for update in updates:
            if update.task_id is None:
                break
        session.report(execution_id, "work", status="IN_PROGRESS", attempt=1)
        change = next((update for update in updates if update.status == "IN_PROGRESS"), None)
    expect(change is not None and not change.is_listed, "the change did not come over the connection")
    return "a change came over the connection"


def check_ticket(session: SmokeSession) -> str:
    """Connect twice with one ticket; the second connection must be refused."""
    execution_id = session.create("ticket", {"taskId": "work"})
    url = session.api.request("reader", "POST", "executions", execution_id, "watch").body["url"]
    with connect(url, proxy=None):
        pass
    try:
        with connect(url, proxy=None):
            raise CheckFailedError("a ticket is valid twice")
    except InvalidStatus as error:
        return f"the second connection is refused with {error.response.status_code}"


_LIVE: Final = "the log of live_connection and notifier; the WebSocket API's access log"

CHECKS: Final = (
    Check("watch", check_watch, _LIVE),
    Check("ticket-once", check_ticket, _LIVE),
)
