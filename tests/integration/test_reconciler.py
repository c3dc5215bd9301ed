"""The safety net: what a lost timer or announcement left behind is driven on, and nothing else. One emulator: PartiQL.

It goes through the whole list of unfinished executions, so each test has a table of its own.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from tasklatch.domain.errors import ServiceBusyError
from tasklatch.domain.history import change_entry
from tasklatch.domain.overdue import LOST_CHANGE_MS, OVERDUE_MS, STREAM_MS
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy, Task
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.domain.timer import TimerKind
from tasklatch.dynamodb import keys
from tasklatch.ledger.history import History
from tasklatch.retries.enlisting import UPDATE_MS, Enlisting
from tasklatch.retries.execution_repair import ReconcileSummary
from tasklatch.runtime import services
from tasklatch.runtime.settings import Settings
from tests.factories import NOW, Context, FakeTime, a_task, fresh_name, some_tasks, stored_item
from tests.integration.emulators import Table, create_table, intercepted, make_backoff
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
    item = world.table.item("RECONCILER", "RECONCILER") or {}
    return {name: item[name] for name in ("shard", "after", "tasksAfter", "interrupted") if name in item}


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
    world.execution_table.change_status(world.execution(), ExecutionStatus.TERMINATED, "enough")
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
    world.execution_table.change_status(world.execution("cancelled"), ExecutionStatus.TERMINATED, None)
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
    assert result.looked_at == 7
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
    # given: more than one page of tasks, so that a run with time for one ends in the middle
    world.create(*some_tasks(*(f"task{number:03d}" for number in range(150))))
    later(world)

    # when: the last page finds that there are no more
    looked_at = [run(world, pages=1).looked_at for _ in range(keys.SHARDS + 2)]

    # then: the execution with its first tasks, then the rest, and then from the beginning
    assert [count for count in looked_at if count] == [101, 50]
    assert position(world) == {"shard": {"N": "0"}}
    assert run(world).looked_at == 151


def test_run_without_time_does_nothing_and_keeps_its_place(world: World) -> None:
    # given
    world.create(*some_tasks(*(f"task{number:03d}" for number in range(150))))
    while "tasksAfter" not in position(world):
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
    while "tasksAfter" not in position(world):
        run(world, pages=1)
    index = position(world)

    def around(operation: str, send: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if operation == "query" and arguments.get("IndexName") == keys.DUE_INDEX:
            raise refusal("ThrottlingException")
        return send()

    # when
    busy = world.through(intercepted(world.table.client, around), FakeTime(6_000))
    with pytest.raises(ServiceBusyError):
        run(busy)

    # then
    assert position(world) == index


class Killed(BaseException):
    """The end of the function's process, which no code in it can catch."""


def overdue_executions(world: World, count: int = 40) -> list[str]:
    """Executions that nobody ended, each with a task that is done."""
    names = [f"run-{number:02d}" for number in range(count)]
    for name in names:
        world.create(*some_tasks("only"), execution_id=name)
        world.report("only", execution_id=name)
    later(world)
    return names


def ended(world: World, names: list[str]) -> list[str]:
    return [name for name in names if world.status(name) is ExecutionStatus.COMPLETED]


def killing(world: World, execution_id: str) -> World:
    """The same service, which dies whenever it reads the tasks of one execution."""
    pk = keys.execution_pk(world.tenant, execution_id)

    def around(operation: str, send: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if operation == "query" and arguments["ExpressionAttributeValues"].get(":key") == {"S": keys.open_list_for(pk)}:
            raise Killed
        return send()

    return world.through(intercepted(world.table.client, around))


def test_execution_that_kills_the_function_holds_up_no_other(world: World) -> None:
    # given
    names = overdue_executions(world)
    deadly = killing(world, names[17])

    # when
    for _ in range(4):
        with suppress(Killed):
            run(deadly)

    # then
    assert ended(world, names) == names[:17] + names[18:]


def test_run_that_was_killed_once_is_made_up_for(world: World) -> None:
    # given
    names = overdue_executions(world)
    with pytest.raises(Killed):
        run(killing(world, names[17]))

    # when: to the end of the list, and once more through all of it
    for _ in range(2):
        run(world)

    # then
    assert ended(world, names) == names
    assert "interrupted" not in position(world)


def test_execution_that_raises_is_counted_and_passed_over(world: World) -> None:
    # given
    names = overdue_executions(world, 5)
    world.create(*some_tasks("only"), execution_id="spoilt")
    key = {"pk": {"S": keys.execution_pk(world.tenant, "spoilt")}, "sk": {"S": keys.EXECUTION_SK}}
    item = world.table.item(key["pk"]["S"], keys.EXECUTION_SK)
    assert item is not None
    world.table.put({name: value for name, value in item.items() if name != "updatedAt"})

    # when
    result = run(world)

    # then
    assert (result.faults, result.stuck_executions) == (1, len(names))
    assert ended(world, names) == names


def test_task_that_cannot_be_read_holds_up_no_other_of_its_execution(world: World) -> None:
    # given
    world.create(TaskDefinition("tries", retry_policy=QUICK), *some_tasks("spoilt"))
    world.report("tries", TaskStatus.FAILED, attempt=1)
    pk = keys.execution_pk(world.tenant, "nightly")
    item = world.table.item(pk, keys.task_sk("spoilt"))
    assert item is not None
    world.table.put({name: value for name, value in item.items() if name != "updatedAt"})
    names = overdue_executions(world, 5)

    # when
    result = run(world)

    # then
    assert (result.faults, result.overdue_tasks) == (1, 1)
    assert [timer.task_id for timer, _ in sent_timers(world.queue)] == ["tries"]
    assert ended(world, names) == names


def test_step_that_fails_holds_up_no_other_step(world: World) -> None:
    # given: a queue that refuses timers, and a task that waits for one that has ended
    world.create(
        TaskDefinition("tries", retry_policy=QUICK),
        TaskDefinition("first"),
        TaskDefinition("next", depends_on=("first",)),
    )
    world.report("tries", TaskStatus.FAILED, attempt=1)
    world.report("first")
    world.queue.answers["send_message_batch"] = refusal("AccessDenied")
    later(world)

    # when
    result = run(world)

    # then
    assert result.faults == 1
    assert world.task("next").status is TaskStatus.SCHEDULED


# ---------------------------------------------------------------- the list


def is_listed(world: World, execution_id: str = "nightly") -> bool:
    item = world.table.item(keys.execution_pk(world.tenant, execution_id), keys.EXECUTION_SK)
    assert item is not None
    assert (keys.DUE_KEY in item) == (keys.DUE_SORT in item)
    return keys.DUE_KEY in item


def publish(world: World, *tasks: Task) -> None:
    """Let the history have the last change of tasks, and the one before, as after their publication."""
    history = History(world.table.client, world.settings, make_backoff())
    history.put((task, change_entry(task, None)) for task in tasks)
    earlier = [replace(task, version=task.version - 1) for task in tasks if task.version > 1]
    history.put((task, change_entry(task, None)) for task in earlier)


def test_execution_is_on_the_list_until_it_is_done_and_all_its_changes_are_published(world: World) -> None:
    # given
    world.create(*some_tasks("one", "two"))
    assert is_listed(world)
    world.complete("one", "two")
    later(world, LOST_CHANGE_MS + 1)

    # when
    run(world)

    # then: it ended, but nobody heard of it yet
    assert world.status() is ExecutionStatus.COMPLETED
    assert is_listed(world)

    # when
    publish(world, *world.tasks().values())
    later(world, LOST_CHANGE_MS + 1)
    run(world)

    # then
    assert not is_listed(world)
    assert run(world) == ReconcileSummary()


def test_execution_that_was_cancelled_leaves_the_list_after_its_tasks(world: World) -> None:
    # given
    world.create(*some_tasks("one", "two"))
    world.control.cancel(world.tenant, "nightly", "enough")
    later(world, LOST_CHANGE_MS + 1)

    # when
    run(world)

    # then
    assert is_listed(world)

    # when
    publish(world, *world.tasks().values())
    later(world, LOST_CHANGE_MS + 1)
    run(world)

    # then
    assert not is_listed(world)


def test_execution_that_a_person_retries_is_on_the_list_again(world: World) -> None:
    # given
    world.create(TaskDefinition("breaks", retry_policy=ONCE))
    world.report("breaks", TaskStatus.FAILED, attempt=1)
    world.advance("breaks")
    publish(world, *world.tasks().values())
    later(world, LOST_CHANGE_MS + 1)
    run(world)
    assert not is_listed(world)

    # when
    world.reopener.retry(world.tenant, "nightly")

    # then
    assert is_listed(world)


def test_entry_of_an_execution_that_runs_again_is_not_removed(world: World) -> None:
    # given: a person's retry, in the moment in which the ended execution is taken off the list
    world.create(TaskDefinition("breaks", retry_policy=ONCE))
    world.report("breaks", TaskStatus.FAILED, attempt=1)
    world.advance("breaks")
    publish(world, *world.tasks().values())
    later(world, LOST_CHANGE_MS + 1)

    def around(operation: str, send: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if operation == "update_item" and arguments["UpdateExpression"].startswith("REMOVE dueKey"):
            world.reopener.retry(world.tenant, "nightly")
        return send()

    # when
    run(world.through(intercepted(world.table.client, around)))

    # then
    assert world.status() is ExecutionStatus.RUNNING
    assert is_listed(world)


# ---------------------------------------------------------------- changes that were never published


def published(world: World) -> list[Any]:
    details = [json.loads(entry["Detail"]) for call in world.bus.requests("put_events") for entry in call["Entries"]]
    return [(detail["taskId"], detail["status"], detail["version"]) for detail in details]


def created(world: World, task: Task) -> None:
    """Let the history have the creation of a task."""
    publish(world, replace(task, version=1))


def test_task_that_was_scheduled_and_never_announced_is_announced(world: World) -> None:
    # given
    world.create(*some_tasks("waits"))
    created(world, world.task("waits"))
    later(world, LOST_CHANGE_MS + 1)

    # when
    counts = [run(world).lost_changes for _ in range(3)]

    # then
    assert counts == [1, 0, 0]
    assert published(world) == [("waits", "SCHEDULED", 2)]


def test_change_that_the_stream_may_still_bring_is_left_to_it(world: World) -> None:
    # given: one change that is not old enough, and one before which another is missing
    world.create(*some_tasks("young", "late"))
    created(world, world.task("young"))
    later(world, LOST_CHANGE_MS)
    assert run(world).lost_changes == 0
    later(world, STREAM_MS - LOST_CHANGE_MS)

    # when
    run(world)

    # then
    assert published(world) == [("young", "SCHEDULED", 2)]

    # when: the stream has none of them any more
    later(world, 1)
    run(world)

    # then
    assert published(world) == [("young", "SCHEDULED", 2), ("late", "SCHEDULED", 2)]


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED_WITH_TERMINAL_ERROR])
def test_end_of_a_task_that_was_never_announced_is_announced(world: World, status: TaskStatus) -> None:
    # given
    world.create(TaskDefinition("only", retry_policy=ONCE))
    publish(world, world.task("only"))
    world.report("only", status, attempt=1)
    world.advance("only")
    later(world, LOST_CHANGE_MS + 1)

    # when
    run(world)

    # then
    assert published(world) == [("only", status, 3)]
    assert not is_listed(world)


def test_end_of_a_dependency_that_was_never_announced_is_announced_with_its_dependents(world: World) -> None:
    # given
    world.create(TaskDefinition("first"), TaskDefinition("next", depends_on=("first",)))
    publish(world, *world.tasks().values())
    world.report("first")
    later(world, LOST_CHANGE_MS + 1)

    # when
    run(world)

    # then
    assert published(world) == [("first", "COMPLETED", 3)]
    assert world.task("next").status is TaskStatus.SCHEDULED


def test_large_execution_is_checked_a_page_at_a_time_after_its_end(world: World) -> None:
    # given
    names = [f"task{number:03d}" for number in range(150)]
    world.create(*some_tasks(*names))
    publish(world, *world.tasks().values())
    world.report_all(names)
    world.advance(names[0])
    later(world, LOST_CHANGE_MS + 1)

    # when
    for _ in range(keys.SHARDS + 3):
        run(world, pages=1)

    # then
    assert len(published(world)) == len(set(published(world))) == len(names)
    assert not is_listed(world)


# ---------------------------------------------------------------- executions of version 0.1.0


def enlisting(world: World) -> Enlisting:
    return Enlisting(world.table.client, world.settings, world.clock, make_backoff())


def unlisted(world: World, execution_id: str) -> None:
    """Create an execution as version 0.1.0 stored it."""
    world.create(*some_tasks("only"), execution_id=execution_id)
    item = world.table.item(keys.execution_pk(world.tenant, execution_id), keys.EXECUTION_SK)
    assert item is not None
    world.table.put({name: value for name, value in item.items() if name not in (keys.DUE_KEY, keys.DUE_SORT)})


def test_running_executions_of_an_older_version_are_put_on_the_list(world: World) -> None:
    # given
    unlisted(world, "old")
    unlisted(world, "over")
    world.report("only", execution_id="over")
    world.advance("only", execution_id="over")

    # when
    first = enlisting(world).run([True] * 100)
    unlisted(world, "while the stack was updated")
    world.clock.now += UPDATE_MS
    second = enlisting(world).run([True] * 100)

    # then
    assert (first, second) == (1, 1)
    assert is_listed(world, "old")
    assert is_listed(world, "while the stack was updated")
    assert not is_listed(world, "over")


def test_passes_end_with_one_that_began_after_the_update(world: World) -> None:
    # given
    for _ in range(2):
        enlisting(world).run([True] * 100)
        world.clock.now += UPDATE_MS

    # when
    unlisted(world, "never")

    # then
    assert enlisting(world).run([True] * 100) == 0


def test_pass_is_continued_where_time_was_over(world: World) -> None:
    # given: more than one page of the index
    world.create(*some_tasks(*(f"task{number:03d}" for number in range(150))))
    for number in range(20):
        unlisted(world, f"old-{number}")

    # when
    enlisted = [enlisting(world).run([True]) for _ in range(2)]

    # then
    assert sum(enlisted) == 20


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
    monkeypatch.setattr(services, "system_clock", world.clock)
    world.create(TaskDefinition("tries", retry_policy=QUICK))
    world.report("tries", TaskStatus.FAILED, attempt=1)
    world.clock.now = NOW + OVERDUE_MS + 60_000

    # when
    messages = module.handler({}, Context(remaining_ms=15_000))

    # then
    nothing = {"looked_at": 0, "overdue_tasks": 0, "stuck_executions": 0, "lost_changes": 0, "faults": 0}
    assert messages == nothing

    # when
    messages = module.handler({}, Context(remaining_ms=60_000))

    # then
    assert messages == {**nothing, "looked_at": 2, "overdue_tasks": 1}
    assert '"OverdueTasks":[1.0]' in capsys.readouterr().out.replace(" ", "")


@pytest.mark.parametrize("stored", [{"status": {"S": "PAUSED"}, "form": {"N": "3"}}, {"form": {"N": "3"}}])
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
