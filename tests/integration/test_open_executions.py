"""What other platforms' contracts need of the ledger: executions that stay open, groups, seals, remarks, handed inputs.

The safety net goes through the whole index, so each test has a table of its own.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tasklatch.domain.conditional_write import next_attempt_write
from tasklatch.domain.errors import ConflictError, NotFoundError
from tasklatch.domain.execution import ExecutionFilter
from tasklatch.domain.new_execution import NewExecution
from tasklatch.domain.overdue import OVERDUE_MS
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.ledger.payloads import Payloads
from tasklatch.runtime.attempt_ids import current_attempt_id
from tasklatch.runtime.settings import Settings
from tests.factories import a_report, fresh_name, some_tasks
from tests.integration.emulators import Table, create_table, make_backoff
from tests.workflow_helpers import ONCE, World

OF_FLOW = ExecutionFilter(group_versions=(("flow", None),))

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture
def world(ministack: "DynamoDBClient") -> Iterator[World]:
    name = f"ledger-{fresh_name()}"
    create_table(ministack, name)
    yield World(Table(ministack, Settings(name, "", 90), tenant=fresh_name()))
    ministack.delete_table(TableName=name)


def open_execution(world: World, *definitions: TaskDefinition, group: str | None = None, name: str = "nightly") -> None:
    world.creator.create(NewExecution(world.tenant, name, definitions, group=group, keep_open=True))


def once(task_id: str, *depends_on: str) -> TaskDefinition:
    return TaskDefinition(task_id, retry_policy=ONCE, depends_on=depends_on)


def test_failure_for_good_ends_neither_the_execution_nor_the_others_work(world: World) -> None:
    # given
    open_execution(world, once("breaks"), once("after", "breaks"), once("other"))

    # when
    world.report("breaks", TaskStatus.FAILED, attempt=1)
    world.retry_planner.plan([world.task("breaks")])
    world.advance("breaks")

    # then
    assert world.status() is ExecutionStatus.RUNNING
    assert world.statuses() == {"breaks": "FAILED", "after": "PENDING", "other": "SCHEDULED"}
    # and a success still rescues it, and lets go on what waits for it
    world.complete("breaks")
    assert world.statuses() == {"breaks": "COMPLETED", "after": "SCHEDULED", "other": "SCHEDULED"}


def test_what_waits_for_a_failure_is_not_let_go_by_tasks_that_are_added(world: World) -> None:
    open_execution(world, once("breaks"))
    world.report("breaks", TaskStatus.FAILED, attempt=1)

    world.creator.add_tasks(world.tenant, "nightly", [once("after", "breaks"), once("other")])

    assert world.statuses() == {"breaks": "FAILED", "after": "PENDING", "other": "SCHEDULED"}


def test_tasks_can_be_added_when_all_others_are_done(world: World) -> None:
    open_execution(world, *some_tasks("first"))
    world.complete("first")

    world.creator.add_tasks(world.tenant, "nightly", some_tasks("second"))

    assert world.statuses() == {"first": "COMPLETED", "second": "SCHEDULED"}
    assert world.status() is ExecutionStatus.RUNNING


def test_safety_net_leaves_alone_what_stays_open_on_purpose(world: World) -> None:
    # given nothing of it is open, and it is in the list of a group too
    open_execution(world, once("breaks"), once("works"), group="flow")
    world.complete("works")
    world.report("breaks", TaskStatus.FAILED, attempt=1)
    world.retry_planner.plan([world.task("breaks")])
    world.clock.now += OVERDUE_MS + 60_000

    # when
    result = world.reconciler.run([True] * 10)

    # then
    assert (result.overdue_tasks, result.stuck_executions) == (0, 0)
    assert world.status() is ExecutionStatus.RUNNING


def test_person_may_retry_what_failed_in_it_while_it_runs(world: World) -> None:
    # given
    open_execution(world, once("breaks"), once("works"))
    world.complete("works")
    world.report("breaks", TaskStatus.FAILED, attempt=1)
    before = world.execution()

    # when
    after, _ = world.reopener.retry(world.tenant, "nightly")

    # then
    assert world.statuses() == {"breaks": "SCHEDULED", "works": "COMPLETED"}
    assert world.task("breaks").attempt == 2
    assert after == before, "it ran, and runs"


def test_execution_that_ends_by_itself_cannot_be_retried_while_it_runs(world: World) -> None:
    world.create(*some_tasks("a"))
    with pytest.raises(ConflictError):
        world.reopener.retry(world.tenant, "nightly")


def test_group_lists_its_executions_and_no_others(world: World) -> None:
    # given
    for number in range(3):
        world.clock.now += 1
        open_execution(world, name=f"run-{number}", group="flow")
    open_execution(world, name="other", group="flow-2")
    open_execution(world, name="none")

    # when
    first, cursor = world.reader.list_executions(world.tenant, limit=2, criteria=OF_FLOW)
    rest, end = world.reader.list_executions(world.tenant, limit=2, criteria=OF_FLOW, cursor=cursor)

    # then
    assert [item.execution_id for item in (*first, *rest)] == ["run-2", "run-1", "run-0"]
    assert end is None
    every = world.reader.list_executions(world.tenant, limit=10)[0]
    assert {element.execution_id for element in every} == {"run-0", "run-1", "run-2", "other", "none"}
    assert {entry.group for entry in every} == {"flow", "flow-2", None}


def test_same_id_for_another_group_is_a_conflict(world: World) -> None:
    open_execution(world, group="flow")
    open_execution(world, group="flow")
    with pytest.raises(ConflictError):
        open_execution(world, group="flow-2")


def test_deleted_execution_is_cancelled_once_and_kept(world: World) -> None:
    world.create(*some_tasks("a"))

    world.control.delete(world.tenant, "nightly")
    world.closer.cancel_open_tasks(world.tenant, "nightly")

    assert world.status() is ExecutionStatus.TERMINATED
    assert world.execution().deleted_at == world.clock.now
    assert world.statuses() == {"a": "CANCELED"}
    with pytest.raises(NotFoundError):
        world.control.delete(world.tenant, "nightly")


def test_completed_execution_that_is_deleted_stays_completed(world: World) -> None:
    world.create(*some_tasks("a"))
    world.complete("a")
    world.control.delete(world.tenant, "nightly")
    assert world.status() is ExecutionStatus.COMPLETED


SAID = {
    "seal of an open task": ([TaskStatus.SKIPPED], [Verdict.APPLIED], TaskStatus.SKIPPED),
    "seal after a success": (
        [TaskStatus.COMPLETED, TaskStatus.CANCELED],
        [Verdict.APPLIED, Verdict.IGNORED_AFTER_SUCCESS],
        TaskStatus.COMPLETED,
    ),
    "success after a seal": (
        [TaskStatus.CANCELED, TaskStatus.COMPLETED],
        [Verdict.APPLIED, Verdict.SEALED],
        TaskStatus.CANCELED,
    ),
    "seal after a seal": (
        [TaskStatus.SKIPPED, TaskStatus.CANCELED],
        [Verdict.APPLIED, Verdict.SEALED],
        TaskStatus.SKIPPED,
    ),
    "remark": ([TaskStatus.PENDING], [Verdict.DUPLICATE], TaskStatus.SCHEDULED),
    "remark after a success": (
        [TaskStatus.COMPLETED, TaskStatus.PENDING],
        [Verdict.APPLIED, Verdict.IGNORED_AFTER_SUCCESS],
        TaskStatus.COMPLETED,
    ),
}


@pytest.mark.parametrize("at_once", [True, False], ids=["in a batch", "one by one"])
@pytest.mark.parametrize(("body", "verdicts", "becomes"), SAID.values(), ids=SAID)
def test_seals_and_remarks_have_the_same_verdicts_by_either_writer(
    world: World, body: list[TaskStatus], verdicts: list[Verdict], becomes: TaskStatus, *, at_once: bool
) -> None:
    open_execution(world, *some_tasks("a"))
    reports: list[Report] = [a_report(status, "a", platform_status="word") for status in body]

    if at_once:
        recorded = world.ledger.record_all(world.tenant, "nightly", reports, fresh_name())
    else:
        recorded = [world.ledger.record(world.tenant, "nightly", report, fresh_name()) for report in reports]

    assert [getattr(result, "verdict", result) for result in recorded] == verdicts
    assert world.statuses() == {"a": becomes}


def test_input_that_names_its_attempt_names_the_one_that_is_handed_out(world: World) -> None:
    # given two tasks, of which one says so
    plain = TaskDefinition("plain", input='{"n":1}')
    open_execution(world, plain, replace(plain, task_id="named", includes_attempt_id=True))
    payloads = Payloads(world.table.client, world.settings, make_backoff())
    first = world.task("named")

    # when a second attempt at it is opened
    world.report("named", TaskStatus.FAILED, attempt=1)
    second = world.ledger.write(world.tenant, "nightly", next_attempt_write(world.task("named"), now=world.clock.now))
    assert second is not None
    inputs = payloads.get_inputs([first, second, world.task("plain")])

    # then
    assert {name: json.loads(text) for name, text in inputs.items()} == {
        current_attempt_id(first): {"n": 1, "taskExecutionId": current_attempt_id(first)},
        current_attempt_id(second): {"n": 1, "taskExecutionId": current_attempt_id(second)},
        current_attempt_id(world.task("plain")): {"n": 1},
    }
    shown = world.reader.get_task_detail(world.tenant, "nightly", "named").input
    assert json.loads(shown or "")["taskExecutionId"] == current_attempt_id(second)


def test_definitions_differ_by_whether_the_input_names_its_attempt() -> None:
    plain = TaskDefinition("a", input="{}")
    assert plain.fingerprint != replace(plain, includes_attempt_id=True).fingerprint
