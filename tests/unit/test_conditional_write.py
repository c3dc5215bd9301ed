"""The latch in plain Python: what is let through, in which order whatever arrives, and what it is called if not."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations, product
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasklatch.domain.amendment import amendment_write
from tasklatch.domain.conditional_write import (
    TRANSITIONS,
    ConditionalWrite,
    heartbeat_interval,
    manual_retry_write,
    next_attempt_write,
    system_write,
    unopened_failure_write,
    write_for_report,
)
from tasklatch.domain.errors import AttemptNotOpenError
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.status import (
    COMPLETED_PRECEDENCE,
    MAX_ATTEMPT,
    REPORTABLE,
    SEALED,
    SEALED_PRECEDENCE,
    STATUS_RANK,
    TaskStatus,
    status_precedence,
)
from tasklatch.domain.task import Task
from tasklatch.domain.verdict import decide_verdict, prevented_overwrite
from tests.factories import NOW, a_report, a_task

ATTEMPT_STATUSES: Final = tuple(STATUS_RANK)


def written(task: Task, write: Any) -> Task:
    """The task after a write that was let through."""
    cleared: dict[str, Any] = dict.fromkeys(write.clear_fields)
    if "message_truncated" in cleared:
        cleared["message_truncated"] = False
    return replace(
        task,
        **cleared,
        **{name: value for name, value in write.values.items() if name not in cleared},
        status=write.status,
        precedence=write.precedence,
        version=task.version + 1,
    )


def record(task: Task, report: Report) -> tuple[Verdict, Task]:
    """What the ledger does, in memory."""
    names = report.attempt is not None or report.status is TaskStatus.COMPLETED
    current = {} if names else {"attempt": task.attempt, "version": task.version}
    write = write_for_report(report, now=NOW, request_id=f"request {task.version} {id(report)}", **current)
    amendment = amendment_write(report, task, now=NOW, request_id=f"request {task.version} {id(report)}")
    if write.allows(task):
        return Verdict.APPLIED, written(task, write)
    if amendment is not None and amendment.allows(task):
        return Verdict.APPLIED, written(task, amendment)
    return decide_verdict(write, task), task


def after(task: Task, reports: Iterable[Report]) -> Task:
    for report in reports:
        _, task = record(task, report)
    return task


def test_every_status_has_one_place_in_the_order() -> None:
    assert {*STATUS_RANK, TaskStatus.COMPLETED, *SEALED} == set(TaskStatus)
    assert set(TRANSITIONS) == set(TaskStatus)
    assert sorted(STATUS_RANK, key=STATUS_RANK.__getitem__) == [
        TaskStatus.PENDING,
        TaskStatus.SCHEDULED,
        TaskStatus.IN_PROGRESS,
        TaskStatus.TIMED_OUT,
        TaskStatus.FAILED,
        TaskStatus.FAILED_WITH_TERMINAL_ERROR,
    ]


@pytest.mark.parametrize(
    ("status", "attempt", "expected"),
    [
        (TaskStatus.PENDING, 1, 10),
        (TaskStatus.FAILED_WITH_TERMINAL_ERROR, 1, 15),
        (TaskStatus.PENDING, 2, 20),
        (TaskStatus.IN_PROGRESS, 12, 122),
        (TaskStatus.COMPLETED, 1, 1_000_000_000),
        (TaskStatus.COMPLETED, 9, 1_000_000_000),
        (TaskStatus.CANCELED, 1, 2_000_000_000),
        (TaskStatus.SKIPPED, 9, 2_000_000_000),
        (TaskStatus.COMPLETED_WITH_ERRORS, 1, 2_000_000_000),
    ],
)
def test_precedence_is_as_the_architecture_writes_it(status: TaskStatus, attempt: int, expected: int) -> None:
    assert status_precedence(status, attempt) == expected


@pytest.mark.parametrize(("earlier", "later"), list(product(ATTEMPT_STATUSES, repeat=2)))
def test_next_attempt_outweighs_whatever_the_last_one_came_to(earlier: TaskStatus, later: TaskStatus) -> None:
    for attempt in (1, 2, MAX_ATTEMPT - 1):
        assert status_precedence(earlier, attempt) < status_precedence(later, attempt + 1) < COMPLETED_PRECEDENCE
    assert COMPLETED_PRECEDENCE < SEALED_PRECEDENCE


@pytest.mark.parametrize("attempt", [0, -1, MAX_ATTEMPT + 1])
def test_attempt_that_cannot_be_has_no_precedence(attempt: int) -> None:
    with pytest.raises(ValueError, match="attempt"):
        status_precedence(TaskStatus.FAILED, attempt)


def test_reports_on_one_attempt_end_in_the_same_status_in_any_order() -> None:
    """Exhaustive: every choice of reportable statuses, in every order, twice each, from every open status."""
    for start in (TaskStatus.SCHEDULED, TaskStatus.IN_PROGRESS, TaskStatus.TIMED_OUT):
        for chosen in product((False, True), repeat=len(REPORTABLE)):
            picked = [status for status, expected in zip(sorted(REPORTABLE), chosen, strict=True) if expected]
            heaviest = max([start, *picked], key=lambda status: status_precedence(status, 1))
            for order in permutations(picked):
                reports = [a_report(status, attempt=1) for status in (*order, *order)]
                assert after(a_task(start), reports).status is heaviest, (start, order)


WRITES: Final = [
    # What is asked for of attempt 2, and the interval of precedence from which it is let through.
    (write_for_report(a_report(TaskStatus.IN_PROGRESS, attempt=2), now=NOW, request_id="r"), 21, 22),
    (write_for_report(a_report(TaskStatus.FAILED, attempt=2), now=NOW, request_id="r"), 21, 24),
    (write_for_report(a_report(TaskStatus.FAILED_WITH_TERMINAL_ERROR, attempt=2), now=NOW, request_id="r"), 21, 25),
    (write_for_report(a_report(TaskStatus.COMPLETED, attempt=2), now=NOW, request_id="r"), 21, COMPLETED_PRECEDENCE),
    (write_for_report(a_report(TaskStatus.COMPLETED), now=NOW, request_id="r"), 11, COMPLETED_PRECEDENCE),
    *(
        (write_for_report(a_report(seal), now=NOW, request_id="r", attempt=2, version=3), 21, COMPLETED_PRECEDENCE)
        for seal in sorted(SEALED)
    ),
    (system_write(a_task(TaskStatus.PENDING, 2), TaskStatus.SCHEDULED, now=NOW), 20, 21),
    (system_write(a_task(attempt=2), TaskStatus.TIMED_OUT, now=NOW), 21, 23),
    (next_attempt_write(a_task(TaskStatus.FAILED, 2), now=NOW), 23, 25),
    *((system_write(a_task(attempt=2), seal, now=NOW), 20, COMPLETED_PRECEDENCE) for seal in sorted(SEALED)),
    (manual_retry_write(a_task(TaskStatus.CANCELED, 2), now=NOW), SEALED_PRECEDENCE, SEALED_PRECEDENCE + 1),
    (manual_retry_write(a_task(TaskStatus.FAILED_WITH_TERMINAL_ERROR, 2), now=NOW), 25, 26),
    (unopened_failure_write(a_task(TaskStatus.PENDING, 2), now=NOW, message="why"), 20, 21),
]


@pytest.mark.parametrize(("write", "lowest", "below"), WRITES)
def test_latch_is_an_interval_of_its_number(write: ConditionalWrite, lowest: int, below: int) -> None:
    for precedence in {10, 15, *range(19, 32), COMPLETED_PRECEDENCE - 1, COMPLETED_PRECEDENCE, SEALED_PRECEDENCE}:
        task = a_task(attempt=2, precedence=precedence)
        assert write.allows(task) is (lowest <= precedence < below), precedence


def test_heartbeat_is_of_an_attempt_that_is_under_way() -> None:
    assert heartbeat_interval(2) == (21, 23)


@pytest.mark.parametrize("status", sorted(REPORTABLE))
@pytest.mark.parametrize("attempt", [None, 1])
def test_report_on_a_task_that_waits_is_an_error(status: TaskStatus, attempt: int | None) -> None:
    with pytest.raises(AttemptNotOpenError, match="attempt 1 is not open: the task waits"):
        record(a_task(TaskStatus.PENDING), a_report(status, attempt=attempt))


def test_report_on_the_attempt_that_a_person_granted_is_an_error_while_it_waits() -> None:
    waiting = a_task(TaskStatus.PENDING, 2)
    for status in REPORTABLE:
        with pytest.raises(AttemptNotOpenError, match="attempt 2 is not open"):
            record(waiting, a_report(status, attempt=2))


@pytest.mark.parametrize("attempt", [None, 1])
def test_late_success_of_an_opened_attempt_counts_while_the_task_waits_again(attempt: int | None) -> None:
    verdict, task = record(a_task(TaskStatus.PENDING, 2), a_report(TaskStatus.COMPLETED, attempt=attempt))
    assert (verdict, task.status) == (Verdict.APPLIED, TaskStatus.COMPLETED)


@pytest.mark.parametrize("status", [TaskStatus.CANCELED, TaskStatus.SKIPPED])
def test_attempt_that_was_never_opened_is_the_one_that_a_person_grants(status: TaskStatus) -> None:
    # given
    closed = a_task(status, scheduled_at=None)

    # when
    reopened = written(closed, manual_retry_write(closed, now=NOW))

    # then
    assert (reopened.status, reopened.attempt, reopened.precedence) == (TaskStatus.PENDING, 1, 10)
    for task in (closed, reopened):
        with pytest.raises(AttemptNotOpenError, match="attempt 1 is not open"):
            record(task, a_report(TaskStatus.COMPLETED, attempt=1))


def test_attempt_whose_input_cannot_be_made_is_never_open() -> None:
    # given
    waiting = a_task(TaskStatus.PENDING)

    # when
    failed = written(waiting, unopened_failure_write(waiting, now=NOW, message="too large"))

    # then
    assert failed.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert not system_write(waiting, TaskStatus.SCHEDULED, now=NOW).allows(failed)
    with pytest.raises(AttemptNotOpenError, match="attempt 1 is not open"):
        record(failed, a_report(TaskStatus.COMPLETED, attempt=1))


@pytest.mark.parametrize("task", [a_task(TaskStatus.PENDING), a_task(TaskStatus.PENDING, 2)])
def test_informational_status_of_a_waiting_task_is_stored(task: Task) -> None:
    assert record(task, a_report(TaskStatus.PENDING, platform_status="queued")) == (Verdict.DUPLICATE, task)


def test_reports_that_name_no_attempt_end_in_the_same_status_in_any_order() -> None:
    for order in permutations(sorted(REPORTABLE)):
        assert after(a_task(attempt=3), [a_report(status) for status in order]).status is TaskStatus.COMPLETED


reports = st.builds(
    a_report,
    st.sampled_from(sorted(REPORTABLE)),
    attempt=st.none() | st.integers(1, 5),
    message=st.none() | st.sampled_from(["a", "b"]),
)
open_tasks = st.builds(a_task, st.sampled_from(ATTEMPT_STATUSES), st.integers(1, 5))


@given(open_tasks, st.lists(st.one_of(reports, st.sampled_from(["retry", "time out", "cancel"])), max_size=30))
def test_success_once_recorded_is_final(task: Task, story: list[Report | str]) -> None:
    success: Task | None = None
    for event in story:
        before = task
        if isinstance(event, Report):
            try:
                _, task = record(task, event)
            except AttemptNotOpenError:
                continue
        else:
            write = {
                "retry": lambda task=task: next_attempt_write(task, now=NOW),
                "time out": lambda task=task: system_write(task, TaskStatus.TIMED_OUT, now=NOW),
                "cancel": lambda task=task: system_write(task, TaskStatus.CANCELED, now=NOW),
            }[event]()
            # The service seals and retries only what it has read to be open.
            if task.status in ATTEMPT_STATUSES and write.allows(task):
                task = written(task, write)
        if success is not None:
            assert _without_amendments(task) == _without_amendments(success)
        elif task.status is TaskStatus.COMPLETED:
            success = task
        assert task.precedence >= before.precedence, "the latch only rises"
        assert task.version == before.version + (task != before)


def _without_amendments(task: Task) -> Task:
    """A task without what can be added to an output that is empty."""
    return replace(
        task, version=0, updated_at=0, request_id=None, output_attempt=None, output_fingerprint=None,
        checkpoint_attempt=None, checkpoint_fingerprint=None, checkpoint_sequence=None,
    )  # fmt: skip


@given(open_tasks, reports)
def test_identical_repeat_is_a_duplicate_and_changes_nothing(task: Task, report: Report) -> None:
    try:
        _, once = record(task, report)
    except AttemptNotOpenError:
        return
    verdict, twice = record(once, report)
    assert twice == once
    if once != task:
        assert verdict is Verdict.DUPLICATE


@given(open_tasks, reports)
def test_failure_of_another_attempt_never_changes_a_task(task: Task, report: Report) -> None:
    if report.attempt in (None, task.attempt) or report.status is TaskStatus.COMPLETED:
        return
    write = write_for_report(report, now=NOW, request_id="request")
    assert not write.allows(task)


@pytest.mark.parametrize(
    ("task", "report", "verdict"),
    [
        (a_task(TaskStatus.COMPLETED), a_report(TaskStatus.FAILED, attempt=1), Verdict.IGNORED_AFTER_SUCCESS),
        (a_task(TaskStatus.COMPLETED), a_report(TaskStatus.IN_PROGRESS, attempt=1), Verdict.IGNORED_AFTER_SUCCESS),
        (a_task(TaskStatus.COMPLETED, 2), a_report(TaskStatus.FAILED, attempt=1), Verdict.IGNORED_AFTER_SUCCESS),
        (a_task(TaskStatus.COMPLETED), a_report(attempt=1), Verdict.DUPLICATE),
        (a_task(TaskStatus.COMPLETED, 2), a_report(attempt=1), Verdict.DUPLICATE),
        (a_task(TaskStatus.CANCELED), a_report(attempt=1), Verdict.SEALED),
        (a_task(TaskStatus.SKIPPED), a_report(TaskStatus.FAILED, attempt=1), Verdict.SEALED),
        (a_task(TaskStatus.COMPLETED_WITH_ERRORS), a_report(), Verdict.SEALED),
        (a_task(TaskStatus.SCHEDULED, 2), a_report(TaskStatus.FAILED, attempt=1), Verdict.STALE_ATTEMPT),
        (a_task(TaskStatus.SCHEDULED, 2), a_report(TaskStatus.IN_PROGRESS, attempt=1), Verdict.STALE_ATTEMPT),
        (a_task(TaskStatus.FAILED), a_report(TaskStatus.FAILED, attempt=1), Verdict.DUPLICATE),
        (a_task(TaskStatus.FAILED), a_report(TaskStatus.IN_PROGRESS, attempt=1), Verdict.DUPLICATE),
        (
            a_task(TaskStatus.SCHEDULED, 2, outcome=a_report(TaskStatus.FAILED, attempt=1).fingerprint),
            a_report(TaskStatus.FAILED, attempt=1),
            Verdict.DUPLICATE,
        ),
    ],
)
def test_report_that_is_not_let_through_has_its_verdict(task: Task, report: Report, verdict: Verdict) -> None:
    assert record(task, report) == (verdict, task)


@pytest.mark.parametrize("status", [*ATTEMPT_STATUSES, TaskStatus.COMPLETED, TaskStatus.CANCELED])
def test_report_on_an_attempt_that_was_never_opened_is_an_error_whatever_the_status(status: TaskStatus) -> None:
    for reported in REPORTABLE:
        with pytest.raises(AttemptNotOpenError, match="attempt 3 is not open"):
            record(a_task(status, 2), a_report(reported, attempt=3))


def test_own_write_is_recognised_by_its_receipt() -> None:
    write = write_for_report(a_report(TaskStatus.FAILED, attempt=1), now=NOW, request_id="request")
    assert decide_verdict(write, a_task(TaskStatus.FAILED, request_id="request")) is Verdict.APPLIED
    assert decide_verdict(write, a_task(TaskStatus.FAILED, request_id="another")) is Verdict.DUPLICATE


def test_write_that_holds_for_one_version_is_let_through_only_there() -> None:
    write = write_for_report(a_report(TaskStatus.FAILED), now=NOW, request_id="request", attempt=1, version=3)
    assert write.allows(a_task(version=3))
    assert not write.allows(a_task(version=4))


def test_next_attempt_is_opened_once_and_not_after_a_success() -> None:
    failed = a_task(TaskStatus.FAILED, message="disk full", ended_at=NOW)
    write = next_attempt_write(failed, now=NOW)
    opened = written(failed, write)
    assert (opened.status, opened.attempt) == (TaskStatus.SCHEDULED, 2)
    assert (opened.message, opened.ended_at) == (None, None)
    assert not write.allows(opened)
    assert not write.allows(after(failed, [a_report(attempt=1)]))


@pytest.mark.parametrize("status", sorted(SEALED))
def test_seal_holds_for_the_version_that_was_read(status: TaskStatus) -> None:
    task = a_task()
    write = system_write(task, status, now=NOW)
    assert write.allows(task)
    assert write.closes_task
    assert not write.allows(after(task, [a_report(attempt=1)]))


@pytest.mark.parametrize("status", sorted(REPORTABLE))
def test_fields_of_an_earlier_report_are_cleared(status: TaskStatus) -> None:
    # given
    before = a_report(
        TaskStatus.FAILED, attempt=1, message="m" * 2000, retry_after_seconds=3, platform_status="broken", output="{}"
    )
    task = replace(after(a_task(), [before]), attempt=2, precedence=21)

    # when
    now_said = after(task, [a_report(status, attempt=2)])

    # then
    assert now_said.status is status
    assert now_said.message is None
    assert not now_said.message_truncated
    assert now_said.retry_after_seconds is None
    assert now_said.platform_status is None
    assert now_said.failure_reason is a_report(status).failure_reason


def test_prevented_overwrite_is_a_failure_that_met_a_success() -> None:
    for status, verdict in product(REPORTABLE, Verdict):
        expected = verdict is Verdict.IGNORED_AFTER_SUCCESS and status.startswith("FAILED")
        assert prevented_overwrite(status, verdict) is expected
