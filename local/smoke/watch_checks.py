"""Checks of the WebSocket API: a watcher receives a change, and a ticket is valid once."""

from contextlib import closing
from typing import Final

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from local.smoke.check import Check, CheckFailedError
from local.smoke.session import SmokeSession
from local.watch import ExecutionFeed

_CONNECTIONS: Final = 3


def check_watch(session: SmokeSession) -> str:
    """Watch an execution while a task changes; the change must come over the connection.

    A watcher that a busy stack cannot serve in time is cut off and connects again, so a few connections are tried.
    """
    tasks = [f"work-{number}" for number in range(1, _CONNECTIONS + 1)]
    execution_id = session.create("watch", *({"taskId": task} for task in tasks))
    for number, task in enumerate(tasks, 1):
        if _is_sent(session, execution_id, task):
            return f"a change came over the {'' if number == 1 else f'{number}. '}connection"
    raise CheckFailedError("no change came over the connection")


def _is_sent(session: SmokeSession, execution_id: str, task_id: str) -> bool:
    """Begin a task while a connection watches it; return True if the change comes over the connection."""
    with closing(ExecutionFeed(session.api, execution_id).updates()) as updates:
        for update in updates:
            if update.task_id is None:
                break
        session.report(execution_id, task_id, status="IN_PROGRESS", attempt=1)
        change = next((item for item in updates if (item.task_id, item.status) == (task_id, "IN_PROGRESS")), None)
    return change is not None and not change.is_listed


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
