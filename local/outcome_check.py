"""Whether a replay ended as it had to: compares what was sent and answered with what the service then shows.

Knows the service by its promises and its API only. Every difference is a sentence that names it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from local.delivery_plan import Delivery, End, Plan, output_of

_MADE_BY_THE_SERVICE: Final = ("PENDING", "SCHEDULED")
_RAISED: Final = {"FAILED": ("FAILED", "FAILED_WITH_TERMINAL_ERROR")}
"""A failure for a reason that is never retried is kept as a terminal error."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a delivery got.

    Attributes
    ----------
    end
        What it ended in.
    version
        The task's version in the answer; None where it was refused.
    detail
        Why it was refused.
    may_have_been_taken_twice
        Whether it was sent again after an answer that was lost or said that the service is busy.
    """

    delivery: Delivery
    end: End
    version: int | None
    detail: str = ""
    may_have_been_taken_twice: bool = False


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the service shows after a replay: the execution, its tasks in detail, the history of each."""

    execution: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, Any]]
    histories: Mapping[str, Sequence[Mapping[str, Any]]]


def differences(plan: Plan, answers: Sequence[Answered], ledger: Ledger) -> list[str]:
    """Name everything that is not as it had to be; empty when all is."""
    by_task: dict[str, list[Answered]] = defaultdict(list)
    for answered in answers:
        by_task[answered.delivery.task_id].append(answered)
    found = [*_in_deliveries(plan, answers), *_in_execution(plan, ledger)]
    for task in plan.trace.tasks:
        shown = ledger.tasks.get(task.task_id)
        if shown is not None:
            history = ledger.histories.get(task.task_id, ())
            faults = (
                *_in_task(shown, output_of(task)),
                *_in_versions(shown, history),
                *_in_finality(history),
                *_in_memory(by_task[task.task_id], history),
            )
            found += [f"task {task.task_id}: {fault}" for fault in faults]
    return found


def has_caught_up(shown: Mapping[str, Any], history: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a history, which is written a moment after the change, has all changes of a task."""
    return set(range(1, shown["version"] + 1)) <= _applied_versions(history)


def _applied_versions(history: Iterable[Mapping[str, Any]]) -> set[int]:
    return {entry["version"] for entry in history if entry["verdict"] == End.APPLIED}


def _in_deliveries(plan: Plan, answers: Sequence[Answered]) -> Iterator[str]:
    planned = Counter(id(delivery) for delivery in plan.deliveries)
    planned.subtract(id(answered.delivery) for answered in answers)
    missing = planned.total()
    if missing:
        yield f"{missing} deliveries were never answered"
    for answered in answers:
        delivery = answered.delivery
        if answered.end is not delivery.end and not _is_excused(answered):
            about = f" ({delivery.disturbance})" if delivery.disturbance else ""
            why = f": {answered.detail}" if answered.detail else ""
            yield (
                f"task {delivery.task_id}: {_name(delivery)}{about} ended in {answered.end}, not in {delivery.end}{why}"
            )


def _is_excused(answered: Answered) -> bool:
    """Whether the difference is only that the service took the same report twice."""
    return answered.may_have_been_taken_twice and answered.end is End.DUPLICATE


def _in_execution(plan: Plan, ledger: Ledger) -> Iterator[str]:
    expected = {task.task_id for task in plan.trace.tasks}
    yield from (f"task {name} is missing" for name in sorted(expected - set(ledger.tasks)))
    yield from (f"task {name} is in no trace" for name in sorted(set(ledger.tasks) - expected))
    counts = {status: count for status, count in ledger.execution["counts"].items() if count}
    if counts != {"COMPLETED": len(expected)} or ledger.execution["taskCount"] != len(expected):
        yield f"the execution counts {ledger.execution['taskCount']} tasks as {counts}, of {len(expected)}"


def _in_task(shown: Mapping[str, Any], output: Mapping[str, Any]) -> Iterator[str]:
    if shown["status"] != "COMPLETED":
        yield f"is {shown['status']}, not COMPLETED"
    if shown["output"] != output:
        yield f"has the output {shown['output']}, not {output}"
    for name in ("failureReason", "message"):
        if name in shown:
            yield f"has succeeded and still shows the {name} {shown[name]!r}"


def _in_versions(shown: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    applied = [entry["version"] for entry in history if entry["verdict"] == End.APPLIED]
    expected = list(range(1, shown["version"] + 1))
    if sorted(applied) != expected:
        yield f"is at version {shown['version']}, and its history has the changes {sorted(applied)}"


def _in_finality(history: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    changes = sorted(
        (entry for entry in history if entry["verdict"] == End.APPLIED), key=lambda entry: entry["version"]
    )
    for before, after in pairwise(changes):
        if before["status"] == "COMPLETED":
            yield f"was COMPLETED at version {before['version']}, then became {after['status']}"


def _in_memory(answers: Sequence[Answered], history: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Every delivery is in the history, and nothing is there that nobody sent."""
    claimed: Counter[int] = Counter()
    explained: set[int] = set()
    for answered in answers:
        if answered.end is End.REFUSED or answered.delivery.is_heartbeat:
            continue
        entries = [place for place, entry in enumerate(history) if _is_of(answered, entry)]
        explained.update(entries)
        if not entries:
            said = f"{_name(answered.delivery)}, answered {answered.end} at version {answered.version}"
            yield f"{said}, is not in its history"
        if answered.end is End.APPLIED and answered.version is not None:
            claimed[answered.version] += 1
    yield from (
        f"version {version} was answered to {count} reports as their doing"
        for version, count in claimed.items()
        if count > 1
    )
    lost_answers = any(answered.may_have_been_taken_twice for answered in answers)
    for place, entry in enumerate(history):
        by_service = entry["verdict"] == End.APPLIED and entry["status"] in _MADE_BY_THE_SERVICE
        if place not in explained and not by_service and not lost_answers:
            about = f"{entry['status']} ({entry['verdict']}, version {entry['version']})"
            yield f"its history has {about}, which nobody sent"


def _is_of(answered: Answered, entry: Mapping[str, Any]) -> bool:
    said = answered.delivery.said
    return (
        entry["verdict"] == answered.end
        and entry["version"] == answered.version
        and entry["status"] in _RAISED.get(said["status"], (said["status"],))
        and all(entry.get(name) == said[name] for name in ("attempt", "failureReason", "message") if name in said)
    )


def _name(delivery: Delivery) -> str:
    return "a heartbeat" if delivery.is_heartbeat else f"a report of {delivery.said['status']}"
