"""An attempt's output, whatever the order in which its reports arrive."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations
from typing import Any, Final

import pytest

from tasklatch.domain.amendment import amendment_write
from tasklatch.domain.conditional_write import next_attempt_write, system_write, write_for_report
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.status import REPORTABLE, SEALED, TaskStatus
from tasklatch.domain.task import Task
from tests.factories import NOW, a_report, a_task
from tests.unit.test_conditional_write import record, written


def a_checkpoint(output: str | None = None, *, sequence: int | None = None, attempt: int = 1, **body: Any) -> Report:
    report = a_report(TaskStatus.IN_PROGRESS, attempt=attempt, output=output, **body)
    return replace(report, sequence=sequence)


FIRST: Final = a_checkpoint('{"ack":1}')
SECOND: Final = a_checkpoint('{"ack":2}')
THIRD: Final = a_checkpoint('{"ack":3}', sequence=3)
FOURTH: Final = a_checkpoint('{"ack":4}', sequence=4)
SUCCESS: Final = a_report(attempt=1)
FAILURE: Final = a_report(TaskStatus.FAILED, attempt=1)
SUCCESS_WITH_OUTPUT: Final = a_report(attempt=1, output='{"rows":9}')
FAILURE_WITH_OUTPUT: Final = a_report(TaskStatus.FAILED, attempt=1, output='{"rows":9}')
TERMINAL: Final = a_report(TaskStatus.FAILED_WITH_TERMINAL_ERROR, attempt=1)


def after(task: Task, *reports: Report) -> Task:
    for report in reports:
        _, task = record(task, report)
    return task


def given_by(reports: Iterable[Report], task: Task) -> Report | None:
    """The report whose output the task has."""
    return next((report for report in reports if task.output is not None and report.output_ref == task.output), None)


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ((FIRST, SUCCESS), FIRST),
        ((FIRST, FAILURE), FIRST),
        ((FIRST, TERMINAL), FIRST),
        ((FIRST, SUCCESS_WITH_OUTPUT), SUCCESS_WITH_OUTPUT),
        ((FIRST, FAILURE_WITH_OUTPUT), FAILURE_WITH_OUTPUT),
        ((THIRD, FOURTH), FOURTH),
        ((THIRD, FOURTH, SUCCESS), FOURTH),
        ((THIRD, FOURTH, SUCCESS_WITH_OUTPUT), SUCCESS_WITH_OUTPUT),
        ((SUCCESS, SUCCESS_WITH_OUTPUT), SUCCESS_WITH_OUTPUT),
        ((FAILURE_WITH_OUTPUT, TERMINAL), FAILURE_WITH_OUTPUT),
        ((FIRST, FAILURE_WITH_OUTPUT, SUCCESS), FIRST),
        ((FAILURE_WITH_OUTPUT, SUCCESS), None),
    ],
)
def test_output_of_an_attempt_is_the_same_in_any_order(reports: tuple[Report, ...], expected: Report | None) -> None:
    for order in permutations(reports):
        assert given_by(reports, after(a_task(TaskStatus.SCHEDULED), *order)) is expected, order


def test_later_checkpoint_replaces_the_one_before_and_its_repeat_is_a_duplicate() -> None:
    # given
    task = after(a_task(TaskStatus.SCHEDULED), FIRST)

    # when
    verdict, replaced = record(task, SECOND)
    again, unchanged = record(replaced, SECOND)

    # then
    assert (verdict, given_by([SECOND], replaced)) == (Verdict.APPLIED, SECOND)
    assert (again, unchanged) == (Verdict.DUPLICATE, replaced)
    assert (replaced.status, replaced.started_at) == (TaskStatus.IN_PROGRESS, task.started_at)
    assert replaced.heartbeat_at == NOW, "whoever says how far it is, is alive"


@pytest.mark.parametrize("status", sorted(TaskStatus))
@pytest.mark.parametrize("attempt", [None, 1])
def test_report_that_moves_a_task_on_is_no_amendment(status: TaskStatus, attempt: int | None) -> None:
    task = a_task(status)
    for reported in REPORTABLE:
        report = a_report(reported, attempt=attempt, output='{"rows":9}')
        moves_on = write_for_report(report, now=NOW, request_id="r", attempt=1, version=task.version).allows(task)
        assert not (moves_on and amendment_write(report, task, now=NOW, request_id="r")), reported


def test_checkpoint_without_sequence_does_not_replace_one_after_the_end() -> None:
    task = after(a_task(TaskStatus.SCHEDULED), FIRST, SUCCESS)
    assert record(task, SECOND) == (Verdict.IGNORED_AFTER_SUCCESS, task)


def test_checkpoint_of_a_lower_sequence_is_a_duplicate() -> None:
    task = after(a_task(TaskStatus.SCHEDULED), FOURTH)
    assert record(task, THIRD) == (Verdict.DUPLICATE, task)


def test_fields_that_a_report_omits_stay_while_in_progress() -> None:
    # given
    task = after(
        a_task(TaskStatus.SCHEDULED, progress=0.5),
        a_checkpoint('{"ack":1}', message="half", platform_status="uploading"),
    )

    # when
    later = after(task, a_checkpoint(message="nearly"))

    # then
    assert (later.message, later.platform_status, later.progress, later.output) == (
        "nearly",
        "uploading",
        0.5,
        task.output,
    )
    assert record(later, a_checkpoint()) == (Verdict.DUPLICATE, later)


def test_message_and_label_are_of_the_status_that_they_came_with() -> None:
    task = after(a_task(TaskStatus.SCHEDULED), a_checkpoint(message="half", platform_status="uploading"), SUCCESS)
    assert (task.message, task.platform_status) == (None, None)


def test_checkpoint_of_one_attempt_is_never_the_output_of_another() -> None:
    # given the first attempt's checkpoint, and its failure
    failed = after(a_task(TaskStatus.SCHEDULED), FIRST, FAILURE)
    assert given_by([FIRST], failed) is FIRST

    # when the second is opened, and gives one of its own
    second = written(failed, next_attempt_write(failed, now=NOW))
    under_way = after(second, a_checkpoint('{"ack":7}', attempt=2))

    # then
    assert second.output is None
    assert after(under_way, SUCCESS).output is None, "the first attempt decided"
    assert given_by([FIRST], after(second, SUCCESS)) is FIRST, "the second has said nothing yet"
    assert after(second, a_report(attempt=2)).output is None


def test_time_out_keeps_the_checkpoint_and_takes_a_late_one() -> None:
    task = after(a_task(TaskStatus.SCHEDULED), a_checkpoint())
    silent = written(task, system_write(task, TaskStatus.TIMED_OUT, now=NOW))
    assert given_by([FIRST], after(silent, FIRST)) is FIRST


@pytest.mark.parametrize("status", sorted(SEALED))
def test_seal_keeps_the_checkpoint_and_takes_no_other(status: TaskStatus) -> None:
    # given
    task = after(a_task(TaskStatus.SCHEDULED), FIRST)
    sealed = written(task, system_write(task, status, now=NOW))

    # when
    verdict, unchanged = record(sealed, SECOND)

    # then
    assert (verdict, unchanged) == (Verdict.SEALED, sealed)
    assert given_by([FIRST], sealed) is FIRST
