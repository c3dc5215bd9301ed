"""Timers that wait on the list in the table, and the sweep that sends them: on both emulators.

Each test has a table of its own, because a sweep goes through all of the list.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from moto import mock_aws

from tasklatch.domain.errors import ServiceBusyError
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import RetryPolicy, Task
from tasklatch.domain.timer import Timer, timer_for
from tasklatch.dynamodb import keys
from tasklatch.retries.timer_sweep import AHEAD_MS, SweepSummary
from tasklatch.runtime import services
from tasklatch.runtime.settings import Settings
from tests.factories import NOW, Context, FakeTime, a_report, a_task, fresh_name, stored_item, stream_record
from tests.integration.emulators import Table, create_table, intercepted, make_backoff
from tests.workflow_helpers import World, refusal, sent_timers

HOUR_MS = 3_600_000
PATIENT = RetryPolicy(max_attempts=3, initial_seconds=3_600, max_seconds=7_200, jitter=0)


@pytest.fixture(params=["moto", "ministack"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    name = f"ledger-{fresh_name()}"
    if request.param == "moto":
        with mock_aws():
            client = request.getfixturevalue("moto")
            create_table(client, name)
            yield World(Table(client, Settings(name, "", 90), tenant=fresh_name()))
        return
    client = request.getfixturevalue("ministack")
    create_table(client, name)
    yield World(Table(client, Settings(name, "", 90), tenant=fresh_name()))
    client.delete_table(TableName=name)


def waiting(world: World, task_id: str = "resize", **fields: Any) -> tuple[Task, Timer]:
    """A failed task whose next attempt follows in an hour, and its timer, which is on the list."""
    initial: dict[str, Any] = {
        "failure_reason": FailureReason.RETRYABLE_ERROR,
        "ended_at": NOW,
        "retry_policy": PATIENT,
        **fields,
    }
    task = a_task(TaskStatus.FAILED, tenant=world.tenant, task_id=task_id, **initial)
    world.table.put(stored_item(task))
    world.retry_planner.plan([task])
    timer = timer_for(task)
    assert timer is not None
    return task, timer


def sweep(world: World, pages: int = 1_000) -> SweepSummary:
    return world.timer_sweep.run([True] * pages)


def due_attributes(world: World, task_id: str = "resize") -> dict[str, Any]:
    item = world.table.item(keys.execution_pk(world.tenant, "nightly"), keys.task_sk(task_id))
    assert item is not None
    return {name: item[name] for name in (keys.DUE_KEY, keys.DUE_SORT) if name in item}


def soon(world: World, timer: Timer, before_ms: int = AHEAD_MS - 1_000) -> None:
    world.clock.now = timer.due - before_ms


def test_long_timer_waits_on_its_task_and_leaves_the_version_as_it_is(world: World) -> None:
    # when
    task, timer = waiting(world)

    # then
    assert due_attributes(world)[keys.DUE_SORT] == {"S": f"{timer.due:014d}"}
    assert world.task("resize") == task
    assert not world.queue.calls


def test_timer_is_not_sent_before_its_time(world: World) -> None:
    # given
    _, timer = waiting(world)
    soon(world, timer, AHEAD_MS + 1)

    # then
    assert sweep(world) == SweepSummary()
    assert due_attributes(world)
    assert not sent_timers(world.queue)


def test_timer_is_sent_some_minutes_early_once_and_taken_off_the_list(world: World) -> None:
    # given
    _, timer = waiting(world)
    soon(world, timer)

    # when
    counts = [sweep(world).sent for _ in range(3)]

    # then
    assert counts == [1, 0, 0]
    assert sent_timers(world.queue) == [(timer, (AHEAD_MS - 1_000) // 1_000)]
    assert not due_attributes(world)


def test_timer_that_no_sweep_came_for_is_sent_late(world: World) -> None:
    # given
    _, timer = waiting(world)
    soon(world, timer, -5 * HOUR_MS)

    # then
    assert sweep(world).sent == 1
    assert sent_timers(world.queue) == [(timer, 0)]


def test_every_shard_is_swept(world: World) -> None:
    # given
    timers = [waiting(world, f"task-{number}")[1] for number in range(120)]
    assert len({due_attributes(world, f"task-{n}")[keys.DUE_KEY]["S"] for n in range(120)}) == keys.SHARDS
    soon(world, timers[0])

    # when
    result = sweep(world)

    # then
    assert result.sent == len(timers)
    assert {timer for timer, _ in sent_timers(world.queue)} == set(timers)


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED_WITH_TERMINAL_ERROR])
def test_report_that_ends_the_wait_takes_the_timer_off_the_list(world: World, status: TaskStatus) -> None:
    # given
    waiting(world)

    # when
    world.ledger.record(world.tenant, "nightly", a_report(status, "resize", attempt=1), "request")

    # then
    assert not due_attributes(world)


def test_timer_is_not_listed_for_a_task_that_moved_on(world: World) -> None:
    # given
    _, timer = waiting(world)
    world.ledger.record(world.tenant, "nightly", a_report(TaskStatus.COMPLETED, "resize", attempt=1), "request")

    # when: the stream's record comes once more
    world.due_list.add(timer)

    # then
    assert not due_attributes(world)


def test_timer_of_a_task_that_is_gone_makes_no_item(world: World) -> None:
    # given
    _, timer = waiting(world)

    # when
    world.due_list.add(replace(timer, task_id="gone"))

    # then
    assert world.table.item(keys.execution_pk(world.tenant, "nightly"), keys.task_sk("gone")) is None


def given_running(world: World, **fields: Any) -> Task:
    task = a_task(
        TaskStatus.IN_PROGRESS,
        tenant=world.tenant,
        heartbeat_timeout_seconds=3_600,
        scheduled_at=NOW,
        started_at=NOW,
        **fields,
    )
    world.table.put(stored_item(task))
    world.retry_planner.plan([task])
    return task


def test_heartbeat_moves_the_timer_when_it_is_swept(world: World) -> None:
    # given
    task = given_running(world)
    world.clock.now = NOW + 3_000_000
    assert world.ledger.heartbeat(world.tenant, "nightly", task.task_id, 1, None).should_continue
    world.clock.now = NOW + HOUR_MS - 1_000

    # when
    sweep(world)

    # then
    assert not sent_timers(world.queue)
    assert due_attributes(world)[keys.DUE_SORT] == {"S": f"{NOW + 3_000_000 + HOUR_MS:014d}"}


def test_addition_to_a_running_attempt_keeps_its_timer(world: World) -> None:
    # given
    task = given_running(world)
    before = due_attributes(world)
    addition = a_report(TaskStatus.IN_PROGRESS, task.task_id, attempt=1, message="half way")

    # when
    world.ledger.record(world.tenant, "nightly", addition, "request")

    # then
    assert world.task(task.task_id).version == task.version + 1
    assert due_attributes(world) == before


def test_sweep_that_the_queue_breaks_off_is_made_up_by_the_next(world: World) -> None:
    # given
    timers = [waiting(world, f"task-{number}")[1] for number in range(40)]
    soon(world, timers[0])
    accepts = world.queue.answers["send_message_batch"]

    # when
    world.queue.answers["send_message_batch"] = refusal("ThrottlingException")
    with suppress(ServiceBusyError):
        world.through(world.table.client, FakeTime(6_000)).timer_sweep.run([True] * 100)

    # then: all are still on the list
    world.queue.answers["send_message_batch"] = accepts
    assert sweep(world).sent == len(timers)


def test_sweep_without_time_leaves_the_rest_to_the_next(world: World) -> None:
    # given
    timers = [waiting(world, f"task-{number}")[1] for number in range(60)]
    soon(world, timers[0])

    # when
    counts = [sweep(world, pages=5).sent for _ in range(4)]

    # then: what the first shards held is gone, but each sweep begins with them
    assert counts[0] > 0
    assert sum(counts) < len(timers)
    assert sum(counts) + sweep(world).sent == len(timers)


def test_sweeps_beside_each_other_send_everything_at_least_once(world: World) -> None:
    # given: another sweep between the reading and the sending of the first
    _, timer = waiting(world)
    soon(world, timer)
    swept: list[SweepSummary] = []

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        answer = send()
        if operation == "batch_get_item" and not swept:
            swept.append(sweep(world))
        return answer

    # when
    result = world.through(intercepted(world.table.client, around)).timer_sweep.run([True] * 100)

    # then
    assert (swept[0].sent, result.sent) == (1, 1)
    assert [sent for sent, _ in sent_timers(world.queue)] == [timer, timer]
    assert not due_attributes(world)


def test_entry_that_the_index_still_shows_is_passed_over(world: World) -> None:
    # given
    _, timer = waiting(world)
    soon(world, timer)
    stale: list[Any] = []

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        answer = send()
        if operation == "query" and answer["Items"]:
            stale.append(answer)
            world.ledger.record(world.tenant, "nightly", a_report(TaskStatus.COMPLETED, "resize", attempt=1), "r")
        return answer

    # when
    result = world.through(intercepted(world.table.client, around)).timer_sweep.run([True] * 100)

    # then
    assert stale
    assert result == SweepSummary()
    assert not sent_timers(world.queue)


def test_task_that_a_later_version_stored_stays_on_the_list_for_that_version(world: World) -> None:
    # given
    later = stored_item(a_task(TaskStatus.FAILED, tenant=world.tenant, task_id="later"))
    entry = {keys.DUE_KEY: {"S": keys.timer_list(3)}, keys.DUE_SORT: {"S": keys.due_sort(NOW)}}
    world.table.put({**later, **entry, "status": {"S": "EXPLODED"}})

    # when
    result = sweep(world)

    # then
    assert result == SweepSummary()
    stored = world.table.item(later["pk"]["S"], later["sk"]["S"])
    assert stored is not None
    assert keys.DUE_SORT in stored


def test_task_that_cannot_be_read_holds_back_no_other(world: World) -> None:
    # given
    timers = [waiting(world, f"task-{number}")[1] for number in range(20)]
    spoilt = stored_item(a_task(TaskStatus.FAILED, tenant=world.tenant, task_id="spoilt"))
    entry = {keys.DUE_KEY: {"S": keys.timer_list(3)}, keys.DUE_SORT: {"S": keys.due_sort(NOW)}}
    del spoilt["updatedAt"]
    world.table.put({**spoilt, **entry})
    soon(world, timers[0])

    # when
    result = sweep(world)

    # then
    assert (result.sent, result.faults) == (len(timers), 1)
    assert {timer for timer, _ in sent_timers(world.queue)} == set(timers)


def test_handler_sweeps_while_there_is_time(
    world: World,
    load: Callable[[str, Any], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # given
    monkeypatch.setenv("TABLE_NAME", world.settings.table_name)
    monkeypatch.setenv("TIMER_QUEUE_URL", world.settings.timer_queue_url)
    module = load("timer_sweeper", world.table.client)
    monkeypatch.setattr(services, "sqs", lambda: world.queue)
    monkeypatch.setattr(services, "system_clock", world.clock)
    _, timer = waiting(world)
    soon(world, timer)

    # then
    assert module.handler({}, Context(remaining_ms=10_000)) == {"sent": 0, "left": 0, "faults": 0}
    assert module.handler({}, Context(remaining_ms=60_000)) == {"sent": 1, "left": 0, "faults": 0}
    assert '"SweptTimers":[1.0]' in capsys.readouterr().out.replace(" ", "")


def test_scheduler_reports_only_the_records_whose_timers_are_left(
    world: World, load: Callable[[str, Any], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a table that takes no entry of the list
    far, _ = waiting(world, "far")
    near = replace(far, task_id="near", retry_policy=RetryPolicy(max_attempts=3, initial_seconds=5, jitter=0))

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "update_item":
            raise refusal("ThrottlingException")
        return send()

    module = load("retry_scheduler", intercepted(world.table.client, around))
    monkeypatch.setattr(services, "sqs", lambda: world.queue)
    monkeypatch.setattr(services, "system_clock", world.clock)
    monkeypatch.setattr(services, "Backoff", lambda _remaining_ms: make_backoff(FakeTime(6_000)))
    monkeypatch.setenv("TIMER_QUEUE_URL", "https://queue/timers")

    # when
    answer = module.handler(
        {"Records": [stream_record(far, number="1"), stream_record(near, number="2")]}, Context(remaining_ms=6_000)
    )

    # then
    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert [timer.task_id for timer, _ in sent_timers(world.queue)] == ["near"]
