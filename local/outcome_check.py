"""Whether a replay ended as it had to: compares what was planned, said and answered with what the service then shows.

Knows the service by its promises and its API only. Every difference is a sentence that names it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from local.delivery_plan import Delivery, End, Plan, TaskPlan, output_of

_BY_THE_SERVICE: Final = frozenset({"PENDING", "SCHEDULED", "TIMED_OUT", "CANCELED", "COMPLETED_WITH_ERRORS"})
_SETTLED: Final = frozenset({"COMPLETED", "COMPLETED_WITH_ERRORS"})
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
    said_at
        When it was sent, on the same clock as `Taken.at`.
    retry
        The decision that came with the answer.
    """

    delivery: Delivery
    end: End
    version: int | None
    detail: str = ""
    may_have_been_taken_twice: bool = False
    said_at: float = 0.0
    retry: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """An attempt that came out of the queue.

    Attributes
    ----------
    at
        When.
    again
        Whether it had come before.
    """

    task_id: str
    attempt: int
    at: float
    again: bool = False


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the service shows after a replay: the execution, its tasks in detail, the history of each."""

    execution: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, Any]]
    histories: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class _Record:
    """All that is known of a task.

    Attributes
    ----------
    was_cut_short
        Whether the execution was over before the task was, as an execution is that must end FAILED.
    was_slow
        Whether the service gave up a worker that was not killed: it may, where killed ones are to be missed.
    """

    plan: TaskPlan
    shown: Mapping[str, Any]
    changes: Sequence[Mapping[str, Any]]
    history: Sequence[Mapping[str, Any]]
    answers: Sequence[Answered]
    was_cut_short: bool
    was_slow: bool


def differences(plan: Plan, answers: Sequence[Answered], taken: Sequence[Taken], ledger: Ledger) -> list[str]:
    """Name everything that is not as it had to be; empty when all is."""
    by_task: dict[str, list[Answered]] = defaultdict(list)
    for answered in answers:
        by_task[answered.delivery.task_id].append(answered)
    found = list(_in_execution(plan, ledger))
    for one in plan.tasks:
        name = one.task.task_id
        shown = ledger.tasks.get(name)
        if shown is None:
            continue
        record = _record(plan, one, shown, ledger.histories.get(name, ()), by_task[name])
        faults = (
            *_in_deliveries(record),
            *_in_task(record),
            *_in_versions(record),
            *_in_finality(record),
            *_in_attempts(record),
            *_in_retries(record),
            *_in_order(record, by_task, taken, ledger),
            *_in_memory(record),
        )
        found += [f"task {name}: {fault}" for fault in faults]
    return found


def has_caught_up(shown: Mapping[str, Any], history: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a history, which is written a moment after the change, has all changes of a task."""
    versions = {entry["version"] for entry in history if entry["verdict"] == End.APPLIED}
    return set(range(1, shown["version"] + 1)) <= versions


def changes_of(history: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The applied changes of a history, in order."""
    return sorted((entry for entry in history if entry["verdict"] == End.APPLIED), key=lambda entry: entry["version"])


def lateness(answers: Iterable[Answered], ledger: Ledger) -> list[float]:
    """How many seconds after its `notBefore` each retry was opened, as far as a worker was told of it."""
    late = []
    for answered in answers:
        opened = _opened_after(answered, changes_of(ledger.histories.get(answered.delivery.task_id, ())))
        if opened is not None and answered.retry is not None:
            late.append(_seconds(opened["at"]) - _seconds(answered.retry["notBefore"]))
    return late


def _record(
    plan: Plan,
    one: TaskPlan,
    shown: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    answers: Sequence[Answered],
) -> _Record:
    changes = changes_of(history)
    timed_out = {change["attempt"] for change in changes if change["status"] == "TIMED_OUT"}
    return _Record(
        plan=one,
        shown=shown,
        changes=changes,
        history=history,
        answers=answers,
        was_cut_short=plan.fatal is not None and shown["status"] == "CANCELED",
        was_slow=one.may_be_timed_out and bool(timed_out - one.timed_out),
    )


def _in_execution(plan: Plan, ledger: Ledger) -> Iterator[str]:
    expected = {task.task_id for task in plan.trace.tasks}
    yield from (f"task {name} is missing" for name in sorted(expected - set(ledger.tasks)))
    yield from (f"task {name} is in no trace" for name in sorted(set(ledger.tasks) - expected))
    status = ledger.execution["status"]
    if status != plan.ends:
        yield f"the execution is {status}, not {plan.ends}"
    counts = {name: count for name, count in ledger.execution["counts"].items() if count}
    if ledger.execution["taskCount"] != len(expected) or sum(counts.values()) != len(expected):
        yield f"the execution counts {ledger.execution['taskCount']} tasks as {counts}, of {len(expected)}"
    if counts != Counter(shown["status"] for shown in ledger.tasks.values()):
        yield f"the execution counts its tasks as {counts}, and its tasks say otherwise"


def _in_deliveries(record: _Record) -> Iterator[str]:
    planned = Counter(id(delivery) for delivery in record.plan.deliveries)
    planned.subtract(id(answered.delivery) for answered in record.answers)
    missing = sum(count for count in planned.values() if count > 0)
    if missing and not record.was_cut_short and not record.was_slow:
        yield f"{missing} of its deliveries were never answered"
    for answered in record.answers:
        delivery = answered.delivery
        about = f" ({delivery.disturbance})" if delivery.disturbance else ""
        if answered.end is not delivery.end and not _is_excused(answered, record):
            why = f": {answered.detail}" if answered.detail else ""
            yield f"{_name(delivery)}{about} ended in {answered.end}, not in {delivery.end}{why}"
        told = answered.retry["willRetry"] if answered.retry is not None else None
        if delivery.will_retry is not None and answered.end is End.APPLIED and told is not delivery.will_retry:
            yield f"{_name(delivery)}{about} was told willRetry {told}, not {delivery.will_retry}"


def _is_excused(answered: Answered, record: _Record) -> bool:
    """Whether the difference is one that a slow machine, a lost answer or the end of the execution makes."""
    return (
        record.was_slow
        or (answered.may_have_been_taken_twice and answered.end is End.DUPLICATE)
        or (record.was_cut_short and answered.end in (End.SEALED, End.STOP))
    )


def _in_task(record: _Record) -> Iterator[str]:
    shown, ends = record.shown, record.plan.ends
    if record.was_cut_short:
        return
    if shown["status"] != ends:
        yield f"is {shown['status']}, not {ends}"
    if ends != "COMPLETED":
        return
    output = output_of(record.plan.task)
    if shown.get("output") != output:
        yield f"has the output {shown.get('output')}, not {output}"
    for name in ("failureReason", "message"):
        if name in shown:
            yield f"has succeeded and still shows the {name} {shown[name]!r}"


def _in_versions(record: _Record) -> Iterator[str]:
    versions = [change["version"] for change in record.changes]
    if versions != list(range(1, record.shown["version"] + 1)):
        yield f"is at version {record.shown['version']}, and its history has the changes {versions}"


def _in_finality(record: _Record) -> Iterator[str]:
    for before, after in pairwise(record.changes):
        if before["status"] in {*_SETTLED, "CANCELED"}:
            yield f"was {before['status']} at version {before['version']}, then became {after['status']}"


def _in_attempts(record: _Record) -> Iterator[str]:
    """Each attempt is opened once, one after the other, and no more of them than the failures ask for."""
    opened = [change["attempt"] for change in record.changes if change["status"] == "SCHEDULED"]
    planned = list(range(1, len(record.plan.attempts) + 1))
    if opened != list(range(1, len(opened) + 1)):
        yield f"its attempts were opened as {opened}"
    elif opened != planned and not record.was_cut_short and not record.was_slow:
        yield f"its attempts {opened} were opened, not {planned}"
    timed_out = [change["attempt"] for change in record.changes if change["status"] == "TIMED_OUT"]
    if sorted(record.plan.timed_out) != timed_out and not record.was_cut_short and not record.was_slow:
        yield f"its attempts {timed_out} were timed out, not {sorted(record.plan.timed_out)}"


def _in_retries(record: _Record) -> Iterator[str]:
    """A retry comes no sooner than the worker was told, nor than it asked for."""
    for answered in record.answers:
        opened = _opened_after(answered, record.changes)
        if opened is None or answered.retry is None:
            continue
        if _seconds(opened["at"]) < _seconds(answered.retry["notBefore"]):
            yield f"attempt {opened['attempt']} was opened at {opened['at']}, before {answered.retry['notBefore']}"
        asked = answered.delivery.said.get("retryAfterSeconds", 0)
        failed = next(change for change in record.changes if change["version"] == answered.version)
        if round(_seconds(opened["at"]) - _seconds(failed["at"]), 3) < asked:
            yield f"attempt {opened['attempt']} was opened at {opened['at']}, less than {asked} s after its failure"


def _opened_after(answered: Answered, changes: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The opening of the attempt that the answer to an applied failure announced, if it was opened."""
    if answered.end is not End.APPLIED or answered.retry is None or not answered.retry["willRetry"]:
        return None
    announced = answered.retry["nextAttempt"]
    found = (one for one in changes if one["status"] == "SCHEDULED" and one["attempt"] == announced)
    return next(found, None)


def _in_order(
    record: _Record, by_task: Mapping[str, Sequence[Answered]], taken: Sequence[Taken], ledger: Ledger
) -> Iterator[str]:
    """A task is scheduled and handed out only when all that it waits for is done."""
    scheduled = next((change for change in record.changes if change["status"] == "SCHEDULED"), None)
    if scheduled is None:
        return
    name = record.plan.task.task_id
    handed_out = min((one.at for one in taken if one.task_id == name), default=None)
    for parent in record.plan.task.parents:
        settled = next(
            (change for change in changes_of(ledger.histories.get(parent, ())) if change["status"] in _SETTLED), None
        )
        if settled is None or _seconds(settled["at"]) > _seconds(scheduled["at"]):
            yield f"was scheduled at {scheduled['at']}, before {parent} was done"
        applied = [answered.said_at for answered in by_task[parent] if answered.end is End.APPLIED]
        if handed_out is not None and (not applied or handed_out < max(applied)):
            yield f"was handed out before the last word on {parent} was said"


def _in_memory(record: _Record) -> Iterator[str]:
    """Every delivery is in the history, and nothing is there that nobody sent."""
    claimed: Counter[int] = Counter()
    explained: set[int] = set()
    for answered in record.answers:
        if answered.end is End.REFUSED or answered.delivery.is_heartbeat:
            continue
        entries = [place for place, entry in enumerate(record.history) if _is_of(answered, entry)]
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
    lost_answers = any(answered.may_have_been_taken_twice for answered in record.answers)
    for place, entry in enumerate(record.history):
        if place not in explained and not _is_by_the_service(entry, record) and not lost_answers:
            about = f"{entry['status']} ({entry['verdict']}, version {entry['version']})"
            yield f"its history has {about}, which nobody sent"


def _is_by_the_service(entry: Mapping[str, Any], record: _Record) -> bool:
    """Whether the service makes such an entry by itself, for a task that is planned so."""
    if entry["verdict"] != End.APPLIED or entry["status"] not in _BY_THE_SERVICE:
        return False
    if entry["status"] == "CANCELED":
        return record.was_cut_short
    return entry["status"] != "COMPLETED_WITH_ERRORS" or record.plan.goes_on


def _is_of(answered: Answered, entry: Mapping[str, Any]) -> bool:
    delivery = answered.delivery
    said: dict[str, Any] = {name: delivery.said[name] for name in ("failureReason", "message") if name in delivery.said}
    # A success of any attempt stands as the task's own, under the attempt that the task was at
    is_success = answered.end is End.APPLIED and delivery.said["status"] == "COMPLETED"
    if delivery.attempt is not None and not is_success and "attempt" in entry:
        said["attempt"] = delivery.attempt
    return (
        entry["verdict"] == answered.end
        and entry["version"] == answered.version
        and entry["status"] in _RAISED.get(delivery.said["status"], (delivery.said["status"],))
        and all(entry.get(name) == value for name, value in said.items())
    )


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _name(delivery: Delivery) -> str:
    return "a heartbeat" if delivery.is_heartbeat else f"a report of {delivery.said['status']}"
