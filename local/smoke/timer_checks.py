"""Checks of timers: retries, long timers, heartbeats."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from local.api_client import call_task
from local.smoke.check import Check, CheckFailedError, CheckSkippedError, expect
from local.smoke.session import SmokeSession

_RETRY_SECONDS: Final = 2
_LONG_SECONDS: Final = 1200
"""Longer than the 15 minutes that a queue can delay a message: EventBridge Scheduler has to keep this timer."""

_SILENT_SECONDS: Final = 6
_PAGES: Final = 10
_CLOCK_SKEW: Final = timedelta(minutes=2)


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
    """Report a failure whose retry is due in 20 minutes, and look for its timer in EventBridge Scheduler."""
    execution_id = session.create("long-timer", {"taskId": "work", "retryPolicy": _policy(_LONG_SECONDS)})
    response = session.report(execution_id, "work", status="FAILED", attempt=1)
    expect(response["retry"]["willRetry"], f"the response decides {response['retry']['reason']!r}")
    failed_at, not_before = _parse(response["task"]["updatedAt"]), _parse(response["retry"]["notBefore"])
    delay = (not_before - failed_at).total_seconds()
    expect(abs(delay - _LONG_SECONDS) < 1, f"the retry is due after {delay:g} s, not {_LONG_SECONDS}")
    scheduler = session.stack.aws("scheduler")
    schedule = session.poll(
        lambda: _schedule_of(scheduler, session.stack.event_bus_name, execution_id, failed_at),
        lambda: "EventBridge Scheduler has no timer of the retry",
    )
    return f"EventBridge Scheduler has it: {schedule['ScheduleExpression']}"


def check_heartbeats(session: SmokeSession) -> str:
    """Start two attempts, one with heartbeats and one without: only the silent one may time out."""
    limits = {"heartbeatTimeoutSeconds": _SILENT_SECONDS, "retryPolicy": _policy(_LONG_SECONDS)}
    execution_id = session.create("heartbeats", *({"taskId": name, **limits} for name in ("alive", "silent")))
    started = session.clock()
    for name in ("silent", "alive"):
        session.report(execution_id, name, status="IN_PROGRESS", attempt=1)

    def look() -> bool:
        alive = call_task(session.api, "worker", execution_id, "alive", "heartbeat", {"attempt": 1}).body
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


def _schedule_of(scheduler: Any, group: str, execution_id: str, since: datetime) -> dict[str, Any] | None:
    """Return the schedule whose message is about an execution.

    Raises
    ------
    CheckSkippedError
        If the stack has too many schedules to look through.
    """
    for summary in _schedules(scheduler, group):
        created = summary.get("CreationDate")
        if created is not None and created < since.astimezone(UTC) - _CLOCK_SKEW:
            continue
        schedule: dict[str, Any] = scheduler.get_schedule(GroupName=group, Name=summary["Name"])
        if f'"{execution_id}"' in schedule["Target"].get("Input", ""):
            return schedule
    return None


def _schedules(scheduler: Any, group: str) -> Iterator[dict[str, Any]]:
    """Yield the stack's timers; their group has the stack's name, as its event bus has."""
    request: dict[str, Any] = {"GroupName": group, "MaxResults": 100}
    for _ in range(_PAGES):
        page = scheduler.list_schedules(**request)
        yield from page["Schedules"]
        if not page.get("NextToken"):
            return
        request["NextToken"] = page["NextToken"]
    raise CheckSkippedError("the stack has more than 1,000 timers; the API says that this one is due in 20 minutes")


def _parse(timestamp: str) -> datetime:
    return datetime.fromisoformat(timestamp)


_TIMERS: Final = "the log of retry_scheduler and retry_dispatcher; the queues RetrySchedulerFailures and TimerFailures"

CHECKS: Final = (
    Check("retry", check_retry, _TIMERS),
    Check("long-timer", check_long_timer, f"{_TIMERS}; the role TimerRole; the quota of schedules"),
    Check("heartbeats", check_heartbeats, _TIMERS),
)
