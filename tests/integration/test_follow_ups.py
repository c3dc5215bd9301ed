"""What the notifier sends to the workflow advancer: only what follows from a change, and from the last one for sure."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tasklatch.domain.advance import Advance, AdvanceMessage
from tasklatch.domain.changes import Change, ExecutionChange
from tasklatch.domain.new_execution import NewExecution
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import FollowUp, OnFailure
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.dynamodb import keys
from tests.integration.emulators import Table, counted_calls, intercepted
from tests.workflow_helpers import ONCE, World


@pytest.fixture
def world(statements_table: Table) -> World:
    return World(statements_table)


def send(world: World, *task_ids: str, execution_id: str = "nightly") -> list[AdvanceMessage]:
    """Send what follows from tasks as they stand, in one batch."""
    world.follow_ups.send(Change(world.task(task_id, execution_id), None) for task_id in task_ids)
    return world.sent_messages()


def test_nothing_follows_while_another_task_is_open(world: World) -> None:
    # given
    world.create(TaskDefinition("one"), TaskDefinition("two"))
    world.report("one")
    task = world.task("one")

    # when
    with counted_calls(world.table.client) as calls:
        world.follow_ups.send([Change(task, None)])

    # then
    assert world.sent_messages() == []
    assert calls == {"Query": 1, "BatchGetItem": 1}


def test_the_last_tasks_of_a_batch_are_followed_by_one_look_at_their_execution(world: World) -> None:
    # given
    world.create(TaskDefinition("one"), TaskDefinition("two"))
    world.report_all(["one", "two"])

    # when
    sent = send(world, "one", "two")

    # then
    assert sent == [AdvanceMessage(Advance.COMPLETE, world.tenant, "nightly")]
    world.handle(sent[0])
    assert world.status() is ExecutionStatus.COMPLETED


def test_of_two_tasks_that_end_at_once_the_later_change_sees_neither_open(world: World) -> None:
    # given an index that has not noticed that either has ended
    world.create(TaskDefinition("one"), TaskDefinition("two"))
    entries = [
        {**item, keys.LIST_KEY: {"S": keys.open_list(world.tenant, "nightly")}, keys.LIST_SORT: item["sk"]}
        for item in world.table.items(keys.execution_pk(world.tenant, "nightly"))
        if item["sk"]["S"] in ("TASK#one", "TASK#two")
    ]
    world.report_all(["one", "two"])

    def around(_operation: str, call: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        return {"Items": entries} if arguments.get("IndexName") else call()

    # when
    sent = send(world.through(intercepted(world.table.client, around)), "two")

    # then
    assert [message.kind for message in sent] == [Advance.COMPLETE]


def test_dependents_follow_without_a_second_read_of_their_task(world: World) -> None:
    # given
    world.create(TaskDefinition("first"), TaskDefinition("second", depends_on=("first",)))
    world.report("first")

    # when
    [sent] = send(world, "first")

    # then
    assert sent == AdvanceMessage(Advance.TASK, world.tenant, "nightly", "first", is_final=True)
    world.handle(sent)
    assert world.task("second").status is TaskStatus.SCHEDULED


def test_a_failure_for_good_is_followed_by_the_end_of_its_execution(world: World) -> None:
    # given
    world.create(TaskDefinition("breaks", retry_policy=ONCE), TaskDefinition("other"))
    world.report("breaks", TaskStatus.FAILED)

    # when
    [sent] = send(world, "breaks")

    # then
    assert sent == AdvanceMessage(Advance.TASK, world.tenant, "nightly", "breaks")
    world.handle(sent)
    assert world.status() is ExecutionStatus.FAILED


def test_a_failure_that_is_retried_is_followed_by_nothing(world: World) -> None:
    # given
    world.create(TaskDefinition("tries"))
    world.report("tries", TaskStatus.FAILED)

    # when, then
    assert send(world, "tries") == []


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED_WITH_TERMINAL_ERROR])
def test_nothing_is_asked_of_an_execution_that_stays_open(world: World, status: TaskStatus) -> None:
    # given
    world.creator.create(NewExecution(world.tenant, "scan", [TaskDefinition("only")], keep_open=True))
    world.report("only", status, execution_id="scan")
    task = world.task("only", "scan")

    # when
    with counted_calls(world.table.client) as calls:
        world.follow_ups.send([Change(task, None)])

    # then
    assert task.follow_up is FollowUp.NOTHING
    assert (world.sent_messages(), calls) == ([], {})


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (ExecutionStatus.RUNNING, []),
        (ExecutionStatus.COMPLETED, []),
        (ExecutionStatus.FAILED, [Advance.CANCEL]),
        (ExecutionStatus.TERMINATED, [Advance.CANCEL]),
        (ExecutionStatus.TIMED_OUT, [Advance.CANCEL]),
    ],
)
def test_open_tasks_are_cancelled_where_an_execution_ends_before_them(
    world: World, status: ExecutionStatus, expected: list[Advance]
) -> None:
    # given
    execution = replace(world.create(TaskDefinition("only")), status=status)

    # when
    world.follow_ups.send([ExecutionChange(execution, None)])

    # then
    assert [message.kind for message in world.sent_messages()] == expected


def test_tasks_of_earlier_versions_are_followed_by_everything(world: World) -> None:
    # given a task that does not say what can follow from its end
    world.create(TaskDefinition("only", on_failure=OnFailure.CONTINUE))
    world.report("only")
    task = replace(world.task("only"), follow_up=None)

    # when
    world.follow_ups.send([Change(task, None)])

    # then
    assert [message.kind for message in world.sent_messages()] == [Advance.TASK]
    world.handle(world.sent_messages()[0])
    assert world.status() is ExecutionStatus.COMPLETED


def test_a_task_expects_the_dependents_that_are_added(world: World) -> None:
    # given
    world.create(TaskDefinition("first"), TaskDefinition("other"))
    version = world.task("first").version

    # when
    world.creator.add_tasks(world.tenant, "nightly", [TaskDefinition("second", depends_on=("first",))])

    # then
    first = world.task("first")
    assert (first.follow_up, first.version) == (None, version)
    world.report("first")
    [sent] = send(world, "first")
    world.handle(sent)
    assert world.task("second").status is TaskStatus.SCHEDULED
