"""Sweeps over all tasks: as many invocations as it takes, from where the last one stopped, whatever comes between."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from tasklatch.domain.advance import Advance, AdvanceMessage, SweepPosition
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.executions import control, execution_tasks
from tests.factories import FakeTime
from tests.integration.emulators import Table, intercepted
from tests.workflow_helpers import ONCE, World

SIZE: Final = 7
PAGE: Final = 2
TIME_MS: Final = 20_000
PAGE_TAKES_MS: Final = 6_000
TASKS: Final = [f"task-{number}" for number in range(SIZE)]


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution_tasks, "TASKS_A_PAGE", PAGE)
    # All pages are the sweep's: a cancellation goes over none of them before it is answered
    monkeypatch.setattr(control, "MAX_CANCELLED_AT_ONCE", 0)


@pytest.fixture
def world(statements_table: Table) -> World:
    return World(statements_table)


def slow(world: World) -> World:
    """Return the parts of one invocation, in which a page takes a third of the time."""
    time_left = FakeTime(TIME_MS)

    def around(_operation: str, send: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if arguments.get("Limit") == PAGE:
            time_left.left_ms -= PAGE_TAKES_MS
        return send()

    return world.through(intercepted(world.table.client, around), time_left)


def deliver(world: World, *, after: int = 0) -> list[AdvanceMessage]:
    """Handle the messages in the queue from one on, and those that follow; return them."""
    handled: list[AdvanceMessage] = []
    while after + len(handled) < len(world.sent_messages()):
        message = world.sent_messages()[after + len(handled)]
        slow(world).handle(message)
        handled.append(message)
    return handled


def create(world: World) -> None:
    world.create(*(TaskDefinition(task_id, retry_policy=ONCE) for task_id in TASKS))


def request(world: World, kind: Advance) -> None:
    world.advance_queue.send([AdvanceMessage(kind, world.tenant, "nightly")])


def statuses(world: World) -> set[TaskStatus]:
    return set(world.statuses().values())


def test_an_execution_ends_after_its_pages_in_several_invocations(world: World) -> None:
    # given
    create(world)
    world.report_all(TASKS)

    # when
    request(world, Advance.COMPLETE)
    handled = deliver(world)

    # then
    assert [message.position is None for message in handled] == [True, False]
    assert world.status() is ExecutionStatus.COMPLETED


def test_an_execution_does_not_end_on_pages_that_were_read_before_an_addition(world: World) -> None:
    # given two pages that are read
    create(world)
    world.report_all(TASKS)
    request(world, Advance.COMPLETE)
    slow(world).handle(world.sent_messages()[0])
    continuation = world.sent_messages()[-1]

    # when a task is added that belongs to the first of them
    world.creator.add_tasks(world.tenant, "nightly", [TaskDefinition("task-00")])
    slow(world).handle(continuation)

    # then
    assert continuation.position is not None
    assert world.status() is ExecutionStatus.RUNNING
    world.report("task-00")
    request(world, Advance.COMPLETE)
    world.handle(world.sent_messages()[-1])
    assert world.status() is ExecutionStatus.COMPLETED


def test_a_cancelled_task_of_an_early_page_fails_the_execution(world: World) -> None:
    # given an execution that was cancelled and retried, of which a task was cancelled again
    create(world)
    world.report_all(TASKS[1:])
    world.control.cancel(world.tenant, "nightly", None)
    world.closer.cancel_open_tasks(world.tenant, "nightly")
    execution = world.execution()
    world.execution_table.change_status(execution, ExecutionStatus.RUNNING, None)

    # when
    request(world, Advance.COMPLETE)
    handled = deliver(world)

    # then
    assert handled[-1].position is not None
    assert handled[-1].position.outcome is ExecutionStatus.FAILED
    assert world.status() is ExecutionStatus.FAILED


def test_open_tasks_are_cancelled_page_by_page(world: World) -> None:
    # given
    create(world)
    world.report("task-3")
    world.control.cancel(world.tenant, "nightly", "enough")

    # when
    request(world, Advance.CANCEL)
    handled = deliver(world)

    # then
    assert len(handled) > 2
    assert world.task("task-3").status is TaskStatus.COMPLETED
    assert statuses(world) == {TaskStatus.COMPLETED, TaskStatus.CANCELED}


def test_a_continuation_that_is_delivered_twice_does_no_harm(world: World) -> None:
    # given
    create(world)
    world.control.cancel(world.tenant, "nightly", "enough")
    request(world, Advance.CANCEL)

    # when
    for message in deliver(world):
        slow(world).handle(message)

    # then
    versions = {task.version for task in world.tasks().values()}
    assert (statuses(world), versions) == ({TaskStatus.CANCELED}, {3})


def test_a_cancellation_stops_where_a_person_has_retried(world: World) -> None:
    # given a cancellation of which one page is done
    create(world)
    world.control.cancel(world.tenant, "nightly", "enough")
    request(world, Advance.CANCEL)
    slow(world).handle(world.sent_messages()[0])

    # when
    world.reopener.retry(world.tenant, "nightly")
    continuation = world.sent_messages()[-1]
    slow(world).handle(continuation)

    # then
    assert continuation.kind is Advance.CANCEL
    assert continuation.position is not None
    assert statuses(world) == {TaskStatus.SCHEDULED}
    assert world.status() is ExecutionStatus.RUNNING
    assert world.sent_messages()[-1] == continuation


def test_a_person_s_retry_goes_on_after_its_request(world: World) -> None:
    # given
    create(world)
    world.report("task-3")
    world.control.cancel(world.tenant, "nightly", "enough")
    world.closer.cancel_open_tasks(world.tenant, "nightly")

    # when
    execution, is_reopened = slow(world).reopener.retry(world.tenant, "nightly")

    # then
    assert (execution.status, is_reopened) == (ExecutionStatus.TERMINATED, False)
    kinds = [message.kind for message in deliver(world)]
    assert {Advance.REOPEN, Advance.SCHEDULE} <= set(kinds)
    assert world.status() is ExecutionStatus.RUNNING
    open_tasks = {task_id: task for task_id, task in world.tasks().items() if task_id != "task-3"}
    assert {(task.status, task.attempt) for task in open_tasks.values()} == {(TaskStatus.SCHEDULED, 2)}
    world.report_all([*open_tasks])
    request(world, Advance.COMPLETE)
    deliver(world, after=len(world.sent_messages()) - 1)
    assert world.status() is ExecutionStatus.COMPLETED


def test_a_retry_whose_last_message_comes_again_schedules_what_waits(world: World) -> None:
    # given a retry that died after the execution ran and before it scheduled anything
    create(world)
    world.control.cancel(world.tenant, "nightly", "enough")
    world.closer.cancel_open_tasks(world.tenant, "nightly")
    slow(world).reopener.retry(world.tenant, "nightly")
    while world.status() is not ExecutionStatus.RUNNING:
        last = world.sent_messages()[-1]
        slow(world).handle(last)
    lost = len(world.sent_messages())
    assert TaskStatus.PENDING in statuses(world)

    # when
    slow(world).handle(last)
    deliver(world, after=lost)

    # then
    assert last.kind is Advance.REOPEN
    assert statuses(world) == {TaskStatus.SCHEDULED}


def test_a_retry_of_an_end_before_the_last_reopens_nothing(world: World) -> None:
    # given
    create(world)
    world.control.cancel(world.tenant, "nightly", "enough")
    world.closer.cancel_open_tasks(world.tenant, "nightly")
    old = world.execution()
    world.reopener.retry(world.tenant, "nightly")
    world.control.cancel(world.tenant, "nightly", "enough")
    world.closer.cancel_open_tasks(world.tenant, "nightly")

    # when
    position = SweepPosition(old.version, old.additions)
    world.handle(AdvanceMessage(Advance.REOPEN, world.tenant, "nightly", position=position))

    # then
    assert statuses(world) == {TaskStatus.CANCELED}
    assert world.status() is ExecutionStatus.TERMINATED


def test_an_invocation_without_time_for_a_page_hands_its_message_on(world: World) -> None:
    # given
    create(world)
    world.report_all(TASKS)
    message = AdvanceMessage(Advance.COMPLETE, world.tenant, "nightly")

    # when
    world.through(world.table.client, FakeTime(5_000)).handle(message)

    # then
    assert world.sent_messages() == [message]
    assert world.status() is ExecutionStatus.RUNNING


def test_a_message_without_its_position_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="no position"):
        world.handle(AdvanceMessage(Advance.REOPEN, world.tenant, "nightly"))


def test_an_execution_that_changed_while_its_last_page_was_read_is_read_again(world: World) -> None:
    # given
    create(world)
    world.report_all(TASKS)
    position = replace(SweepPosition(1, 0), after=f"TASK#{TASKS[-1]}")

    # when tasks are added between the last page and the end
    def around(operation: str, send: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if operation == "update_item" and arguments["Key"]["sk"] == {"S": "EXEC"} and not world.execution().additions:
            world.creator.add_tasks(world.tenant, "nightly", [TaskDefinition(TASKS[0], retry_policy=ONCE)])
        return send()

    message = AdvanceMessage(Advance.COMPLETE, world.tenant, "nightly", position=position)
    world.through(intercepted(world.table.client, around)).handle(message)

    # then it ends by all its tasks, which were read a second time
    assert world.execution().additions == 1
    assert world.status() is ExecutionStatus.COMPLETED
