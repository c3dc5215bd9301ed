"""Tasks that bring others: these are created once, and what waits for the parent waits for all of them.

Needs PartiQL: one emulator.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from tasklatch.domain.advance import Advance, AdvanceMessage
from tasklatch.domain.children import ChildrenSource, Contract
from tasklatch.domain.errors import AttemptNotOpenError
from tasklatch.domain.overdue import OVERDUE_MS
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import OnFailure
from tasklatch.domain.task_definition import TaskDefinition
from tests.integration.emulators import Table, intercepted
from tests.workflow_helpers import ONCE, World

DYNAMIC: Final = ChildrenSource(Contract.NATIVE, is_declared=False)
PENDING, SCHEDULED, IN_PROGRESS = TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.IN_PROGRESS
COMPLETED, CANCELED, SKIPPED = TaskStatus.COMPLETED, TaskStatus.CANCELED, TaskStatus.SKIPPED
FOR_GOOD = TaskStatus.FAILED_WITH_TERMINAL_ERROR
MESSAGE: Final = "children"


def dynamic(*, on_failure: OnFailure = OnFailure.ABORT, max_tasks: int | None = None) -> list[TaskDefinition]:
    """Return a task that lists tasks, one that brings them, and one that waits for that."""
    return [
        TaskDefinition("list", retry_policy=ONCE),
        TaskDefinition(
            "fan",
            input='{"children":"${list.output.tasks}"}',
            depends_on=("list",),
            on_failure=on_failure,
            children=ChildrenSource(Contract.NATIVE, is_declared=False, max_tasks=max_tasks),
        ),
        TaskDefinition("report", depends_on=("fan",), retry_policy=ONCE),
    ]


def declared(*children: dict[str, Any], task_id: str = "fan") -> TaskDefinition:
    return TaskDefinition(
        task_id,
        input=json.dumps({"children": list(children)}),
        children=ChildrenSource(Contract.NATIVE, is_declared=True),
    )


def a_child(task_id: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    return {"taskId": task_id, "dependsOn": list(depends_on), "retryPolicy": {"maxAttempts": 1}, **fields}


def message(world: World) -> AdvanceMessage:
    return AdvanceMessage(Advance.CHILDREN, world.tenant, "nightly", "fan")


def lists(world: World, children: Any) -> None:
    """Let the first task end with a list, and the second start."""
    world.report("list", output=json.dumps({"tasks": children}))
    world.advance("list")


@pytest.fixture
def world(statements_table: Table) -> World:
    world = World(statements_table)
    world.create(*dynamic())
    return world


def test_list_that_a_task_gave_becomes_tasks(world: World) -> None:
    # when
    lists(world, [a_child("x", input={"n": 1}), a_child("y", "x", input={"from": "${x.output.n}"})])
    started = world.task("fan").status
    world.settle()

    # then
    assert started is IN_PROGRESS
    assert world.statuses() == {
        "fan": IN_PROGRESS,
        "list": COMPLETED,
        "report": PENDING,
        "x": SCHEDULED,
        "y": PENDING,
    }
    assert {task_id for task_id, task in world.tasks().items() if task.parent_id == "fan"} == {"x", "y"}

    # and when one ends, the next has its output
    world.report("x", output='{"n":7}')
    world.settle()
    detail = world.reader.get_task_detail(world.tenant, "nightly", "y")
    assert (detail.task.status, detail.input) == (SCHEDULED, '{"from":7}')
    assert world.task("report").status is PENDING


def test_what_waits_for_the_parent_waits_for_all_children(world: World) -> None:
    # given
    lists(world, [a_child("x"), a_child("y")])
    world.settle()

    # when
    world.report("y")
    world.settle()
    after_one = (world.task("fan").status, world.task("report").status)
    world.report("x")
    world.settle()

    # then
    assert after_one == (IN_PROGRESS, PENDING)
    assert (world.task("fan").status, world.task("report").status) == (COMPLETED, SCHEDULED)
    world.report("report")
    world.settle()
    assert world.status() is ExecutionStatus.COMPLETED


def test_children_refer_to_what_their_parent_waited_for(world: World) -> None:
    lists(world, [a_child("x", input={"all": "${list.output.tasks[0].taskId}"})])
    world.settle()

    assert world.reader.get_task_detail(world.tenant, "nightly", "x").input == '{"all":"x"}'


def test_an_empty_list_completes_its_parent_at_once(world: World) -> None:
    lists(world, [])
    world.settle()

    assert (world.task("fan").status, world.task("report").status) == (COMPLETED, SCHEDULED)


@pytest.mark.parametrize(
    ("children", "reason"),
    [
        (None, "children"),
        ({"taskId": "x"}, "list"),
        (7, "list"),
        ([{"taskId": ""}], "children.0.taskId"),
        ([{"input": {}}], "children.0.taskId"),
        ([a_child("x", more=1)], "children.0.more"),
        ([a_child("x", children=[a_child("y")])], "children.0.children"),
        ([a_child("x"), a_child("x")], "duplicate"),
        ([a_child("x", "list")], "'list' not found"),
        ([a_child("x", "y"), a_child("y", "x")], "cycle"),
        ([a_child("x", input={"from": "${y.output}"}), a_child("y")], "does not wait for"),
        ([a_child("report")], "another task with the id 'report'"),
        ([a_child("fan")], "another task with the id 'fan'"),
        ([a_child(f"x{number}") for number in range(501)], "at most 500"),
    ],
)
def test_what_is_no_list_of_valid_tasks_fails_its_parent_for_good(world: World, children: Any, reason: str) -> None:
    # when
    lists(world, children)
    world.settle()

    # then
    failed = world.task("fan")
    assert failed.status is FOR_GOOD
    assert reason in (failed.message or "")
    assert world.status() is ExecutionStatus.FAILED
    assert set(world.tasks()) == {"list", "fan", "report"}


def test_a_parent_that_may_fail_lets_its_execution_go_on(statements_table: Table) -> None:
    # given
    world = World(statements_table)
    world.create(*dynamic(on_failure=OnFailure.CONTINUE))

    # when
    lists(world, "nothing")
    world.settle()
    world.retry_planner.plan([world.task("fan")])
    world.settle()

    # then
    assert (world.task("fan").status, world.task("report").status) == (
        TaskStatus.COMPLETED_WITH_ERRORS,
        SCHEDULED,
    )


def test_execution_gets_at_most_so_many_tasks_in_this_way(statements_table: Table) -> None:
    # given two tasks that bring others, and room for three
    world = World(statements_table)
    source = ChildrenSource(Contract.NATIVE, is_declared=False, max_tasks=3)
    world.create(
        TaskDefinition("list"),
        *(
            TaskDefinition(
                name, input=f'{{"children":"${{list.output.{name}}}"}}', depends_on=("list",), children=source
            )
            for name in ("one", "two")
        ),
    )

    # when
    output = {"one": [a_child("a"), a_child("b")], "two": [a_child("c"), a_child("d")]}
    world.report("list", output=json.dumps(output))
    world.settle()

    # then
    statuses = world.statuses()
    failed = [name for name in ("one", "two") if statuses[name] is FOR_GOOD]
    assert len(failed) == 1
    assert "more than the execution may have" in (world.task(failed[0]).message or "")
    assert len(statuses) == 5


@pytest.mark.parametrize("repeats", [2, 3])
def test_children_are_created_once(world: World, repeats: int) -> None:
    # given
    lists(world, [a_child("x"), a_child("y", "x")])
    world.handle(message(world))
    world.report("x")
    world.advance("x")
    before = world.tasks()

    # when
    for _ in range(repeats):
        world.handle(message(world))

    # then
    assert world.tasks() == before
    world.complete("y")
    world.settle()
    assert world.task("fan").status is COMPLETED


def test_interruption_anywhere_is_completed_by_the_next_delivery(statements_table: Table) -> None:
    calls = 0
    stop_at = 0

    def interrupted(_operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise ConnectionAbortedError
        return send()

    ended = False
    while not ended:
        # given
        stop_at, calls = stop_at + 1, 0
        world = World(Table(statements_table.client, statements_table.settings, tenant=f"t{stop_at}"))
        world.create(*dynamic())
        lists(world, [a_child("x", input={"n": 1}), a_child("y", "x")])

        # when
        try:
            world.through(intercepted(statements_table.client, interrupted)).handle(message(world))
            ended = True
        except ConnectionAbortedError:
            # Nothing that waits for the parent starts before all children exist and have ended
            world.run_to_end()
            assert world.task("report").status is PENDING
            world.settle()

        # then
        assert world.reader.get_task_detail(world.tenant, "nightly", "x").input == '{"n":1}'
        for _ in range(2):
            world.run_to_end()
            world.settle()
        assert world.status() is ExecutionStatus.COMPLETED, stop_at
        assert world.statuses()["y"] is COMPLETED
    assert stop_at > 10


def test_lost_message_is_made_up_for(world: World) -> None:
    # given a parent whose message was lost
    lists(world, [a_child("x")])
    world.clock.now += OVERDUE_MS + 1

    # when
    world.reconciler.run([True] * 1_000)

    # then
    assert message(world) in world.sent_messages()
    assert "x" not in world.tasks()


def test_end_of_the_last_child_that_was_not_counted_is_made_up_for(world: World) -> None:
    # given
    lists(world, [a_child("x"), a_child("y")])
    world.settle()
    world.report("x")
    world.report("y")

    # when
    world.handle(message(world))

    # then
    assert world.task("fan").status is COMPLETED


def test_nobody_can_report_on_a_parent(world: World) -> None:
    lists(world, [a_child("x")])
    world.settle()
    before = world.task("fan")

    for status in (COMPLETED, TaskStatus.FAILED):
        with pytest.raises(AttemptNotOpenError):
            world.report("fan", status, attempt=1)
    with pytest.raises(AttemptNotOpenError):
        world.report("fan", COMPLETED)
    with pytest.raises(AttemptNotOpenError):
        world.ledger.heartbeat(world.tenant, "nightly", "fan", 1, None)

    assert world.task("fan") == before


def test_failure_of_a_child_fails_the_execution_and_a_persons_retry_goes_on(world: World) -> None:
    # given
    lists(world, [a_child("x"), a_child("y"), a_child("z", "y")])
    world.settle()
    world.report("x")
    world.report("y", TaskStatus.FAILED, attempt=1)
    world.settle()
    world.closer.cancel_open_tasks(world.tenant, "nightly")
    failed = world.statuses()

    # when
    world.reopener.retry(world.tenant, "nightly")
    world.settle()

    # then
    assert failed == {
        "fan": CANCELED,
        "list": COMPLETED,
        "report": CANCELED,
        "x": COMPLETED,
        "y": TaskStatus.FAILED,
        "z": CANCELED,
    }
    assert world.status() is ExecutionStatus.RUNNING
    assert world.statuses() == {
        "fan": IN_PROGRESS,
        "list": COMPLETED,
        "report": PENDING,
        "x": COMPLETED,
        "y": SCHEDULED,
        "z": PENDING,
    }
    world.run_to_end()
    world.settle()
    world.complete("report")
    assert world.status() is ExecutionStatus.COMPLETED


def test_child_that_may_fail_counts_once_it_is_given_up(world: World) -> None:
    # given
    lists(world, [a_child("x", onFailure="continue")])
    world.settle()

    # when
    world.report("x", TaskStatus.FAILED, attempt=1)
    world.retry_planner.plan([world.task("x")])
    world.settle()

    # then
    assert world.task("x").status is TaskStatus.COMPLETED_WITH_ERRORS
    assert (world.task("fan").status, world.task("report").status) == (COMPLETED, SCHEDULED)


def test_late_success_of_a_child_takes_its_failure_back(world: World) -> None:
    # given
    lists(world, [a_child("x"), a_child("y")])
    world.settle()
    world.report("x", TaskStatus.FAILED, attempt=1)
    world.settle()
    world.closer.cancel_open_tasks(world.tenant, "nightly")

    # when
    world.report("x", attempt=1)
    world.settle()

    # then
    assert world.status() is ExecutionStatus.RUNNING
    assert world.statuses() == {
        "fan": IN_PROGRESS,
        "list": COMPLETED,
        "report": PENDING,
        "x": COMPLETED,
        "y": SCHEDULED,
    }
    world.complete("y")
    world.settle()
    assert world.task("report").status is SCHEDULED


def test_retry_of_a_parent_without_a_list_fails_again(world: World) -> None:
    # given
    lists(world, "nothing")
    world.settle()
    reason = world.task("fan").message

    # when
    world.reopener.retry(world.tenant, "nightly")
    started = world.task("fan").status
    world.settle()

    # then
    assert started is IN_PROGRESS
    assert (world.task("fan").status, world.task("fan").message) == (FOR_GOOD, reason)
    assert world.status() is ExecutionStatus.FAILED


def test_cancellation_cancels_children_and_none_comes_after(world: World) -> None:
    # given children that were created half-way when a person cancelled
    lists(world, [a_child("x"), a_child("y")])

    def cancelling(operation: str, send: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        inserts = [item for item in arguments.get("Statements", []) if item["Statement"].startswith("INSERT")]
        if operation == "batch_execute_statement" and any("followUp" not in str(item) for item in inserts):
            world.control.cancel(world.tenant, "nightly", "enough")
        return send()

    # when
    world.through(intercepted(world.table.client, cancelling)).handle(message(world))

    # then
    assert world.status() is ExecutionStatus.TERMINATED
    assert {status for task_id, status in world.statuses().items() if task_id != "list"} == {CANCELED}

    # and a person's retry creates what was missing
    world.reopener.retry(world.tenant, "nightly")
    world.settle()
    assert world.statuses() == {
        "fan": IN_PROGRESS,
        "list": COMPLETED,
        "report": PENDING,
        "x": SCHEDULED,
        "y": SCHEDULED,
    }


def test_two_lists_with_one_name_fail_one_parent_and_leave_nothing_open(statements_table: Table) -> None:
    # given a parent that may fail, and another that takes a name of its list while it is inserted
    world = World(statements_table)
    world.create(
        declared(a_child("x"), task_id="first"),
        TaskDefinition(
            "fan",
            input=json.dumps({"children": [a_child("w"), a_child("x")]}),
            on_failure=OnFailure.CONTINUE,
            children=ChildrenSource(Contract.NATIVE, is_declared=True),
        ),
    )

    def meanwhile(operation: str, send: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        inserts = [item for item in arguments.get("Statements", []) if item["Statement"].startswith("INSERT")]
        if operation == "batch_execute_statement" and inserts and "x" not in world.tasks():
            world.handle(AdvanceMessage(Advance.CHILDREN, world.tenant, "nightly", "first"))
        return send()

    # when
    world.through(intercepted(world.table.client, meanwhile)).handle(message(world))

    # then
    assert (world.task("x").parent_id, world.task("fan").status) == ("first", FOR_GOOD)
    assert "another task with the id 'x'" in (world.task("fan").message or "")
    assert (world.task("w").parent_id, world.task("w").status) == ("fan", SKIPPED)
    world.retry_planner.plan([world.task("fan")])
    world.run_to_end()
    world.settle()
    assert world.status() is ExecutionStatus.COMPLETED


def test_declared_children_start_when_their_parent_does(statements_table: Table) -> None:
    # given
    world = World(statements_table)
    parent = declared(a_child("x", input={"from": "${first.output.n}"}))
    world.create(
        TaskDefinition("first"),
        TaskDefinition("fan", input=parent.input, depends_on=("first",), children=parent.children),
    )
    before = set(world.tasks())

    # when
    world.report("first", output='{"n":1}')
    world.settle()

    # then
    assert before == {"first", "fan"}
    assert world.reader.get_task_detail(world.tenant, "nightly", "x").input == '{"from":1}'


def test_transaction_that_was_interfered_with_is_tried_again(world: World) -> None:
    # given
    lists(world, [a_child("x")])
    failures = ["TransactionCanceledException"]

    def refusing(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "transact_write_items" and failures:
            raise ClientError({"Error": {"Code": failures.pop(), "Message": "conflict"}}, operation)
        return send()

    # when
    world.through(intercepted(world.table.client, refusing)).handle(message(world))

    # then
    assert world.task("x").status is SCHEDULED


def test_children_wait_for_ever_for_nothing(statements_table: Table) -> None:
    """A long chain of children is no deeper than a short one."""
    world = World(statements_table)
    chain: Sequence[dict[str, Any]] = [
        a_child(f"c{number:03}", *([f"c{number - 1:03}"] if number else [])) for number in range(20)
    ]
    world.create(declared(*chain))
    world.settle()

    order = world.run_to_end()
    world.settle()

    assert list(order) == [child["taskId"] for child in chain]
    assert world.status() is ExecutionStatus.COMPLETED
