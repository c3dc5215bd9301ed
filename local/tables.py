"""How the replay and the demonstration show what the service answered: tables for a terminal of 80 columns."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local.delivery_plan import End, Plan, count_kinds
from local.outcome_check import Answered

_WIDEST: Final = 100
_LONGEST_NAME: Final = 44

MEANING: Final[Mapping[End, str]] = {
    End.APPLIED: "it changed the task",
    End.DUPLICATE: "the ledger knew as much already",
    End.IGNORED_AFTER_SUCCESS: "it came after a success, which stands",
    End.REFUSED: "it spoke of an attempt the task never had",
    End.GO_ON: "a heartbeat in time: the worker goes on",
    End.STOP: "a heartbeat too late: the worker stops",
}


def result_console() -> Console:
    """A console on standard output: at most 100 columns, plain where it is not a terminal."""
    console = Console(highlight=False)
    console.width = min(console.width, _WIDEST)
    return console


def verdicts_table(answers: Iterable[Answered]) -> Table:
    """How many deliveries ended in what."""
    counts = Counter(answered.end for answered in answers)
    table = _table("Verdict", "Count", "Meaning", right=("Count",))
    for end, meaning in MEANING.items():
        if counts[end]:
            table.add_row(end, f"{counts[end]:,}", meaning)
    return table


def disturbances_table(plan: Plan) -> Table:
    """What went wrong on the way, and how many deliveries it made."""
    table = _table("What went wrong on the way", "Deliveries", right=("Deliveries",))
    for kind, count in count_kinds(plan).items():
        table.add_row(kind, f"{count:,}")
    return table


def rates_line(answers: Sequence[Answered], took: Sequence[float], seconds: float) -> str:
    """How many deliveries a second, and how long an answer took; times in seconds."""
    return (
        f"{len(answers):,} deliveries in {len(took):,} requests in {seconds:.1f} s: {len(answers) / seconds:,.0f} a "
        f"second; an answer took {median(took) * 1000:,.0f} ms in the middle, {max(took) * 1000:,.0f} ms at most"
    )


def tasks_table(tasks: Iterable[Mapping[str, Any]]) -> Table:
    """Tasks and where they stand."""
    table = _table("Task", "Status", "Attempt", "Version", "Updated", right=("Attempt", "Version"))
    for task in tasks:
        numbers = (str(task["attempt"]), str(task["version"]))
        table.add_row(_name(task["taskId"]), status(task["status"]), *numbers, clock(task["updatedAt"]))
    return table


def history_table(history: Iterable[Mapping[str, Any]]) -> Table:
    """What happened to a task, and what was said of it."""
    table = _table("Version", "At", "Status", "Verdict", "Said", right=("Version",))
    for entry in history:
        said = ": ".join(entry[name] for name in ("failureReason", "message") if name in entry)
        place = (str(entry["version"]), clock(entry["at"]))
        table.add_row(*place, status(entry["status"]), entry["verdict"], escape(said))
    return table


def status(name: str) -> str:
    """A status in its colour."""
    colour = {"COMPLETED": "green", "IN_PROGRESS": "cyan"}.get(name, "red" if "FAILED" in name else "")
    return f"[{colour}]{name}[/{colour}]" if colour else name


def clock(moment: str) -> str:
    """The time of day in an RFC 3339 moment."""
    return moment.partition("T")[2].rstrip("Z")


def _name(task_id: str) -> str:
    return escape(task_id if len(task_id) <= _LONGEST_NAME else f"...{task_id[3 - _LONGEST_NAME :]}")


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        is_last = column == columns[-1]
        table.add_column(column, justify="right" if column in right else "left", no_wrap=not is_last)
    return table
