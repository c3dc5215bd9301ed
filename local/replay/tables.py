"""Tables of the replay and the demonstration, for a terminal of 80 columns."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from statistics import median
from typing import Any, Final, NamedTuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local.replay.check import LedgerSnapshot, RequestResult, applied_changes, retry_delays
from local.replay.plan import count_faults
from local.replay.scripts import ExpectedOutcome, ReplayPlan

_WIDEST: Final = 100
_LONGEST_NAME: Final = 44
_FAILURES: Final = frozenset({"FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT"})
_NO_REASON: Final = "without a reason"

VERDICT_MEANINGS: Final[Mapping[ExpectedOutcome, str]] = {
    ExpectedOutcome.APPLIED: "changed the task",
    ExpectedOutcome.DUPLICATE: "the ledger had this information already",
    ExpectedOutcome.IGNORED_AFTER_SUCCESS: "arrived after a success, which stands",
    ExpectedOutcome.STALE_ATTEMPT: "about an attempt that a newer one replaced",
    ExpectedOutcome.SEALED: "the task was already cancelled or closed",
    ExpectedOutcome.REFUSED: "about an attempt that was never opened",
    ExpectedOutcome.CONTINUE: "heartbeat: the worker should continue",
    ExpectedOutcome.STOP: "heartbeat: the worker should stop",
}


class Wait(NamedTuple):
    """Time that the sender of a request waited for its response."""

    seconds: float
    was_sent_again: bool


def result_console() -> Console:
    """Return a console on standard output: at most 100 columns, plain if it is not a terminal."""
    console = Console(highlight=False)
    console.width = min(console.width, _WIDEST)
    return console


def verdicts_table(results: Iterable[RequestResult]) -> Table:
    """Return a table of the number of responses of each kind."""
    counts = Counter(result.outcome for result in results)
    table = _table("Response", "Count", "Meaning", right=("Count",))
    for outcome, meaning in VERDICT_MEANINGS.items():
        if counts[outcome]:
            table.add_row(outcome, f"{counts[outcome]:,}", meaning)
    return table


def faults_table(plan: ReplayPlan) -> Table:
    """Return a table of the planned faults: the number of tasks or of requests with each."""
    table = _table("Injected fault", "Count", right=("Count",))
    for kind, count in count_faults(plan).items():
        table.add_row(kind, f"{count:,}")
    return table


def failures_table(ledger: LedgerSnapshot) -> Table:
    """Return a table of the failures that changed a task, by reason, with the attempts that were opened after them."""
    failed: Counter[str] = Counter()
    retried: Counter[str] = Counter()
    for history in ledger.histories.values():
        changes = applied_changes(history)
        for index, change in enumerate(changes):
            if change["status"] not in _FAILURES:
                continue
            reason = change["status"] if change["status"] == "TIMED_OUT" else change.get("failureReason", _NO_REASON)
            failed[reason] += 1
            retried[reason] += any(later["status"] == "SCHEDULED" for later in changes[index + 1 : index + 2])
    table = _table("Failure reason", "Count", "Retried", right=("Count", "Retried"))
    for reason, count in sorted(failed.items()):
        table.add_row(reason, f"{count:,}", f"{retried[reason]:,}")
    return table


def service_actions_table(results: Sequence[RequestResult], ledger: LedgerSnapshot) -> Table:
    """Return a table of what the service did without a request."""
    counts = Counter(change["status"] for history in ledger.histories.values() for change in applied_changes(history))
    retries = sum(
        change["status"] == "SCHEDULED" and change["attempt"] > 1
        for history in ledger.histories.values()
        for change in applied_changes(history)
    )
    delays = retry_delays(results, ledger)
    table = _table("Service action", "Count", "Note", right=("Count",))
    table.add_row("attempts opened", f"{counts['SCHEDULED']:,}", "")
    note = f"after notBefore: median {median(delays):.1f} s, maximum {max(delays):.1f} s" if delays else ""
    table.add_row("of these, retries", f"{retries:,}", note)
    table.add_row("attempts timed out", f"{counts['TIMED_OUT']:,}", "no report or heartbeat in time")
    table.add_row("tasks closed with errors", f"{counts['COMPLETED_WITH_ERRORS']:,}", "the execution continued")
    table.add_row("tasks cancelled", f"{counts['CANCELED']:,}", "the execution had ended")
    return table


def waits_table(waits: Iterable[Wait]) -> Table:
    """Return a table of response times; requests that were sent more than once have a row of their own."""
    table = _table(
        "Response times", "Requests", "Median", "95 %", "Slowest", right=("Requests", "Median", "95 %", "Slowest")
    )
    sent_once: list[float] = []
    sent_again: list[float] = []
    for wait in waits:
        (sent_again if wait.was_sent_again else sent_once).append(wait.seconds)
    for name, seconds in (("sent once", sent_once), ("sent more than once", sent_again)):
        if seconds:
            figures = (percentile(seconds, share) for share in (50, 95, 100))
            table.add_row(name, f"{len(seconds):,}", *(f"{figure * 1000:,.0f} ms" for figure in figures))
    return table


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest value that at least so many percent of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(ceil(len(ordered) * percent / 100), 1) - 1]


def rates_line(results: Sequence[RequestResult], waits: Sequence[Wait], seconds: float) -> str:
    """Return a line with the number of requests, their rate and the total time."""
    return f"{len(results):,} reports and heartbeats in {len(waits):,} requests in {seconds:.1f} s"


def tasks_table(tasks: Iterable[Mapping[str, Any]]) -> Table:
    """Return a table of tasks and their statuses."""
    table = _table("Task", "Status", "Attempt", "Version", "Updated", right=("Attempt", "Version"))
    for task in tasks:
        numbers = (str(task["attempt"]), str(task["version"]))
        table.add_row(_name(task["taskId"]), status(task["status"]), *numbers, time_of_day(task["updatedAt"]))
    return table


def history_table(history: Iterable[Mapping[str, Any]]) -> Table:
    """Return a table of the history of one task."""
    table = _table("Version", "At", "Status", "Verdict", "Details", right=("Version",))
    for entry in history:
        details = ": ".join(entry[name] for name in ("failureReason", "message") if name in entry)
        version_and_time = (str(entry["version"]), time_of_day(entry["at"]))
        table.add_row(*version_and_time, status(entry["status"]), entry["verdict"], escape(details))
    return table


def status(name: str) -> str:
    """Return a status in its colour."""
    colour = {"COMPLETED": "green", "IN_PROGRESS": "cyan"}.get(name, "red" if "FAILED" in name else "")
    return f"[{colour}]{name}[/{colour}]" if colour else name


def time_of_day(timestamp: str) -> str:
    """Return the time of day of an RFC 3339 timestamp."""
    return timestamp.partition("T")[2].rstrip("Z")


def _name(task_id: str) -> str:
    return escape(task_id if len(task_id) <= _LONGEST_NAME else f"...{task_id[3 - _LONGEST_NAME :]}")


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        is_last = column == columns[-1]
        table.add_column(column, justify="right" if column in right else "left", no_wrap=not is_last)
    return table
