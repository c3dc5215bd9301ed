"""Each kind of fault at each call to AWS of each function: the outcome is the same as without faults.

The cases are not written by hand: each scenario is run once without faults and its calls are recorded. `make test`
tries each kind of fault at each function and at each kind of call; with `TASKLATCH_PROVE=1` each at each place in the
code.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any, Final
from uuid import uuid4

import pytest

from local.handlers import load_handler
from tasklatch.domain.errors import ServiceBusyError
from tasklatch.domain.report import Verdict
from tasklatch.domain.results import ReportResult
from tasklatch.domain.schedule import Firing, Schedule
from tasklatch.domain.status import TaskStatus
from tasklatch.ledger.ledger import Ledger
from tasklatch.notifications import broadcast
from tasklatch.notifications.broadcast import WatcherBroadcast
from tasklatch.notifications.publisher import ChangePublisher
from tasklatch.runtime import clients
from tasklatch.schedules.firing import ScheduleFiring
from tests.factories import a_task
from tests.fault_injection.cases import Case, each_pair_once, each_place_once, faults_found, recording_of
from tests.fault_injection.faults import ALIKE, Fault
from tests.fault_injection.scenarios import SCENARIOS

PROVES: Final = bool(os.environ.get("TASKLATCH_PROVE"))
EVERY_FUNCTION: Final = frozenset(
    {
        "cognite_contract",
        "cognite_definitions",
        "cognite_executions",
        "execution_control",
        "executions",
        "forge_contract",
        "live_connection",
        "notifier",
        "reconciler",
        "report_status",
        "retry_dispatcher",
        "retry_scheduler",
        "schedule_runner",
        "schedules",
        "superai_contract",
        "timer_sweeper",
        "workflow_advancer",
    }
)


@cache
def recorded_cases() -> tuple[Case, ...]:
    return tuple(case for scenario in SCENARIOS for case in recording_of(scenario).cases)


@cache
def all_cases() -> tuple[Case, ...]:
    return tuple(each_place_once(recorded_cases()) if PROVES else each_pair_once(recorded_cases()))


@pytest.mark.parametrize("fault", Fault)
def test_outcome_is_the_same_as_without_the_fault(fault: Fault, record_property: Callable[[str, object], None]) -> None:
    # given
    cases = [case for case in all_cases() if case.fault is fault]
    assert cases

    # when
    wrong = [sentence for case in cases for sentence in faults_found(case)]

    # then
    assert not wrong, "\n".join(wrong)
    record_property("runs with a fault", len(cases))


def test_every_function_that_calls_aws_meets_every_fault() -> None:
    # given
    cases = all_cases()

    # then
    assert {case.function for case in cases} == EVERY_FUNCTION
    for function in EVERY_FUNCTION:
        met = {case.fault for case in cases if case.function == function}
        assert {Fault.KILLED_BEFORE, Fault.KILLED_AFTER, Fault.OUTAGE, Fault.OUTAGE_AFTER} <= met, function
        assert {fault for alike in ALIKE for fault in alike} <= met, function


def test_each_function_each_operation_and_each_fault_meet_wherever_they_can() -> None:
    # given
    tried, possible = (
        {pair for case in cases for pair in combinations((case.function, case.location[1], case.fault), 2)}
        for cases in (all_cases(), recorded_cases())
    )

    # then
    assert tried == possible


def test_every_operation_that_can_be_refused_in_part_or_for_a_conflict_is() -> None:
    # given
    cases = all_cases()

    # then
    assert {case.location[1] for case in cases if case.fault is Fault.FIRST_PART_REFUSED} == {
        "BatchExecuteStatement",
        "BatchGetItem",
        "BatchWriteItem",
        "PutEvents",
        "SendMessageBatch",
    }
    assert {case.location[1] for case in cases if case.fault is Fault.CONFLICT} == {
        "DeleteItem",
        "PutItem",
        "TransactWriteItems",
        "UpdateItem",
    }


# ---------------------------------------------------------------- seeded bugs that the harness must detect

Patch = pytest.MonkeyPatch
Parsed = dict[str, Any]


def in_answers(operation: str, change: Callable[[Parsed], None]) -> Callable[[Patch], Iterator[None]]:
    """Remove a part of AWS's responses, as if the code never read it."""
    service = {"PutEvents": "events", "SendMessageBatch": "sqs"}.get(operation, "dynamodb")

    def seed(_: Patch) -> Iterator[None]:
        hooks = getattr(clients, service)().meta.events

        def on_answer(parsed: Parsed, **_: Any) -> None:
            change(parsed)

        event = f"after-call.*.{operation}"
        hooks.register(event, on_answer)
        try:
            yield
        finally:
            hooks.unregister(event, on_answer)

    return seed


def in_code(index: str, instead: Callable[..., Any]) -> Callable[[Patch], Iterator[None]]:
    """Replace a name in the shipped code."""

    def seed(patch: Patch) -> Iterator[None]:
        patch.setattr(index, instead)
        yield

    return seed


def hide_failed_entries(parsed: Parsed) -> None:
    parsed["FailedEntryCount"] = 0
    for entry in parsed["Entries"]:
        entry.pop("ErrorCode", None)


def count_refused_statements_as_done(parsed: Parsed) -> None:
    for response in parsed["Responses"]:
        if response.get("Error", {}).get("Code") not in ("ConditionalCheckFailed", "DuplicateItem"):
            response.pop("Error", None)


_publish, _record, _post = ChangePublisher.publish, Ledger.record, WatcherBroadcast._post
_fire = ScheduleFiring._fire


def publish_and_hide_that_it_was_busy(self: ChangePublisher, changes: Any) -> None:
    with suppress(ServiceBusyError):
        _publish(self, changes)


def serve_whoever(self: WatcherBroadcast, *arguments: Any) -> broadcast._Outcome:
    _post(self, *arguments)
    return broadcast._Outcome.SERVED


def acknowledge_before_the_write(self: Ledger, *arguments: Any) -> ReportResult:
    try:
        return _record(self, *arguments)
    except ServiceBusyError:
        return ReportResult(Verdict.APPLIED, a_task(TaskStatus.COMPLETED, execution_id=arguments[1], version=1_000))


def record_before_it_starts(self: ScheduleFiring, schedule: Schedule, fire_time: int, translators: Any) -> Firing:
    result = Firing(fire_time=fire_time, execution_id=schedule.execution_id(fire_time))
    self._history.record(schedule, replace(result, workflow=schedule.content.workflow), schedule.created_at)
    return _fire(self, schedule, fire_time, translators)


def report_no_failed_message(seed: str) -> Callable[[Patch], Iterator[None]]:
    def apply(patch: Patch) -> Iterator[None]:
        module = load_handler(seed)
        if hasattr(module, "BatchProcessor"):
            patch.setattr(module.BatchProcessor, "response", lambda _: {"batchItemFailures": []})
            yield
            return
        process = module.process_records

        def process_and_hide(*arguments: Any, **keywords: Any) -> Any:
            process(*arguments, **keywords)
            return {"batchItemFailures": []}

        patch.setattr(module, "process_records", process_and_hide)
        yield

    return apply


Seed = Callable[[Patch], Iterator[None]]

# The bug; and the place where it shows: the calls of a function, under a fault
SEEDED: Final[dict[str, tuple[Seed, str, str, Fault]]] = {
    "FailedEntryCount is not checked": (
        in_answers("PutEvents", hide_failed_entries),
        "notifier",
        "PutEvents",
        Fault.FIRST_PART_REFUSED,
    ),
    "UnprocessedItems are not put again": (
        in_answers("BatchWriteItem", lambda parsed: parsed.update(UnprocessedItems={})),
        "notifier",
        "BatchWriteItem",
        Fault.FIRST_PART_REFUSED,
    ),
    "UnprocessedKeys are not requested again": (
        in_answers("BatchGetItem", lambda parsed: parsed.update(UnprocessedKeys={})),
        "notifier",
        "BatchGetItem",
        Fault.FIRST_PART_REFUSED,
    ),
    "Failed messages are not sent again": (
        in_answers("SendMessageBatch", lambda parsed: parsed.update(Failed=[])),
        "retry_scheduler",
        "SendMessageBatch",
        Fault.FIRST_PART_REFUSED,
    ),
    "a refused statement of a batch counts as done": (
        in_answers("BatchExecuteStatement", count_refused_statements_as_done),
        "report_status",
        "BatchExecuteStatement",
        Fault.FIRST_PART_REFUSED,
    ),
    "a server error is not retried": (
        in_code("tasklatch.runtime.backoff.is_busy", lambda _: False),
        "report_status",
        "UpdateItem",
        Fault.SERVER_ERROR,
    ),
    "a batch of changes that was not published is not reported": (
        in_code("tasklatch.notifications.publisher.ChangePublisher.publish", publish_and_hide_that_it_was_busy),
        "notifier",
        "BatchWriteItem",
        Fault.OUTAGE,
    ),
    "a record that cannot be read is dropped": (
        in_code("tasklatch.notifications.stream_consumer.StreamConsumer._store", lambda *_: []),
        "notifier",
        "PutObject",
        Fault.OUTAGE,
    ),
    "the redrive deletes records that it has not sent": (
        in_code("local.redrive_records.RecordsRedrive._send", lambda *_: []),
        "notifier",
        "PutObject",
        Fault.OUTAGE,
    ),
    "a watcher that takes no message counts as served": (
        in_code("tasklatch.notifications.broadcast.WatcherBroadcast._post", serve_whoever),
        "notifier",
        "PostToConnection",
        Fault.THROTTLED,
    ),
    "a timer that could not be handled is not reported": (
        report_no_failed_message("retry_dispatcher"),
        "retry_dispatcher",
        "UpdateItem",
        Fault.OUTAGE,
    ),
    "an event that could not be handled is not reported": (
        report_no_failed_message("workflow_advancer"),
        "workflow_advancer",
        "GetItem",
        Fault.OUTAGE,
    ),
    "a report is acknowledged before it is written": (
        in_code("tasklatch.ledger.ledger.Ledger.record", acknowledge_before_the_write),
        "report_status",
        "UpdateItem",
        Fault.OUTAGE,
    ),
    "a time is in the history before its execution is there": (
        in_code("tasklatch.schedules.firing.ScheduleFiring._fire", record_before_it_starts),
        "schedule_runner",
        "BatchExecuteStatement",
        Fault.KILLED_BEFORE,
    ),
    "each delivery of a time has an execution of its own": (
        in_code("tasklatch.domain.schedule.Schedule.execution_id", lambda *_: str(uuid4())),
        "schedule_runner",
        "PutItem",
        Fault.KILLED_BEFORE,
    ),
    "a request does not recognise its own write": (
        in_code("tasklatch.ledger.report_write.decide_verdict", lambda _latch, _task_or_not_found: Verdict.DUPLICATE),
        "report_status",
        "UpdateItem",
        Fault.RESPONSE_LOST,
    ),
}


@pytest.mark.parametrize("bug", SEEDED)
def test_seeded_bug_is_detected(
    bug: str, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    # given: the outcome without faults, recorded before the bug is there
    seed, *where = SEEDED[bug]
    cases = [case for case in recorded_cases() if [case.function, case.location[1], case.fault] == where]
    assert cases

    # when
    seeding = seed(monkeypatch)
    next(seeding)
    result = next((sentence for case in cases for sentence in faults_found(case)), None)
    next(seeding, None)

    # then
    assert result is not None
    assert "never fired" not in result
    record_property("found by", result.partition("): ")[0] + ")")


def test_fault_that_never_fires_is_reported() -> None:
    # given: a call that is never made
    recorded = recording_of("forge").cases[0]
    never = Case(recorded.scenario, recorded.function, 10_000, recorded.location, recorded.fault)

    # then
    assert [sentence.rpartition(": ")[2] for sentence in faults_found(never)] == ["the fault never fired"]
