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
from local.replay.plan import ExpectedOutcome, ReplayPlan, count_kinds

_WIDEST: Final = 100
_LONGEST_NAME: Final = 44
_FAILURES: Final = frozenset({"FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT"})
_NO_REASON: Final = "no reason given"

VERDICT_MEANINGS: Final[Mapping[ExpectedOutcome, str]] = {
    ExpectedOutcome.APPLIED: "it changed the task",
    ExpectedOutcome.DUPLICATE: "the ledger knew as much already",
    ExpectedOutcome.IGNORED_AFTER_SUCCESS: "it came after a success, which stands",
    ExpectedOutcome.STALE_ATTEMPT: "it spoke of an attempt that another has followed",
    ExpectedOutcome.SEALED: "the service had given the task up or cancelled it",
    ExpectedOutcome.REFUSED: "it spoke of an attempt the task never had",
    ExpectedOutcome.GO_ON: "a heartbeat in time: the worker goes on",
    ExpectedOutcome.STOP: "a heartbeat too late: the worker stops",
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
    """Return a table of the number of requests per outcome."""
    counts = Counter(result.outcome for result in results)
    table = _table("Verdict", "Count", "Meaning", right=("Count",))
    for end, meaning in VERDICT_MEANINGS.items():
        if counts[end]:
            table.add_row(end, f"{counts[end]:,}", meaning)
    return table


def faults_table(plan: ReplayPlan) -> Table:
    """Return a table of the planned faults: the number of tasks or of requests with each."""
    table = _table("What went wrong", "Count", right=("Count",))
    for kind, count in count_kinds(plan).items():
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
    table = _table("Failures", "Count", "Retried", right=("Count", "Retried"))
    for reason, count in sorted(failed.items()):
        table.add_row(reason, f"{count:,}", f"{retried[reason]:,}")
    return table


def reactions_table(results: Sequence[RequestResult], ledger: LedgerSnapshot) -> Table:
    """Return a table of the service's own actions."""
    counts = Counter(change["status"] for history in ledger.histories.values() for change in applied_changes(history))
    retries = sum(
        change["status"] == "SCHEDULED" and change["attempt"] > 1
        for history in ledger.histories.values()
        for change in applied_changes(history)
    )
    delays = retry_delays(results, ledger)
    table = _table("What the service did", "Count", "", right=("Count",))
    table.add_row("attempts opened", f"{counts['SCHEDULED']:,}", "")
    punctual = f"{median(delays):.1f} s after notBefore in the middle, {max(delays):.1f} s at most" if delays else ""
    table.add_row("of them retries", f"{retries:,}", punctual)
    table.add_row("attempts timed out", f"{counts['TIMED_OUT']:,}", "their workers were silent")
    table.add_row("tasks given up", f"{counts['COMPLETED_WITH_ERRORS']:,}", "the execution went on")
    table.add_row("tasks cancelled", f"{counts['CANCELED']:,}", "the execution was over")
    return table


def waits_table(waits: Iterable[Wait]) -> Table:
    """Return a table of the time that senders waited for a response; those that sent again are counted separately."""
    table = _table("Answers", "Count", "Median", "95 %", "Slowest", right=("Count", "Median", "95 %", "Slowest"))
    at_once: list[float] = []
    again: list[float] = []
    for wait in waits:
        (again if wait.was_sent_again else at_once).append(wait.seconds)
    for name, seconds in (("to the first try", at_once), ("after a repeat", again)):
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
    return f"{len(results):,} deliveries in {len(waits):,} requests in {seconds:.1f} s"


def tasks_table(tasks: Iterable[Mapping[str, Any]]) -> Table:
    """Return a table of tasks and their statuses."""
    table = _table("Task", "Status", "Attempt", "Version", "Updated", right=("Attempt", "Version"))
    for task in tasks:
        numbers = (str(task["attempt"]), str(task["version"]))
        table.add_row(_name(task["taskId"]), status(task["status"]), *numbers, time_of_day(task["updatedAt"]))
    return table


def history_table(history: Iterable[Mapping[str, Any]]) -> Table:
    """Return a table of the history of one task."""
    table = _table("Version", "At", "Status", "Verdict", "Said", right=("Version",))
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
