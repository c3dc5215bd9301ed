"""Every order of small cases of limited executions keeps the promises of the limit, and seeded bugs are detected."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from tasklatch.domain import concurrency
from tasklatch.domain.advance import AdvanceMessage
from tasklatch.domain.changes import ExecutionChange
from tasklatch.domain.execution import Execution
from tasklatch.dynamodb.transaction import transact
from tasklatch.executions import concurrency_slots
from tasklatch.executions.concurrency_slots import ConcurrencySlots, WaitingEntry
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.workflow import follow_ups, slot_assigner
from tests.model_checking import limit_cases
from tests.model_checking.case import Case
from tests.model_checking.cases import with_faults
from tests.model_checking.explorer import Explorer
from tests.model_checking.limit_promises import LimitPromises

PROVES: Final = "TASKLATCH_PROVE" in os.environ
MOST_STATES: Final = 1_500_000 if PROVES else 150_000
CASES: Final = limit_cases.IN_EVERY_RUN + (limit_cases.ONLY_TO_PROVE if PROVES else ())
Seed = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_order_keeps_the_limit_and_leaves_no_slot_free(
    case: Case, record_property: Callable[[str, object], None]
) -> None:
    # when
    result = Explorer(case, LimitPromises(case)).explore(MOST_STATES)

    # then
    record_property("explored", str(result))
    assert result.violation is None, result.violation
    assert result.ends


def _slots_are_compared_when_they_are_read(patch: pytest.MonkeyPatch) -> None:
    """Give a slot that was free when the slots were read, without a comparison in the write itself."""

    def unconditional(client: Any, actions: Any, backoff: Any) -> list[bool]:
        take, *others = actions
        return transact(client, [_without_condition(take), *others], backoff)

    patch.setattr("tasklatch.executions.concurrency_slots.transact", unconditional)


def _without_condition(action: dict[str, Any]) -> dict[str, Any]:
    return {"Update": {name: value for name, value in action["Update"].items() if name != "ConditionExpression"}}


def _a_slot_has_the_name_of_its_execution(patch: pytest.MonkeyPatch) -> None:
    """Name slots by the execution alone, so that a late message about an end frees the slot of the next run."""

    def named(execution_id: str, _version: int) -> str:
        return f"#{execution_id}"

    patch.setattr(concurrency_slots, "slot_name", named)
    patch.setattr(concurrency, "slot_name", named)


def _an_end_frees_no_slot(patch: pytest.MonkeyPatch) -> None:
    """Follow the end of an execution by nothing that frees its slot."""
    following = follow_ups._of_execution

    def fewer(change: ExecutionChange) -> list[AdvanceMessage]:
        messages = list(following(change))
        return messages if change.before is None else [message for message in messages if message.kind != "slot"]

    patch.setattr(follow_ups, "_of_execution", fewer)


def _a_retry_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    """Let an execution that a person retries run at once."""
    set_running = ExecutionTable.set_running

    def at_once(self: ExecutionTable, execution: Execution, **causes: Any) -> bool:
        return set_running(self, replace(execution, concurrency_key=None), **causes)

    patch.setattr(ExecutionTable, "set_running", at_once)


def _an_obsolete_entry_stays(patch: pytest.MonkeyPatch) -> None:
    """Leave the entry of an execution that was cancelled while it waited at the head of the line."""

    def stays(_self: ConcurrencySlots, _entry: WaitingEntry) -> None:
        return None

    patch.setattr(ConcurrencySlots, "remove_entry", stays)
    patch.setattr(slot_assigner, "_ENTRIES_A_PAGE", 1)
    started = ConcurrencySlots.start

    def start(self: ConcurrencySlots, entry: WaitingEntry) -> bool:
        # It counts as started, or the assigner would try it for ever
        return started(self, entry) or True

    patch.setattr(ConcurrencySlots, "start", start)


@dataclass(frozen=True)
class SeededBug:
    """Bug, the case that shows it, and the promise that it breaks."""

    name: str
    seed: Seed
    case: Case
    promise: str


BUGS: Final = (
    SeededBug("slots are compared when they are read", _slots_are_compared_when_they_are_read,
              with_faults(limit_cases.THREE_ENDS, twice=1), "never_more_than_the_limit_at_once"),
    SeededBug("a slot has the name of its execution", _a_slot_has_the_name_of_its_execution,
              limit_cases.RETRIED, "never_more_than_the_limit_at_once"),
    SeededBug("an end frees no slot", _an_end_frees_no_slot,
              limit_cases.ONE_AFTER_THE_OTHER, "no_run_waits_while_a_slot_is_free"),
    SeededBug("a retry does not wait", _a_retry_does_not_wait,
              limit_cases.RETRIED, "never_more_than_the_limit_at_once"),
    SeededBug("an obsolete entry stays", _an_obsolete_entry_stays,
              limit_cases.THREE_ENDS, "no_run_waits_while_a_slot_is_free"),
)  # fmt: skip


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_seeded_bug_is_detected_with_a_schedule(
    bug: SeededBug, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    # given
    bug.seed(monkeypatch)

    # when
    result = Explorer(bug.case, LimitPromises(bug.case)).explore(150_000)

    # then
    print(result.violation)  # noqa: T201 - for a person to read: pytest -rP
    record_property("found after", f"{result.states:,} states, {result.seconds:.1f} s: {result.promise}")
    assert result.violation is not None
    assert result.promise == bug.promise
    assert "broken:" in result.violation
