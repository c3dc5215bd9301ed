"""Checks of timers: retries, long timers, heartbeats."""

from datetime import datetime, timedelta
from typing import Any, Final

from local.smoke.check import Check, CheckFailedError, expect
from local.smoke.session import SmokeSession

_RETRY_SECONDS: Final = 2
_LONG_SECONDS: Final = 1200
"""Longer than the 15 minutes that a queue can delay a message: this timer has to wait in the table."""

_SILENT_SECONDS: Final = 6
_SORT_SKEW: Final = timedelta(seconds=1)
INDEX: Final = "due"
SHARDS: Final = 16


def check_retry(session: SmokeSession) -> str:
    """Report a failure, and wait until the second attempt is open."""
    execution_id = session.create("retry", {"taskId": "work", "retryPolicy": _policy(_RETRY_SECONDS)})
    retry = session.report(execution_id, "work", status="FAILED", attempt=1, failureReason="RATE_LIMITED")["retry"]
    expect((retry["willRetry"], retry["nextAttempt"]) == (True, 2), f"the response decides {retry['reason']!r}")
    task = session.wait_for_task(execution_id, "work", "SCHEDULED", attempt=2)
    delay = (_parse(task["scheduledAt"]) - _parse(retry["notBefore"])).total_seconds()
    expect(delay >= 0, f"attempt 2 was opened {-delay:.1f} s too early")
    return f"attempt 2 was opened {delay:.1f} s after it was due"


def check_long_timer(session: SmokeSession) -> str:
    """Report a failure whose retry is due in 20 minutes, and look for its timer in the table."""
    execution_id = session.create("long-timer", {"taskId": "work", "retryPolicy": _policy(_LONG_SECONDS)})
    response = session.report(execution_id, "work", status="FAILED", attempt=1)
    expect(response["retry"]["willRetry"], f"the response decides {response['retry']['reason']!r}")
    failed_at, not_before = _parse(response["task"]["updatedAt"]), _parse(response["retry"]["notBefore"])
    delay = (not_before - failed_at).total_seconds()
    expect(abs(delay - _LONG_SECONDS) < 1, f"the retry is due after {delay:g} s, not {_LONG_SECONDS}")
    table, name = session.stack.aws("dynamodb"), session.stack.table_name
    entry = session.poll(
        lambda: _entry_of(table, name, execution_id, not_before),
        lambda: "the table has no timer of the retry",
    )
    return f"it waits in the table: {entry['dueKey']['S']}, {entry['dueSort']['S']}"


def check_heartbeats(session: SmokeSession) -> str:
    """Start two attempts, one with heartbeats and one without: only the silent one may time out."""
    limits = {"heartbeatTimeoutSeconds": _SILENT_SECONDS, "retryPolicy": _policy(_LONG_SECONDS)}
    execution_id = session.create("heartbeats", *({"taskId": name, **limits} for name in ("alive", "silent")))
    started = session.clock()
    for name in ("silent", "alive"):
        session.report(execution_id, name, status="IN_PROGRESS", attempt=1)

    def look() -> bool:
        alive = session.send(execution_id, "alive", "heartbeat", {"attempt": 1}).body
        if not alive["continue"]:
            raise CheckFailedError(f"an attempt with heartbeats is to stop: {alive.get('reason')}")
        return bool(session.task(execution_id, "silent")["status"] == "TIMED_OUT")

    session.poll(look, lambda: "an attempt without heartbeats has not timed out")
    waited = session.clock() - started
    expect(waited >= _SILENT_SECONDS, f"the silent attempt timed out after {waited:.1f} s, not {_SILENT_SECONDS}")
    status = session.task(execution_id, "alive")["status"]
    expect(status == "IN_PROGRESS", f"an attempt with heartbeats is {status}")
    return f"the silent attempt timed out after {waited:.1f} s, the other lives"


def _policy(seconds: int) -> dict[str, Any]:
    return {"maxAttempts": 3, "initialSeconds": seconds, "maxSeconds": seconds, "multiplier": 1, "jitter": 0}


def _entry_of(table: Any, name: str, execution_id: str, due: datetime) -> dict[str, Any] | None:
    """Return the entry of an execution's task in the index of timers that wait: nobody but the sweep reads it."""
    around = [f"{int((due + skew).timestamp() * 1000):014d}" for skew in (-_SORT_SKEW, _SORT_SKEW)]
    for shard in range(SHARDS):
        page = table.query(
            TableName=name,
            IndexName=INDEX,
            KeyConditionExpression="dueKey = :list AND dueSort BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":list": {"S": f"DUE#{shard:02d}"},
                ":first": {"S": around[0]},
                ":last": {"S": around[1]},
            },
        )
        for entry in page["Items"]:
            if entry["pk"]["S"].endswith(f"#{execution_id}"):
                task: dict[str, Any] = entry
                return task
    return None


def _parse(timestamp: str) -> datetime:
    return datetime.fromisoformat(timestamp)


_TIMERS: Final = "the log of retry_scheduler and retry_dispatcher; the bucket StreamFailures; the queue TimerFailures"

CHECKS: Final = (
    Check("retry", check_retry, _TIMERS),
    Check("long-timer", check_long_timer, f"{_TIMERS}; the state of the index `due`"),
    Check("heartbeats", check_heartbeats, _TIMERS),
)
