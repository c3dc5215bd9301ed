"""Success of a task whose failure had ended its execution: the execution runs on. Needs PartiQL: one emulator."""

from collections.abc import Callable
from typing import Any

import pytest

from tasklatch.domain.overdue import OVERDUE_MS
from tasklatch.domain.report import Verdict
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task_definition import TaskDefinition
from tests.integration.emulators import Table, intercepted
from tests.workflow_helpers import ONCE, World

FAILED = TaskStatus.FAILED


@pytest.fixture
def world(statements_table: Table) -> World:
    """An execution that a task has failed: another is under way, and one waits for the first."""
    world = World(statements_table)
    world.create(
        TaskDefinition("a", retry_policy=ONCE),
        TaskDefinition("b", retry_policy=ONCE),
        TaskDefinition("c", depends_on=("a",), retry_policy=ONCE),
    )
    world.report("a", FAILED, attempt=1)
    world.advance("a")
    assert world.status() is ExecutionStatus.FAILED
    return world


def test_execution_of_one_task_completes_by_its_late_success(statements_table: Table) -> None:
    # given
    world = World(statements_table)
    world.create(TaskDefinition("a", retry_policy=ONCE))
    world.report("a", FAILED, attempt=1)
    world.advance("a")

    # when
    assert world.report("a", attempt=1).verdict is Verdict.APPLIED
    world.advance("a")

    # then
    execution = world.execution()
    assert (execution.status, execution.reason, execution.failed_by) == (ExecutionStatus.COMPLETED, None, None)


@pytest.mark.parametrize("were_cancelled", [False, True])
def test_what_the_failure_cancelled_gets_one_more_attempt(world: World, *, were_cancelled: bool) -> None:
    # given
    if were_cancelled:
        world.closer.cancel_open_tasks(world.tenant, "nightly")

    # when
    world.report("a", attempt=1)
    world.advance("a")

    # then the attempt that a worker had is over, and the one that nobody had is not spent
    assert world.status() is ExecutionStatus.RUNNING
    assert (world.task("b").status, world.task("b").attempt) == (TaskStatus.SCHEDULED, 2)
    assert (world.task("c").status, world.task("c").attempt) == (TaskStatus.SCHEDULED, 1)
    world.complete("b", "c")
    assert world.status() is ExecutionStatus.COMPLETED


def test_announcement_that_comes_twice_resumes_once(world: World) -> None:
    world.closer.cancel_open_tasks(world.tenant, "nightly")
    world.report("a", attempt=1)

    world.advance("a")
    before = world.tasks()
    world.advance("a", "a")

    assert world.tasks() == before


def test_another_failure_keeps_the_execution_failed(world: World) -> None:
    # given
    world.report("b", FAILED, attempt=1)
    world.closer.cancel_open_tasks(world.tenant, "nightly")

    # when
    world.report("a", attempt=1)
    world.advance("a")

    # then
    assert world.status() is ExecutionStatus.FAILED
    assert world.task("c").status is TaskStatus.CANCELED

    # and the success of that one too lets it run on
    world.report("b", attempt=1)
    world.advance("b")
    assert (world.status(), world.task("c").status) == (ExecutionStatus.RUNNING, TaskStatus.SCHEDULED)


def test_what_a_person_cancelled_stays_so(world: World) -> None:
    # given an execution that a person ended after a retry of the failure
    world.reopener.retry(world.tenant, "nightly")
    world.control.cancel(world.tenant, "nightly", "enough")

    # when
    assert world.report("a", attempt=1).verdict is Verdict.SEALED
    world.advance("a")

    # then
    assert world.status() is ExecutionStatus.TERMINATED
    assert set(world.statuses().values()) == {TaskStatus.CANCELED}


def test_success_whose_announcement_was_lost_is_noticed(world: World) -> None:
    # given
    world.closer.cancel_open_tasks(world.tenant, "nightly")
    world.report("a", attempt=1)

    # when
    world.clock.now += OVERDUE_MS + 1
    world.reconciler.run([True] * 1_000)

    # then
    assert (world.status(), world.task("c").status) == (ExecutionStatus.RUNNING, TaskStatus.SCHEDULED)


class DiedError(Exception):
    """A function that is gone."""


def survives(world: World, calls: int) -> bool:
    """Advance by a function that dies after so many calls; return True if it needs no more."""
    left = [calls]

    def around(_operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise DiedError
        return send()

    try:
        world.through(intercepted(world.table.client, around)).advance("a")
    except DiedError:
        return False
    return True


def test_resuming_that_dies_anywhere_is_continued(world: World) -> None:
    # given
    world.closer.cancel_open_tasks(world.tenant, "nightly")
    world.report("a", attempt=1)

    # when it dies after each of its calls in turn
    calls = 0
    while not survives(world, calls):
        calls += 1
        # and others take it for what it looks like
        world.closer.complete_if_finished(world.tenant, "nightly")
    assert calls > 5

    # then
    assert world.status() is ExecutionStatus.RUNNING
    assert (world.task("b").attempt, world.task("c").attempt) == (2, 1)
    world.complete("b", "c")
    assert world.status() is ExecutionStatus.COMPLETED


def test_resuming_that_died_is_continued_from_the_table_alone(world: World) -> None:
    # given
    world.closer.cancel_open_tasks(world.tenant, "nightly")
    world.report("a", attempt=1)

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "batch_execute_statement":
            raise DiedError
        return send()

    with pytest.raises(DiedError):
        world.through(intercepted(world.table.client, around)).advance("a")
    assert world.status() is ExecutionStatus.RUNNING

    # when
    world.clock.now += OVERDUE_MS + 1
    world.reconciler.run([True] * 1_000)

    # then
    world.complete("b", "c")
    assert world.status() is ExecutionStatus.COMPLETED


def test_cancellation_while_it_is_being_resumed_wins(world: World) -> None:
    # given
    world.closer.cancel_open_tasks(world.tenant, "nightly")
    world.report("a", attempt=1)
    cancelled: list[bool] = []

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "batch_execute_statement" and not cancelled:
            cancelled.append(True)
            world.control.cancel(world.tenant, "nightly", "enough")
        return send()

    # when
    world.through(intercepted(world.table.client, around)).advance("a")

    # then
    assert world.status() is ExecutionStatus.TERMINATED
    assert world.statuses() == {
        "a": TaskStatus.COMPLETED,
        "b": TaskStatus.CANCELED,
        "c": TaskStatus.CANCELED,
    }
