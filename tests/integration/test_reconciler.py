"""The safety net: what a lost timer or announcement left behind is driven on, and nothing else. One emulator: PartiQL.

It goes through the whole index, so each test has a table of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from tasklatch.domain.errors import ServiceBusyError
from tasklatch.domain.overdue import OVERDUE_MS
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.domain.timer import TimerKind
from tasklatch.dynamodb import keys
from tasklatch.retries.reconciler import ReconcileSummary
from tasklatch.runtime import services
from tasklatch.runtime.settings import Settings
from tests.factories import NOW, Context, FakeTime, a_task, fresh_name, some_tasks, stored_item
from tests.integration.emulators import Table, create_table, intercepted
from tests.workflow_helpers import ONCE, World, diamond, refusal, sent_timers

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

QUICK = RetryPolicy(max_attempts=3, initial_seconds=5, jitter=0)


@pytest.fixture
def world(ministack: "DynamoDBClient") -> Iterator[World]:
    name = f"ledger-{fresh_name()}"
    create_table(ministack, name)
    yield World(Table(ministack, Settings(name, "", 90), tenant=fresh_name()))
    ministack.delete_table(TableName=name)


def run(world: World, pages: int = 100) -> ReconcileSummary:
    return world.reconciler.run([True] * pages)


def later(world: World, ms: int = OVERDUE_MS + 60_000) -> None:
    world.clock.now += ms


def position(world: World) -> Any:
    item = world.table.item("RECONCILER", "RECONCILER")
    return (item or {}).get("position")


def test_retry_whose_timer_was_lost_is_armed_again(world: World) -> None:
    # given
    world.create(TaskDefinition("tries", retry_policy=QUICK))
    world.report("tries", TaskStatus.FAILED, attempt=1)
    later(world)

    # when
    result = run(world)

    # then
    assert result.overdue_tasks == 1
    [(timer, delay)] = sent_timers(world.queue)
    assert (timer.kind, timer.attempt, delay) == (TimerKind.RETRY, 1, 0)
    assert world.timer_handler.handle(timer) == "opened"


def test_deadline_whose_timer_was_lost_is_armed_again(world: World) -> None:
    # given
    world.create(TaskDefinition("silent", timeout_seconds=30))
    world.report("silent", TaskStatus.IN_PROGRESS, attempt=1)
    later(world)

    # when
    result = run(world)

    # then
    assert result.overdue_tasks == 1
    [(timer, _)] = sent_timers(world.queue)
    assert timer.kind is TimerKind.DEADLINE
    assert world.timer_handler.handle(timer) == "timed out"


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.FAILED_WITH_TERMINAL_ERROR])
@pytest.mark.parametrize("awaited", [True, False])
def test_task_that_may_fail_and_was_never_sealed_is_sealed(world: World, status: TaskStatus, *, awaited: bool) -> None:
    # given
    world.create(
        TaskDefinition("breaks", retry_policy=ONCE, on_failure=OnFailure.CONTINUE),
        *([TaskDefinition("waits", depends_on=("breaks",))] if awaited else []),
    )
    world.report("breaks", status, attempt=1)
    later(world)

    # when
    run(world)

    # then
    assert world.task("breaks").status is TaskStatus.COMPLETED_WITH_ERRORS
    later(world)
    run(world)
    if awaited:
        assert world.task("waits").status is TaskStatus.SCHEDULED
        world.complete("waits")
    assert world.status() is ExecutionStatus.COMPLETED


def test_dependents_that_nobody_counted_down_are_scheduled(world: World) -> None:
    # given
    world.create(*diamond())
    world.report("top")
    later(world)

    # when
    result = run(world)

    # then
    assert result.overdue_tasks == 2
    assert world.statuses() == {
        "top": TaskStatus.COMPLETED,
        "left": TaskStatus.SCHEDULED,
        "right": TaskStatus.SCHEDULED,
        "bottom": TaskStatus.PENDING,
    }


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.FAILED_WITH_TERMINAL_ERROR])
def test_execution_that_nobody_failed_is_failed_though_tasks_wait(world: World, status: TaskStatus) -> None:
    # given
    world.create(TaskDefinition("breaks", retry_policy=ONCE), TaskDefinition("waits", depends_on=("breaks",)))
    failed = world.report("breaks", status, attempt=1).task
    world.retry_planner.plan([failed])
    later(world)

    # when
    run(world)

    # then
    assert world.status() is ExecutionStatus.FAILED
    later(world)
    run(world)
    assert world.task("waits").status is TaskStatus.CANCELED


@pytest.mark.parametrize("fails", [False, True])
def test_execution_that_nobody_ended_is_ended(world: World, *, fails: bool) -> None:
    # given
    world.create(TaskDefinition("only", retry_policy=ONCE))
    world.report("only", TaskStatus.FAILED_WITH_TERMINAL_ERROR if fails else TaskStatus.COMPLETED, attempt=1)
    later(world)

    # when
    result = run(world)

    # then
    assert result.stuck_executions == 1
    assert world.status() is (ExecutionStatus.FAILED if fails else ExecutionStatus.COMPLETED)


def test_tasks_that_nobody_cancelled_are_cancelled(world: World) -> None:
    # given
    world.create(*some_tasks("one", "two"))
    world.control.cancel(world.tenant, "nightly", "enough")
    later(world)

    # when
    result = run(world)

    # then
    assert result.stuck_executions == 1
    assert set(world.statuses().values()) == {TaskStatus.CANCELED}


def test_tasks_of_an_execution_that_was_never_committed_are_left_alone(world: World) -> None:
    # given
    world.table.put(
        *(
            stored_item(replace(a_task(status, tenant=world.tenant, retry_policy=ONCE), task_id=f"of-{status}"))
            for status in (TaskStatus.PENDING, TaskStatus.FAILED, TaskStatus.COMPLETED)
        ),
        # As the index shows it while it lags
        stored_item(a_task(TaskStatus.COMPLETED, tenant=world.tenant, task_id="listed"))
        | {
            keys.LIST_KEY: {"S": keys.open_list(world.tenant, "nightly")},
            keys.LIST_SORT: {"S": keys.task_sk("listed")},
        },
    )
    later(world)
    before = world.statuses()

    # when
    run(world)

    # then
    assert world.statuses() == before
    assert not sent_timers(world.queue)


def test_what_is_on_time_is_left_alone(world: World) -> None:
    # given
    world.create(
        *some_tasks("ready"),
        TaskDefinition("waits", depends_on=("ready",)),
        TaskDefinition("tries", retry_policy=QUICK),
        TaskDefinition("spent", retry_policy=ONCE, on_failure=OnFailure.CONTINUE),
        TaskDefinition("busy", timeout_seconds=3_600, heartbeat_timeout_seconds=60),
    )
    world.create(*some_tasks("done"), execution_id="done")
    world.report("done", execution_id="done")
    world.create(*some_tasks("open"), execution_id="cancelled")
    world.control.cancel(world.tenant, "cancelled", None)
    world.report("ready")
    world.report("tries", TaskStatus.FAILED, attempt=1)
    world.report("spent", TaskStatus.FAILED, attempt=1)
    world.report("busy", TaskStatus.IN_PROGRESS, attempt=1)
    later(world, OVERDUE_MS)
    world.ledger.heartbeat(world.tenant, "nightly", "busy", 1, None)
    before = {name: world.tasks(name) for name in ("nightly", "done", "cancelled")}

    # when
    result = run(world)

    # then
    assert (result.overdue_tasks, result.stuck_executions) == (0, 0)
    assert result.looked_at == 8
    assert {name: world.tasks(name) for name in before} == before
    assert not sent_timers(world.queue)
    assert world.status() is world.status("done") is ExecutionStatus.RUNNING


def test_tasks_that_have_long_been_worked_on_without_a_deadline_are_left_alone(world: World) -> None:
    # given
    world.create(*some_tasks("slow"), TaskDefinition("after", depends_on=("slow",)))
    world.report("slow", TaskStatus.IN_PROGRESS, attempt=1)
    later(world, 86_400_000)

    # when
    result = run(world)

    # then
    assert (result.overdue_tasks, result.stuck_executions) == (0, 0)
    assert world.statuses() == {"slow": TaskStatus.IN_PROGRESS, "after": TaskStatus.PENDING}


def test_run_goes_on_from_where_the_last_one_stopped(world: World) -> None:
    # given: more than one page, so that a run with time for one ends in the middle
    world.create(*some_tasks(*(f"task{number:03d}" for number in range(150))))
    later(world)

    # when
    first = run(world, pages=1)

    # then
    assert first.looked_at == 100
    assert position(world) is not None

    # when
    second = run(world, pages=1)

    # then: the rest, execution included, and then from the beginning
    assert second.looked_at == 51
    assert position(world) is None
    assert run(world, pages=1).looked_at == 100


def test_run_without_time_does_nothing_and_keeps_its_place(world: World) -> None:
    # given
    world.create(*some_tasks(*(f"task{number:03d}" for number in range(150))))
    run(world, pages=1)
    index = position(world)

    # when
    result = run(world, pages=0)

    # then
    assert result == ReconcileSummary()
    assert position(world) == index


def test_run_that_a_busy_table_breaks_off_begins_at_the_same_place(world: World) -> None:
    # given
    world.create(*some_tasks(*(f"task{number:03d}" for number in range(150))))
    run(world, pages=1)
    index = position(world)

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "scan":
            raise refusal("ThrottlingException")
        return send()

    # when
    busy = world.through(intercepted(world.table.client, around), FakeTime(6_000))
    with pytest.raises(ServiceBusyError):
        run(busy)

    # then
    assert position(world) == index


def test_handler_stops_before_its_time_is_over_and_says_what_it_found(
    world: World,
    load: Callable[[str, Any], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # given
    monkeypatch.setenv("TABLE_NAME", world.settings.table_name)
    module = load("reconciler", world.table.client)
    monkeypatch.setattr(services, "sqs", lambda: world.queue)
    monkeypatch.setattr(services, "scheduler", lambda: world.scheduler)
    monkeypatch.setattr(services, "system_clock", world.clock)
    world.create(TaskDefinition("tries", retry_policy=QUICK))
    world.report("tries", TaskStatus.FAILED, attempt=1)
    world.clock.now = NOW + OVERDUE_MS + 60_000

    # when
    messages = module.handler({}, Context(remaining_ms=15_000))

    # then
    assert messages == {"looked_at": 0, "overdue_tasks": 0, "stuck_executions": 0}

    # when
    messages = module.handler({}, Context(remaining_ms=60_000))

    # then
    assert messages == {"looked_at": 2, "overdue_tasks": 1, "stuck_executions": 0}
    assert '"OverdueTasks":[1.0]' in capsys.readouterr().out.replace(" ", "")


@pytest.mark.parametrize("stored", [{"status": {"S": "PAUSED"}, "form": {"N": "2"}}, {"form": {"N": "2"}}])
def test_a_task_of_a_later_version_is_passed_by(world: World, stored: dict[str, Any]) -> None:
    # given a task whose retry is overdue, but that a later version has stored in a form of its own
    world.create(TaskDefinition("tries", retry_policy=QUICK), TaskDefinition("other", retry_policy=QUICK))
    for name in ("tries", "other"):
        world.report(name, TaskStatus.FAILED, attempt=1)
    pk, sk = keys.execution_pk(world.tenant, "nightly"), keys.task_sk("tries")
    item = {**(world.table.item(pk, sk) or {}), **stored}
    world.table.put(item)
    later(world)

    # when
    run(world)

    # then
    [(timer, _)] = sent_timers(world.queue)
    assert timer.task_id == "other"
    assert world.table.item(pk, sk) == item
