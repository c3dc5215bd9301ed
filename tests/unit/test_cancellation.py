"""Cancellation by a person: the first tasks before the answer, the others after it."""

from typing import Final

import pytest

from tasklatch.domain.advance import Advance, AdvanceMessage
from tasklatch.domain.changes import ExecutionChange
from tasklatch.domain.errors import ConflictError, NotFoundError
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.executions import control, execution_tasks
from tests.memory_client import a_memory_table
from tests.workflow_helpers import World

TASKS: Final = [f"task-{number}" for number in range(7)]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """An execution of seven tasks, where a page has two, and four tasks are cancelled before the answer."""
    monkeypatch.setattr(execution_tasks, "TASKS_A_PAGE", 2)
    monkeypatch.setattr(control, "MAX_CANCELLED_AT_ONCE", 4)
    world = World(a_memory_table())
    world.create(*map(TaskDefinition, TASKS))
    return world


def open_tasks(world: World) -> list[str]:
    return sorted(name for name, status in world.statuses().items() if status is TaskStatus.SCHEDULED)


def test_the_first_tasks_are_cancelled_before_the_answer_and_the_others_by_the_change(world: World) -> None:
    # when
    execution = world.control.cancel(world.tenant, "nightly", "enough")

    # then
    assert execution.status is ExecutionStatus.TERMINATED
    assert open_tasks(world) == TASKS[4:]

    # and when the change arrives
    world.follow_ups.send([ExecutionChange(execution, None)])
    [message] = world.sent_messages()
    assert message == AdvanceMessage(Advance.CANCEL, world.tenant, "nightly")
    world.handle(message)
    assert open_tasks(world) == []
    assert {task.message for task in world.tasks().values()} == {"enough"}


def test_a_cancellation_that_is_repeated_goes_over_the_same_tasks(world: World) -> None:
    world.control.cancel(world.tenant, "nightly", None)
    before = world.tasks()

    world.control.cancel(world.tenant, "nightly", None)

    assert world.tasks() == before


def test_an_execution_that_is_deleted_has_its_first_tasks_cancelled(world: World) -> None:
    world.control.delete(world.tenant, "nightly")

    assert open_tasks(world) == TASKS[4:]
    with pytest.raises(NotFoundError):
        world.control.delete(world.tenant, "nightly")


def test_nothing_is_cancelled_in_an_execution_that_has_completed(world: World) -> None:
    world.report_all(TASKS)
    world.advance(TASKS[-1])

    with pytest.raises(ConflictError):
        world.control.cancel(world.tenant, "nightly", None)
    assert set(world.statuses().values()) == {TaskStatus.COMPLETED}
