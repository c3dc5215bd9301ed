"""Executions that run again after a late success, page by page, over as many invocations as it takes."""

from typing import Final

import pytest

from tasklatch.domain.advance import Advance, AdvanceMessage
from tasklatch.domain.changes import Change
from tasklatch.domain.overdue import OVERDUE_MS
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.executions import execution_tasks
from tests import workflow_helpers
from tests.factories import FakeTime
from tests.memory_client import a_memory_table
from tests.workflow_helpers import ONCE, OnePageBackoff, World

PAGE: Final = 2
OTHERS: Final = [f"other-{number}" for number in range(5)]


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution_tasks, "TASKS_A_PAGE", PAGE)


@pytest.fixture
def world() -> World:
    """An execution that a task has failed: five others are under way, and one waits for the first."""
    world = World(a_memory_table())
    world.create(
        TaskDefinition("a", retry_policy=ONCE),
        *(TaskDefinition(name, retry_policy=ONCE) for name in OTHERS),
        TaskDefinition("z", depends_on=("a",), retry_policy=ONCE),
    )
    world.report("a", TaskStatus.FAILED, attempt=1)
    world.advance("a")
    assert world.status() is ExecutionStatus.FAILED
    return world


def handle_in_a_hurry(world: World, message: AdvanceMessage) -> None:
    """Handle a message in an invocation that has time for one page of each sweep."""

    def one_page(time_left: FakeTime | None = None) -> OnePageBackoff:
        fake = time_left or FakeTime()
        return OnePageBackoff(fake.remaining_ms, fake.sleep)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow_helpers, "make_backoff", one_page)
        world.handle(message)


def deliver(world: World) -> list[Advance]:
    """Handle all messages of the advance queue, each in an invocation of its own; return their kinds."""
    handled: list[Advance] = []
    while len(handled) < len(world.sent_messages()):
        message = world.sent_messages()[len(handled)]
        handle_in_a_hurry(world, message)
        handled.append(message.kind)
    return handled


def follow(world: World, task_id: str) -> None:
    """Send what follows from a late success of a task."""
    before = world.task(task_id)
    world.report(task_id, attempt=1)
    world.follow_ups.send([Change(world.task(task_id), before)])


def test_what_the_failure_cancelled_is_open_again_after_several_invocations(world: World) -> None:
    # when
    follow(world, "a")
    kinds = deliver(world)

    # then
    assert kinds.count(Advance.RESUME) > len(OTHERS) // PAGE
    assert world.status() is ExecutionStatus.RUNNING
    assert world.execution().failed_by is None
    assert set(world.statuses().values()) == {TaskStatus.COMPLETED, TaskStatus.SCHEDULED}


def test_success_of_the_last_task_is_noticed_while_others_are_still_being_cancelled(world: World) -> None:
    # when the change of the execution itself is not handled yet
    follow(world, "a")

    # then
    assert [message.kind for message in world.sent_messages()] == [Advance.TASK]


def test_a_failure_on_a_later_page_keeps_the_execution_failed_and_the_rest_is_cancelled(world: World) -> None:
    # given
    world.report(OTHERS[-1], TaskStatus.FAILED, attempt=1)

    # when
    follow(world, "a")
    deliver(world)
    world.advance_queue.send([AdvanceMessage(Advance.CANCEL, world.tenant, "nightly")])
    deliver(world)

    # then
    statuses = world.statuses()
    assert world.status() is ExecutionStatus.FAILED
    assert {statuses[name] for name in (*OTHERS[:-1], "z")} == {TaskStatus.CANCELED}


def test_the_change_of_a_failed_execution_finds_a_success_that_came_before_it(world: World) -> None:
    # given a success that was handled while the execution still ran
    world.report("a", attempt=1)

    # when
    world.handle(AdvanceMessage(Advance.CANCEL, world.tenant, "nightly"))

    # then
    assert world.status() is ExecutionStatus.RUNNING
    assert world.task("z").status is TaskStatus.SCHEDULED


@pytest.mark.parametrize("invocations", range(8))
def test_what_stops_half_way_is_completed_by_the_reconciler(world: World, invocations: int) -> None:
    # given a queue that loses all messages after some
    follow(world, "a")
    for _ in range(invocations):
        handle_in_a_hurry(world, world.sent_messages()[-1])

    # when
    for _ in range(4):
        world.clock.now += OVERDUE_MS + 1
        world.reconciler.run([True] * 1_000)

    # then
    assert world.status() is ExecutionStatus.RUNNING
    assert world.execution().failed_by is None
    assert set(world.statuses().values()) == {TaskStatus.COMPLETED, TaskStatus.SCHEDULED}


def test_a_person_retries_and_the_failure_is_forgotten(world: World) -> None:
    # when
    _, is_reopened = world.reopener.retry(world.tenant, "nightly")

    # then
    assert is_reopened
    assert (world.status(), world.execution().failed_by) == (ExecutionStatus.RUNNING, None)
    assert world.task("a").status is TaskStatus.SCHEDULED
