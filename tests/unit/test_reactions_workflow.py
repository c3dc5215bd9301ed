"""How tasks hang together: what ends an execution, what may be retried, and what inputs refer to."""

from typing import Any

import pytest

from tasklatch.domain.failure import FailureReason
from tasklatch.domain.latch import next_attempt_latch, reopen_latch
from tasklatch.domain.status import ExecutionStatus, TaskStatus, precedence_of
from tasklatch.domain.task import OnFailure, RetryPolicy, Task
from tasklatch.domain.workflow import Reference, aborts, can_be_retried, follow, is_settled, outcome_of, resolve
from tests.factories import NOW, a_task

ONCE = RetryPolicy(max_attempts=1)
DONE = a_task(TaskStatus.COMPLETED)
OPEN = a_task(TaskStatus.IN_PROGRESS)


def failed(on_failure: OnFailure = OnFailure.ABORT, *, spent: bool = True) -> Task:
    return a_task(
        TaskStatus.FAILED,
        failure_reason=FailureReason.RETRYABLE_ERROR,
        on_failure=on_failure,
        retry_policy=ONCE if spent else RetryPolicy(),
    )


@pytest.mark.parametrize(
    ("tasks", "outcome"),
    [
        ([], ExecutionStatus.COMPLETED),
        ([DONE], ExecutionStatus.COMPLETED),
        ([DONE, OPEN], None),
        ([OPEN, failed()], None),
        ([failed(), OPEN], ExecutionStatus.FAILED),
        ([DONE, failed()], ExecutionStatus.FAILED),
        ([DONE, failed(spent=False)], None),
        ([DONE, failed(OnFailure.CONTINUE)], None),
        ([DONE, a_task(TaskStatus.COMPLETED_WITH_ERRORS)], ExecutionStatus.COMPLETED),
        ([DONE, a_task(TaskStatus.SKIPPED)], ExecutionStatus.COMPLETED),
        ([DONE, a_task(TaskStatus.CANCELED)], ExecutionStatus.FAILED),
        ([a_task(TaskStatus.CANCELED), OPEN], None),
        ([DONE, a_task(TaskStatus.PENDING)], None),
    ],
)
def test_execution_ends_when_nothing_more_is_awaited(tasks: list[Task], outcome: ExecutionStatus | None) -> None:
    assert outcome_of(tasks) is outcome


@pytest.mark.parametrize("status", list(TaskStatus))
@pytest.mark.parametrize("on_failure", list(OnFailure))
@pytest.mark.parametrize("spent", [False, True])
def test_task_that_aborts_is_settled_and_may_be_retried(
    status: TaskStatus, on_failure: OnFailure, *, spent: bool
) -> None:
    # given
    reason = FailureReason.RETRYABLE_ERROR if status is TaskStatus.FAILED else None
    task = a_task(status, on_failure=on_failure, retry_policy=ONCE if spent else RetryPolicy(), failure_reason=reason)

    # then
    gave_up = status is TaskStatus.FAILED_WITH_TERMINAL_ERROR or (
        spent and status in (TaskStatus.FAILED, TaskStatus.TIMED_OUT)
    )
    assert aborts(task) is (gave_up and on_failure is OnFailure.ABORT)
    assert can_be_retried(task) is (aborts(task) or status is TaskStatus.CANCELED)
    assert is_settled(task) or not aborts(task)


def test_success_is_never_reopened() -> None:
    with pytest.raises(ValueError, match="final"):
        reopen_latch(DONE, now=NOW)


@pytest.mark.parametrize("attempt", [1, 2, 7])
def test_next_attempt_outweighs_all_of_the_last_and_holds_for_one_version(attempt: int) -> None:
    # given
    task = a_task(TaskStatus.FAILED, attempt, failure_reason=FailureReason.RETRYABLE_ERROR)

    # when
    latch = next_attempt_latch(task, now=NOW)

    # then
    assert latch.precedence > precedence_of(TaskStatus.FAILED_WITH_TERMINAL_ERROR, attempt)
    assert latch.precedence < precedence_of(TaskStatus.COMPLETED, 1)
    assert latch.lets_through(task)
    assert not latch.lets_through(a_task(TaskStatus.FAILED, attempt, version=task.version + 1))
    assert not latch.lets_through(a_task(TaskStatus.FAILED, attempt + 1))


# ---------------------------------------------------------------- references

PAYLOADS: dict[tuple[str, str], Any] = {
    ("a", "output"): {
        "x": 1,
        "deep": {"y": [1, 2]},
        "text": "hé",
        "none": None,
        "yes": True,
        "rows": [None, {"cells": [["a", "b"]]}],
    },
    ("a", "input"): {"url": "here"},
    ("a.b", "output"): {"x": "dotted"},
    ("task 7/ü", "output"): {"x": "odd"},
    ("output", "output"): {"x": "named output"},
}


def look_up(reference: Reference) -> Any:
    try:
        return follow(PAYLOADS[reference.name, reference.part], reference.path)
    except KeyError as error:
        raise LookupError(reference.name) from error


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ("${a.output}", PAYLOADS["a", "output"]),
        ("${a.output.x}", 1),
        ("${a.output.deep.y}", [1, 2]),
        ("${a.output.none}", None),
        ("${a.output.yes}", True),
        ("${a.output.missing}", None),
        ("${a.output.x.deeper.still}", None),
        ("${a.output.deep.y[1]}", 2),
        ("${a.output.deep.y[2]}", None),
        ("${a.output.x[0]}", None),
        ("${a.output.rows[1].cells[0][1]}", "b"),
        ("${a.output.rows[1]}", {"cells": [["a", "b"]]}),
        ("${a.output.rows[x]}", None),
        ("${a.output.deep\nkey}", None),
        ("${a.input.url}", "here"),
        ("${a.b.output.x}", "dotted"),
        ("${task 7/ü.output.x}", "odd"),
        ("${output.output.x}", "named output"),
        ("x ${a.output.x}, ${a.output.text}!", "x 1, hé!"),
        ("${a.output.x}${a.output.x}", "11"),
        ("is ${a.output.yes}/${a.output.none}", "is true/null"),
        ("${a.output.deep}.", '{"y": [1, 2]}.'),
        ("${nobody.output.x}", "${nobody.output.x}"),
        ("${a.result.x}", "${a.result.x}"),
        ("${a}", "${a}"),
        ("${}", "${}"),
        ("${a.output", "${a.output"),
        ("$a.output", "$a.output"),
        ("plain", "plain"),
        ("", ""),
        (5, 5),
        (None, None),
        ({"${a.output.x}": ["${a.output.x}", {"k": "${a.output.x}"}]}, {"${a.output.x}": [1, {"k": 1}]}),
    ],
)
def test_reference_becomes_what_it_refers_to(given: Any, becomes: Any) -> None:
    assert resolve(given, look_up) == becomes


def test_what_comes_from_a_payload_is_not_resolved_again() -> None:
    # given: a worker's output is data, whatever it says
    assert resolve("${evil.output.x}", lambda _: "${a.output.x}") == "${a.output.x}"
    assert resolve("see ${evil.output.x}", lambda _: "${a.output.x}") == "see ${a.output.x}"
