"""Timers: what schedules them and what they do; the whole circle of retries and deadlines, on both emulators."""

import json
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from tasklatch.domain.execution import Execution
from tasklatch.domain.failure import FAILURE_POLICY, FailureReason
from tasklatch.domain.report import Verdict
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy, Task
from tasklatch.domain.timer import Timer, TimerKind, timer_for
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_to_item
from tasklatch.retries.timer_scheduler import timer_to_message
from tasklatch.runtime import services
from tasklatch.runtime.attempt_ids import current_attempt_id
from tasklatch.runtime.clock import format_timestamp
from tests.factories import NOW, Context, a_task, api_event, call_api, fresh_name, stored_item, stream_record
from tests.integration.emulators import Table, intercepted
from tests.workflow_helpers import FakeClient, World, refusal, sent_timers

STEADY = RetryPolicy(max_attempts=3, initial_seconds=10, multiplier=1, jitter=0)


@pytest.fixture
def world(table: Table) -> World:
    return World(table)


def given_task(world: World, status: TaskStatus, attempt: int = 1, **fields: Any) -> Task:
    """A task of a running execution."""
    given_execution(world, ExecutionStatus.RUNNING)
    fields = {"execution_id": "nightly", "retry_policy": STEADY, "updated_at": NOW} | fields
    task = a_task(status, attempt, tenant=world.tenant, **fields)
    world.table.put(stored_item(task))
    return task


def given_execution(world: World, status: ExecutionStatus) -> None:
    execution = Execution(
        tenant=world.tenant,
        execution_id="nightly",
        status=status,
        version=1,
        created_at=NOW,
        updated_at=NOW,
        definition="d",
    )
    world.table.put(execution_to_item(execution))


def given_failure(world: World, **fields: Any) -> tuple[Task, Timer]:
    """A failed attempt, and the timer for the next, with the clock at the moment at which it is due."""
    initial: dict[str, Any] = {
        "failure_reason": FailureReason.RETRYABLE_ERROR,
        "ended_at": NOW,
        "started_at": NOW - 5_000,
        **fields,
    }
    task = given_task(world, TaskStatus.FAILED, **initial)
    timer = due_timer(task)
    world.clock.now = timer.due
    return task, timer


def due_timer(task: Task) -> Timer:
    timer = timer_for(task)
    assert timer is not None
    return timer


def now_is(world: World, task: Task) -> Task:
    return world.task(task.task_id)


# ---------------------------------------------------------------- the next attempt


def test_next_attempt_is_opened_when_its_time_has_come(world: World) -> None:
    # given
    task, timer = given_failure(world, message="no luck", platform_status="x", heartbeat_at=NOW, progress=0.4)
    assert timer.due == NOW + 10_000

    # when
    result = world.timer_handler.handle(timer)

    # then
    opened = now_is(world, task)
    assert result == "opened"
    assert (opened.status, opened.attempt, opened.version) == (TaskStatus.SCHEDULED, 2, task.version + 1)
    assert opened.scheduled_at == world.clock()
    assert current_attempt_id(opened) != current_attempt_id(task)
    left_over = (opened.failure_reason, opened.message, opened.platform_status, opened.started_at, opened.ended_at)
    assert left_over == (None,) * 5
    assert (opened.heartbeat_at, opened.progress) == (None, None)


def test_timer_that_fires_often_opens_one_attempt(world: World) -> None:
    # given
    task, timer = given_failure(world)

    # when
    result = [world.timer_handler.handle(timer) for _ in range(4)]

    # then
    assert result == ["opened", "obsolete", "obsolete", "obsolete"]
    assert (now_is(world, task).attempt, now_is(world, task).version) == (2, task.version + 1)


@pytest.mark.parametrize("moment_", ["first read", "second read", "write"])
def test_two_dispatchers_at_once_open_one_attempt(world: World, moment_: str) -> None:
    # given: between one's reading and its writing, the other does all of it
    task, timer = given_failure(world)
    at = {"first read": 1, "second read": 2, "write": 3}[moment_]
    created = [0]

    def around(_operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        created[0] += 1
        if created[0] == at:
            assert world.timer_handler.handle(timer) == "opened"
        return send()

    # when
    result = world.through(intercepted(world.table.client, around)).timer_handler.handle(timer)

    # then
    assert result == "obsolete"
    assert (now_is(world, task).attempt, now_is(world, task).version) == (2, task.version + 1)


def test_success_calls_the_retry_off(world: World) -> None:
    # given
    task, timer = given_failure(world)
    assert world.report(task.task_id, attempt=1).verdict is Verdict.APPLIED

    # when
    result = world.timer_handler.handle(timer)

    # then
    assert result == "obsolete"
    assert (now_is(world, task).status, now_is(world, task).attempt) == (TaskStatus.COMPLETED, 1)


def test_success_in_the_very_moment_of_the_retry_stays(world: World) -> None:
    # given
    task, timer = given_failure(world)

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "update_item":
            world.report(task.task_id, attempt=1)
        return send()

    # when
    result = world.through(intercepted(world.table.client, around)).timer_handler.handle(timer)

    # then
    assert result == "obsolete"
    assert now_is(world, task).status is TaskStatus.COMPLETED


def test_terminal_error_in_the_very_moment_of_the_retry_stays(world: World) -> None:
    # given
    task, timer = given_failure(world)

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "update_item":
            world.report(task.task_id, TaskStatus.FAILED_WITH_TERMINAL_ERROR, attempt=1)
        return send()

    # when
    result = world.through(intercepted(world.table.client, around)).timer_handler.handle(timer)

    # then
    assert result == "obsolete"
    assert (now_is(world, task).status, now_is(world, task).attempt) == (TaskStatus.FAILED_WITH_TERMINAL_ERROR, 1)


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (TaskStatus.CANCELED, {}),
        (TaskStatus.COMPLETED_WITH_ERRORS, {}),
        (TaskStatus.FAILED_WITH_TERMINAL_ERROR, {}),
        (TaskStatus.FAILED, {"failure_reason": FailureReason.RETRYABLE_ERROR, "retry_policy": RetryPolicy(1)}),
        (TaskStatus.IN_PROGRESS, {}),
        (TaskStatus.SCHEDULED, {}),
        (TaskStatus.PENDING, {}),
    ],
)
def test_timer_of_a_task_that_is_not_to_be_retried_is_obsolete(
    world: World, status: TaskStatus, fields: dict[str, Any]
) -> None:
    # given
    task = given_task(world, status, **fields)

    # when
    result = world.timer_handler.handle(Timer(TimerKind.RETRY, world.tenant, "nightly", task.task_id, 1, NOW))

    # then
    assert result == "obsolete"
    assert now_is(world, task) == task


@pytest.mark.parametrize("status", [element for element in ExecutionStatus if element is not ExecutionStatus.RUNNING])
def test_no_attempt_is_opened_in_an_execution_that_is_over(world: World, status: ExecutionStatus) -> None:
    # given
    task, timer = given_failure(world)
    given_execution(world, status)

    # then
    assert world.timer_handler.handle(timer) == "obsolete"
    assert now_is(world, task) == task


def test_timer_of_an_older_attempt_is_obsolete(world: World) -> None:
    # given
    task, timer = given_failure(world, attempt=2)

    # then
    assert world.timer_handler.handle(replace(timer, attempt=1)) == "obsolete"
    assert now_is(world, task) == task


def test_timer_of_what_is_not_there_is_obsolete(world: World) -> None:
    assert world.timer_handler.handle(Timer(TimerKind.RETRY, world.tenant, "nightly", "nobody", 1, NOW)) == "obsolete"


def test_timer_that_fires_early_is_armed_for_the_rest(world: World) -> None:
    # given
    task, timer = given_failure(world)
    world.clock.now = timer.due - 2_500

    # when
    result = world.timer_handler.handle(timer)

    # then
    assert result == "rescheduled"
    assert sent_timers(world.queue) == [(timer, 3)]
    assert now_is(world, task) == task


# ---------------------------------------------------------------- deadlines


def given_attempt(world: World, status: TaskStatus = TaskStatus.IN_PROGRESS, **fields: Any) -> tuple[Task, Timer]:
    fields = {"scheduled_at": NOW - 1_000, "started_at": NOW} | fields
    task = given_task(world, status, **fields)
    return task, due_timer(task)


@pytest.mark.parametrize(
    ("status", "fields", "due", "why"),
    [
        (TaskStatus.SCHEDULED, {"timeout_seconds": 60}, NOW + 59_000, "no worker started it within 60 s"),
        (TaskStatus.IN_PROGRESS, {"timeout_seconds": 60}, NOW + 60_000, "it was not done within 60 s"),
        (TaskStatus.IN_PROGRESS, {"heartbeat_timeout_seconds": 30}, NOW + 30_000, "its worker was silent for 30 s"),
        (
            TaskStatus.IN_PROGRESS,
            {"heartbeat_timeout_seconds": 30, "timeout_seconds": 20, "heartbeat_at": NOW + 1},
            NOW + 20_000,
            "it was not done within 20 s",
        ),
    ],
)
def test_silent_attempt_is_timed_out(
    world: World, status: TaskStatus, fields: dict[str, Any], due: int, why: str
) -> None:
    # given
    task, timer = given_attempt(world, status, **fields)
    assert (timer.kind, timer.due) == (TimerKind.DEADLINE, due)
    world.clock.now = due

    # when
    result = [world.timer_handler.handle(timer) for _ in range(2)]

    # then
    timed_out = now_is(world, task)
    assert result == ["timed out", "obsolete"]
    assert (timed_out.status, timed_out.message, timed_out.ended_at) == (TaskStatus.TIMED_OUT, why, due)
    assert timed_out.version == task.version + 1
    decision = decide_retry(timed_out)
    assert decision is not None
    assert (decision.next_attempt, decision.not_before) == (2, due + 10_000)


def test_heartbeat_puts_the_deadline_off(world: World) -> None:
    # given
    task, timer = given_attempt(world, heartbeat_timeout_seconds=30)
    world.clock.now = NOW + 20_000
    assert world.ledger.heartbeat(world.tenant, "nightly", task.task_id, 1, 0.5).should_continue
    world.clock.now = timer.due

    # when
    result = world.timer_handler.handle(timer)

    # then
    assert result == "rescheduled"
    assert sent_timers(world.queue) == [(replace(timer, due=NOW + 50_000), 20)]

    # when: nothing more is heard
    world.clock.now = NOW + 50_000

    # then
    assert world.timer_handler.handle(timer) == "timed out"


def test_deadline_of_an_attempt_that_was_started_counts_from_its_start(world: World) -> None:
    # given
    task, timer = given_attempt(world, TaskStatus.SCHEDULED, timeout_seconds=60)
    world.clock.now = NOW + 50_000
    world.report(task.task_id, TaskStatus.IN_PROGRESS, attempt=1)
    world.clock.now = timer.due

    # then
    assert world.timer_handler.handle(timer) == "rescheduled"
    assert sent_timers(world.queue)[0][0].due == NOW + 110_000


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.FAILED_WITH_TERMINAL_ERROR])
def test_deadline_of_an_attempt_that_ended_is_obsolete(world: World, status: TaskStatus) -> None:
    # given
    task, timer = given_attempt(world, timeout_seconds=60)
    world.report(task.task_id, status, attempt=1)
    world.clock.now = timer.due
    before = now_is(world, task)

    # then
    assert world.timer_handler.handle(timer) == "obsolete"
    assert now_is(world, task) == before


def test_report_in_the_very_moment_of_the_time_out_stays(world: World) -> None:
    # given
    task, timer = given_attempt(world, timeout_seconds=60)
    world.clock.now = timer.due

    def around(operation: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if operation == "update_item":
            world.report(task.task_id, TaskStatus.FAILED, attempt=1)
        return send()

    # when
    result = world.through(intercepted(world.table.client, around)).timer_handler.handle(timer)

    # then
    assert result == "obsolete"
    assert now_is(world, task).status is TaskStatus.FAILED


def test_attempt_that_was_timed_out_can_still_succeed(world: World) -> None:
    # given
    task, timer = given_attempt(world, timeout_seconds=60)
    world.clock.now = timer.due
    world.timer_handler.handle(timer)

    # then
    assert world.report(task.task_id, attempt=1).verdict is Verdict.APPLIED
    assert now_is(world, task).status is TaskStatus.COMPLETED


# ---------------------------------------------------------------- what failures schedule


@pytest.mark.parametrize("reason", list(FailureReason))
@pytest.mark.parametrize("attempt", [1, 3])
@pytest.mark.parametrize("requested", [None, 120])
def test_worker_is_told_what_the_scheduler_arms(
    world: World,
    load: Callable[[str, Any], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    reason: FailureReason,
    attempt: int,
    requested: int | None,
) -> None:
    # given
    monkeypatch.setenv("TENANT_CLAIM", "tenant")
    monkeypatch.setenv("TIMER_QUEUE_URL", "https://queue/timers")
    policy = RetryPolicy(max_attempts=3, initial_seconds=10, multiplier=2, max_seconds=90, jitter=0.5)
    task = given_task(world, TaskStatus.IN_PROGRESS, attempt, retry_policy=policy, started_at=NOW)
    body = {"status": "FAILED", "failureReason": reason, "attempt": attempt}
    if requested is not None:
        body["retryAfterSeconds"] = requested

    # when
    reply = call_api(
        load("report_status", world.table.client).handler,
        api_event(
            "POST /v1/executions/{executionId}/tasks/{taskId}/status",
            path={"executionId": "nightly", "taskId": task.task_id},
            body=body,
            claims={"scope": "tasklatch/report", "tenant": world.tenant},
        ),
    )
    failed = now_is(world, task)
    answer = schedule_retries(world, load, monkeypatch, stream_record(failed, task))

    # then
    assert answer == {"batchItemFailures": []}
    messages = reply.body["retry"]
    scheduled = [timer for timer, _ in sent_timers(world.queue)]
    assert messages["willRetry"] is (FAILURE_POLICY[reason].retryable and attempt < 3)
    assert [format_timestamp(timer.due) for timer in scheduled] == (
        [messages["notBefore"]] if messages["willRetry"] else []
    )
    if messages["willRetry"]:
        assert messages["nextAttempt"] == attempt + 1
        assert (scheduled[0].kind, scheduled[0].attempt) == (TimerKind.RETRY, attempt)
        assert (failed.ended_at or 0) < scheduled[0].due <= (failed.ended_at or 0) + 90_000
        world.clock.now = scheduled[0].due
        assert world.timer_handler.handle(scheduled[0]) == "opened"
        assert now_is(world, task).attempt == messages["nextAttempt"]


def schedule_retries(
    world: World, load: Callable[[str, Any], ModuleType], monkeypatch: pytest.MonkeyPatch, *records: Any
) -> dict[str, Any]:
    """Let the scheduler follow records of the stream."""
    module = load("retry_scheduler", world.table.client)
    monkeypatch.setattr(services, "sqs", lambda: world.queue)
    answer: dict[str, Any] = module.handler({"Records": list(records)}, Context())
    return answer


def test_attempt_granted_by_a_person_is_not_followed_by_more(world: World) -> None:
    # given
    task = given_task(
        world,
        TaskStatus.FAILED,
        3,
        granted_attempts=3,
        retry_policy=RetryPolicy(1),
        failure_reason=FailureReason.RETRYABLE_ERROR,
    )

    # when
    world.retry_planner.plan([task])

    # then
    assert not world.queue.calls
    decision = decide_retry(task)
    assert decision is not None
    assert not decision.will_retry


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.TIMED_OUT])
@pytest.mark.parametrize("on_failure", list(OnFailure))
def test_spent_task_leaves_the_list_of_open_ones(world: World, status: TaskStatus, on_failure: OnFailure) -> None:
    # given
    task = given_task(
        world,
        status,
        3,
        on_failure=on_failure,
        message="no luck",
        failure_reason=FailureReason.RETRYABLE_ERROR if status is TaskStatus.FAILED else None,
    )

    # when
    for _ in range(3):
        world.retry_planner.plan([task])

    # then
    item = world.table.item(keys.execution_pk(world.tenant, "nightly"), keys.task_sk(task.task_id))
    assert item is not None
    assert not {keys.LIST_KEY, keys.LIST_SORT} & item.keys()
    sealed = now_is(world, task)
    if on_failure is OnFailure.ABORT:
        assert sealed == task
    else:
        assert (sealed.status, sealed.version) == (TaskStatus.COMPLETED_WITH_ERRORS, task.version + 1)
        assert sealed.message == "no luck"


def test_late_success_keeps_a_spent_task_from_being_sealed(world: World) -> None:
    # given
    task = given_task(
        world, TaskStatus.FAILED, 3, on_failure=OnFailure.CONTINUE, failure_reason=FailureReason.RETRYABLE_ERROR
    )
    world.report(task.task_id)

    # when
    world.retry_planner.plan([task])

    # then
    assert now_is(world, task).status is TaskStatus.COMPLETED


# ---------------------------------------------------------------- the handlers


def message(text: str, name: str = "") -> dict[str, Any]:
    return {"messageId": name or fresh_name(), "body": text}


def handle_messages(
    world: World, load: Callable[[str, Any], ModuleType], monkeypatch: pytest.MonkeyPatch, *records: Any
) -> dict[str, Any]:
    """Let retry_dispatcher take messages of the timer queue."""
    module = load("retry_dispatcher", world.client or world.table.client)
    monkeypatch.setattr(services, "sqs", lambda: world.queue)
    monkeypatch.setattr(services, "system_clock", world.clock)
    answer: dict[str, Any] = module.handler({"Records": list(records)}, Context())
    return answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "5",
        "null",
        "{}",
        json.dumps({"kind": "alarm", "tenant": "a", "executionId": "b", "taskId": "c", "attempt": 1, "due": 1}),
        json.dumps({"kind": "retry", "tenant": "a", "executionId": "b", "taskId": "c", "attempt": "x", "due": 1}),
        json.dumps({"kind": "retry", "tenant": 5, "executionId": "b", "taskId": "c", "attempt": 1, "due": 1}),
    ],
    ids=range(9),
)
def test_malformed_timer_is_set_aside_alone(
    world: World, load: Callable[[str, Any], ModuleType], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    # given
    task, timer = given_failure(world)
    world.queue.answers["send_message"] = {"MessageId": "1"}

    # when
    answer = handle_messages(world, load, monkeypatch, message(text, "bad"), message(timer_to_message(timer), "good"))

    # then
    assert answer == {"batchItemFailures": []}
    assert [request["MessageBody"] for request in world.queue.requests("send_message")] == [text]
    assert now_is(world, task).attempt == 2


def test_timer_that_the_table_refuses_is_reported_alone(
    world: World, load: Callable[[str, Any], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    task, timer = given_failure(world)
    refused = replace(timer, task_id="refused")

    def around(_operation: str, send: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if arguments["Key"]["sk"]["S"] == "TASK#refused":
            raise refusal("ValidationException")
        return send()

    # when
    answer = handle_messages(
        world.through(intercepted(world.table.client, around)),
        load,
        monkeypatch,
        message(timer_to_message(refused), "bad"),
        message(timer_to_message(timer), "good"),
    )

    # then
    assert answer == {"batchItemFailures": [{"itemIdentifier": "bad"}]}
    assert now_is(world, task).attempt == 2


def test_records_that_the_scheduler_cannot_read_are_set_aside_alone(
    world: World, load: Callable[[str, Any], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setenv("TIMER_QUEUE_URL", "https://queue/timers")
    task, timer = given_failure(world)
    bad = stream_record(task, number="2")
    del bad["dynamodb"]["NewImage"]["attempt"]
    bucket = FakeClient(put_object={})
    monkeypatch.setattr(services, "system_clock", world.clock)
    monkeypatch.setattr(services, "s3", lambda: bucket)

    # when
    answer = schedule_retries(world, load, monkeypatch, stream_record(task, number="1"), bad)

    # then
    assert answer == {"batchItemFailures": []}
    (stored,) = bucket.requests("put_object")
    assert json.loads(json.loads(stored["Body"])["payload"])["Records"] == [bad]
    assert [scheduled for scheduled, _ in sent_timers(world.queue)] == [timer]
