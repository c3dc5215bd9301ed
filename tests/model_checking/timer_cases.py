"""Cases of timers that wait on the list in the table, of the sweep, and of changes that are never published."""

from typing import Any, Final

from tasklatch.domain.overdue import LOST_CHANGE_MS, OVERDUE_MS
from tasklatch.domain.status import TaskStatus
from tests.model_checking.case import Case, Faults, Request, View
from tests.model_checking.client_requests import handed_out, reports, sends_heartbeat

_RETRY_MS: Final = 3_600_000
_UNTIL_SWEEP_MS: Final = 3_000_001
"""Time after which a timer of an hour is so near that a sweep sends it."""

PATIENT: Final[dict[str, Any]] = {
    "taskId": "a",
    "retryPolicy": {"maxAttempts": 2, "initialSeconds": _RETRY_MS // 1000, "maxSeconds": 7_200, "jitter": 0},
}
SWEEPS_AT_LAST: Final = (
    Request("timer_sweeper", wait_ms=_UNTIL_SWEEP_MS, at_last=True),
    Request("timer_sweeper"),
)


def _has_failed(view: View) -> bool:
    return view.tasks["a"].status is TaskStatus.FAILED


FAILS_AND_RETRIES: Final = {
    "first": [reports("FAILED", attempt=1)],
    "next": [reports("COMPLETED", when=handed_out(2), attempt=2)],
}
RETRIED_LATER = Case(
    "a retry in an hour, which a sweep sends", [PATIENT], {**FAILS_AND_RETRIES, "sweeper": SWEEPS_AT_LAST}
)
LONG_TIMER = Case(
    "a retry in an hour, which a sweep sends, and a late success",
    [PATIENT],
    {**FAILS_AND_RETRIES, "rescue": [reports("COMPLETED", attempt=1)], "sweeper": SWEEPS_AT_LAST},
)
SWEPT_TWICE = Case(
    "a retry in an hour, and two sweeps beside each other",
    [PATIENT],
    {
        **FAILS_AND_RETRIES,
        "sweeper": (Request("timer_sweeper", wait_ms=_UNTIL_SWEEP_MS, when=_has_failed), Request("timer_sweeper")),
        "other": (Request("timer_sweeper", when=_has_failed),),
        "last": SWEEPS_AT_LAST,
    },
)
SWEPT_AND_LOST = Case(
    "a retry in an hour, whose message is lost after the sweep, and the reconciler",
    [PATIENT],
    {
        **FAILS_AND_RETRIES,
        "sweeper": SWEEPS_AT_LAST,
        "reconciler": (
            Request("reconciler", wait_ms=_RETRY_MS + OVERDUE_MS + 1, at_last=True),
            Request("reconciler"),
        ),
    },
    Faults(lost_messages=1),
)
LONG_DEADLINE = Case(
    "a deadline in an hour, which a heartbeat moves",
    [{**PATIENT, "retryPolicy": {"maxAttempts": 1}, "heartbeatTimeoutSeconds": 3_600}],
    {
        "first": [reports("IN_PROGRESS", attempt=1), sends_heartbeat(), reports("COMPLETED", attempt=1)],
        "sweeper": SWEEPS_AT_LAST,
    },
)
NEVER_PUBLISHED = Case(
    "a task whose scheduling is lost to the stream, and the reconciler",
    [{"taskId": "a", "retryPolicy": {"maxAttempts": 1}}],
    {
        "first": [reports("COMPLETED", when=handed_out(1), attempt=1)],
        "reconciler": (Request("reconciler", wait_ms=LOST_CHANGE_MS + 1, at_last=True), Request("reconciler")) * 2,
    },
    Faults(lost_records=1),
)
