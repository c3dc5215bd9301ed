"""Comparison of a replay with its plan: requests, responses and the state that the service shows afterwards.

The checks rest on the service's promises and its API only. Each difference is one sentence.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from local.replay.scripts import ExpectedOutcome, ReplayPlan, ScriptedRequest, TaskPlan, expected_output

_SERVICE_STATUSES: Final = frozenset({"PENDING", "SCHEDULED", "TIMED_OUT", "CANCELED", "COMPLETED_WITH_ERRORS"})
_SETTLED: Final = frozenset({"COMPLETED", "COMPLETED_WITH_ERRORS"})
_STORED_STATUSES: Final = {"FAILED": ("FAILED", "FAILED_WITH_TERMINAL_ERROR")}
"""Statuses as which a report may be stored: a failure whose reason is never retried becomes a terminal error."""


@dataclass(frozen=True, slots=True)
class RequestResult:
    """Result of one request.

    Attributes
    ----------
    outcome
        Outcome of the request.
    version
        Version of the task in the response; None if the request was refused.
    detail
        Reason of the refusal.
    may_be_processed_twice
        True if the request was repeated after a lost response or a response that the service is busy.
    sent_at
        Time of sending, on the same clock as `ReceivedAttempt.received_at`.
    retry
        Retry decision in the response.
    """

    request: ScriptedRequest
    outcome: ExpectedOutcome
    version: int | None
    detail: str = ""
    may_be_processed_twice: bool = False
    sent_at: float = 0.0
    retry: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ReceivedAttempt:
    """Attempt that the queue delivered.

    Attributes
    ----------
    received_at
        Time of receipt.
    is_repeated
        True if the attempt was received before.
    """

    task_id: str
    attempt: int
    received_at: float
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """State that the service shows after a replay: the execution, its tasks in detail, the history of each."""

    execution: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, Any]]
    histories: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class _TaskRecord:
    """Plan, state, history and results of one task.

    Attributes
    ----------
    was_cut_short
        True if the execution ended before the task did, as in an execution that must end FAILED.
    was_slow
        True if the service timed out a worker that was not killed; allowed where killed workers must be detected.
    """

    plan: TaskPlan
    shown: Mapping[str, Any]
    changes: Sequence[Mapping[str, Any]]
    history: Sequence[Mapping[str, Any]]
    results: Sequence[RequestResult]
    was_cut_short: bool
    was_slow: bool


def differences(
    plan: ReplayPlan, results: Sequence[RequestResult], received: Sequence[ReceivedAttempt], ledger: LedgerSnapshot
) -> list[str]:
    """Return all differences from the plan; empty if there are none."""
    by_task: dict[str, list[RequestResult]] = defaultdict(list)
    for result in results:
        by_task[result.request.task_id].append(result)
    messages = list(_in_execution(plan, ledger))
    for task_plan in plan.tasks:
        name = task_plan.task.task_id
        shown = ledger.tasks.get(name)
        if shown is None:
            continue
        record = _record(plan, task_plan, shown, ledger.histories.get(name, ()), by_task[name])
        faults = (
            *_in_responses(record),
            *_in_task(record),
            *_in_versions(record),
            *_in_finality(record),
            *_in_attempts(record),
            *_in_retries(record),
            *_in_dependency_order(record, by_task, received, ledger),
            *_in_history(record),
        )
        messages += [f"task {name}: {fault}" for fault in faults]
    return messages


def is_consistent(shown: Mapping[str, Any], history: Iterable[Mapping[str, Any]]) -> bool:
    """Return True if a history, which is written a moment after the change, has all changes of a task."""
    versions = {entry["version"] for entry in history if entry["verdict"] == ExpectedOutcome.APPLIED}
    return set(range(1, shown["version"] + 1)) <= versions


def applied_changes(history: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the applied changes of a history, in order."""
    return sorted(
        (entry for entry in history if entry["verdict"] == ExpectedOutcome.APPLIED), key=lambda entry: entry["version"]
    )


def retry_delays(results: Iterable[RequestResult], ledger: LedgerSnapshot) -> list[float]:
    """Return the delay of each retry after its `notBefore`, in seconds, if a worker received its decision."""
    delays = []
    for result in results:
        opened = _opened_after(result, applied_changes(ledger.histories.get(result.request.task_id, ())))
        if opened is not None and result.retry is not None:
            delays.append(_seconds(opened["at"]) - _seconds(result.retry["notBefore"]))
    return delays


def _record(
    plan: ReplayPlan,
    task_plan: TaskPlan,
    shown: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    results: Sequence[RequestResult],
) -> _TaskRecord:
    changes = applied_changes(history)
    timed_out = {change["attempt"] for change in changes if change["status"] == "TIMED_OUT"}
    return _TaskRecord(
        plan=task_plan,
        shown=shown,
        changes=changes,
        history=history,
        results=results,
        was_cut_short=plan.fatal is not None and shown["status"] == "CANCELED",
        was_slow=task_plan.may_be_timed_out and bool(timed_out - task_plan.timed_out),
    )


def _in_execution(plan: ReplayPlan, ledger: LedgerSnapshot) -> Iterator[str]:
    expected = {task.task_id for task in plan.trace.tasks}
    yield from (f"task {name} is missing" for name in sorted(expected - set(ledger.tasks)))
    yield from (f"task {name} is not in the trace" for name in sorted(set(ledger.tasks) - expected))
    status = ledger.execution["status"]
    if status != plan.ends:
        yield f"the execution is {status}, not {plan.ends}"
    counts = {name: count for name, count in ledger.execution["counts"].items() if count}
    if ledger.execution["taskCount"] != len(expected) or sum(counts.values()) != len(expected):
        yield f"the execution counts {ledger.execution['taskCount']} tasks as {counts}, of {len(expected)}"
    if counts != Counter(shown["status"] for shown in ledger.tasks.values()):
        yield f"the execution counts its tasks as {counts}, which differs from the tasks' statuses"


def _in_responses(record: _TaskRecord) -> Iterator[str]:
    planned = Counter(id(request) for request in record.plan.scripted_requests)
    planned.subtract(id(result.request) for result in record.results)
    missing = sum(count for count in planned.values() if count > 0)
    if missing and not record.was_cut_short and not record.was_slow:
        yield f"{missing} of its requests got no response"
    for result in record.results:
        scripted = result.request
        suffix = f" ({scripted.delivery_fault})" if scripted.delivery_fault else ""
        if result.outcome is not scripted.expected and not _is_excused(result, record):
            why = f": {result.detail}" if result.detail else ""
            yield f"{_name(scripted)}{suffix} got {result.outcome}, expected {scripted.expected}{why}"
        will_retry = result.retry["willRetry"] if result.retry is not None else None
        if (
            scripted.will_retry is not None
            and result.outcome is ExpectedOutcome.APPLIED
            and will_retry is not scripted.will_retry
        ):
            yield f"{_name(scripted)}{suffix} got willRetry {will_retry}, expected {scripted.will_retry}"


def _is_excused(result: RequestResult, record: _TaskRecord) -> bool:
    """Return True if a slow machine, a lost response or the end of the execution explains the difference."""
    return (
        record.was_slow
        or (result.may_be_processed_twice and result.outcome is ExpectedOutcome.DUPLICATE)
        or (record.was_cut_short and result.outcome in (ExpectedOutcome.SEALED, ExpectedOutcome.STOP))
    )


def _in_task(record: _TaskRecord) -> Iterator[str]:
    shown, ends = record.shown, record.plan.ends
    if record.was_cut_short:
        return
    if shown["status"] != ends:
        yield f"is {shown['status']}, not {ends}"
    if ends != "COMPLETED":
        return
    output = expected_output(record.plan.task)
    if shown.get("output") != output:
        yield f"has the output {shown.get('output')}, not {output}"
    for name in ("failureReason", "message"):
        if name in shown:
            yield f"has succeeded and still shows the {name} {shown[name]!r}"


def _in_versions(record: _TaskRecord) -> Iterator[str]:
    versions = [change["version"] for change in record.changes]
    if versions != list(range(1, record.shown["version"] + 1)):
        yield f"is at version {record.shown['version']}, but its history has the versions {versions}"


def _in_finality(record: _TaskRecord) -> Iterator[str]:
    for before, after in pairwise(record.changes):
        if before["status"] in {*_SETTLED, "CANCELED"}:
            yield f"was {before['status']} at version {before['version']}, then became {after['status']}"


def _in_attempts(record: _TaskRecord) -> Iterator[str]:
    """Check that attempts are opened once, in sequence, and no more of them than the failures require."""
    opened = [change["attempt"] for change in record.changes if change["status"] == "SCHEDULED"]
    planned = list(range(1, len(record.plan.attempts) + 1))
    if opened != list(range(1, len(opened) + 1)):
        yield f"its attempts were opened as {opened}"
    elif opened != planned and not record.was_cut_short and not record.was_slow:
        yield f"its attempts {opened} were opened, not {planned}"
    timed_out = [change["attempt"] for change in record.changes if change["status"] == "TIMED_OUT"]
    if sorted(record.plan.timed_out) != timed_out and not record.was_cut_short and not record.was_slow:
        yield f"its attempts {timed_out} were timed out, not {sorted(record.plan.timed_out)}"


def _in_retries(record: _TaskRecord) -> Iterator[str]:
    """Check that no retry is earlier than its `notBefore` and the requested delay."""
    for result in record.results:
        opened = _opened_after(result, record.changes)
        if opened is None or result.retry is None:
            continue
        if _seconds(opened["at"]) < _seconds(result.retry["notBefore"]):
            yield f"attempt {opened['attempt']} was opened at {opened['at']}, before {result.retry['notBefore']}"
        requested = result.request.body.get("retryAfterSeconds", 0)
        failed = next(change for change in record.changes if change["version"] == result.version)
        if round(_seconds(opened["at"]) - _seconds(failed["at"]), 3) < requested:
            yield f"attempt {opened['attempt']} was opened at {opened['at']}, less than {requested} s after its failure"


def _opened_after(result: RequestResult, changes: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the opening of the attempt that the response to an applied failure promised, if it was opened."""
    if result.outcome is not ExpectedOutcome.APPLIED or result.retry is None or not result.retry["willRetry"]:
        return None
    next_attempt = result.retry["nextAttempt"]
    openings = (change for change in changes if change["status"] == "SCHEDULED" and change["attempt"] == next_attempt)
    return next(openings, None)


def _in_dependency_order(
    record: _TaskRecord,
    by_task: Mapping[str, Sequence[RequestResult]],
    received: Sequence[ReceivedAttempt],
    ledger: LedgerSnapshot,
) -> Iterator[str]:
    """Check that a task is scheduled and sent to a worker only after all its dependencies are done."""
    scheduled = next((change for change in record.changes if change["status"] == "SCHEDULED"), None)
    if scheduled is None:
        return
    name = record.plan.task.task_id
    sent_at = min((attempt.received_at for attempt in received if attempt.task_id == name), default=None)
    for parent in record.plan.task.parents:
        settled = next(
            (change for change in applied_changes(ledger.histories.get(parent, ())) if change["status"] in _SETTLED),
            None,
        )
        if settled is None or _seconds(settled["at"]) > _seconds(scheduled["at"]):
            yield f"was scheduled at {scheduled['at']}, before {parent} was done"
        applied = [result.sent_at for result in by_task[parent] if result.outcome is ExpectedOutcome.APPLIED]
        if sent_at is not None and (not applied or sent_at < max(applied)):
            yield f"was sent to a worker before the last report on {parent}"


def _in_history(record: _TaskRecord) -> Iterator[str]:
    """Check that every request is in the history, and that every entry has a request."""
    claimed: Counter[int] = Counter()
    explained: set[int] = set()
    for result in record.results:
        if result.outcome is ExpectedOutcome.REFUSED or result.request.is_heartbeat:
            continue
        entries = [index for index, entry in enumerate(record.history) if _matches_entry(result, entry)]
        explained.update(entries)
        if not entries:
            description = f"{_name(result.request)}, with the response {result.outcome} at version {result.version}"
            yield f"{description}, is not in its history"
        if result.outcome is ExpectedOutcome.APPLIED and result.version is not None:
            claimed[result.version] += 1
    yield from (
        f"version {version} was returned to {count} reports as their own change"
        for version, count in claimed.items()
        if count > 1
    )
    has_lost_responses = any(result.may_be_processed_twice for result in record.results)
    for position, entry in enumerate(record.history):
        if position not in explained and not _is_service_change(entry, record) and not has_lost_responses:
            suffix = f"{entry['status']} ({entry['verdict']}, version {entry['version']})"
            yield f"its history has {suffix}, which no worker sent"


def _is_service_change(entry: Mapping[str, Any], record: _TaskRecord) -> bool:
    """Return True if the service itself makes such a change of a task with this plan."""
    if entry["verdict"] != ExpectedOutcome.APPLIED or entry["status"] not in _SERVICE_STATUSES:
        return False
    if entry["status"] == "CANCELED":
        return record.was_cut_short
    return entry["status"] != "COMPLETED_WITH_ERRORS" or record.plan.continues_on_failure


def _matches_entry(result: RequestResult, entry: Mapping[str, Any]) -> bool:
    request = result.request
    fields: dict[str, Any] = {name: request.body[name] for name in ("failureReason", "message") if name in request.body}
    # A success of any attempt is stored under the attempt that the task was at
    is_success = result.outcome is ExpectedOutcome.APPLIED and request.body["status"] == "COMPLETED"
    if request.attempt is not None and not is_success and "attempt" in entry:
        fields["attempt"] = request.attempt
    return (
        entry["verdict"] == result.outcome
        and entry["version"] == result.version
        and entry["status"] in _STORED_STATUSES.get(request.body["status"], (request.body["status"],))
        and all(entry.get(name) == value for name, value in fields.items())
    )


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _name(request: ScriptedRequest) -> str:
    return "a heartbeat" if request.is_heartbeat else f"a report of {request.body['status']}"
