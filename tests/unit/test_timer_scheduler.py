"""Timers: near ones in the queue, far ones with the scheduler, none of them lost."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasklatch.domain.deadline import next_deadline
from tasklatch.domain.errors import NotFoundError, ServiceBusyError
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.overdue import OVERDUE_MS, is_overdue
from tasklatch.domain.status import FAILURES, TaskStatus
from tasklatch.domain.task import RetryPolicy, Task
from tasklatch.domain.timer import Timer, TimerKind, timer_for
from tasklatch.retries.timer_scheduler import LONGEST_DELAY_MS, TimerScheduler, timer_from_message, timer_to_message
from tasklatch.runtime.queue_records import DeadLetters, process_records
from tests.factories import NOW, FakeTime, a_task, fixed_clock
from tests.integration.emulators import make_backoff
from tests.workflow_helpers import SETTINGS, FakeClient, a_queue, a_scheduler, in_turn, refusal, sent_timers

TIMER = Timer(TimerKind.RETRY, "default", "nightly", "resize", 1, NOW + 2_000)


def timers(queue: FakeClient, scheduler: FakeClient | None = None, time_left: FakeTime | None = None) -> TimerScheduler:
    queue_client: Any = queue
    scheduler_client: Any = scheduler or FakeClient()
    return TimerScheduler(queue_client, scheduler_client, SETTINGS, fixed_clock, make_backoff(time_left))


def dead_letters(queue: FakeClient) -> DeadLetters:
    client: Any = queue
    return DeadLetters(lambda: client, "https://queue/failures", make_backoff())


def due_in(ms: int, task_id: str = "resize") -> Timer:
    return replace(TIMER, due=NOW + ms, task_id=task_id)


# ---------------------------------------------------------------- the queue


@pytest.mark.parametrize(
    ("ms", "seconds"),
    [(-5_000, 0), (0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (2_500, 3), (899_001, 900), (900_000, 900)],
)
def test_near_timer_is_held_back_by_the_queue_and_never_fires_early(ms: int, seconds: int) -> None:
    queue = a_queue()
    timers(queue).schedule([due_in(ms)])
    assert sent_timers(queue) == [(due_in(ms), seconds)]
    assert queue.calls[0][1]["QueueUrl"] == SETTINGS.timer_queue_url


def test_ten_timers_go_with_a_call() -> None:
    # given
    queue = a_queue()
    many = [due_in(1_000, f"task{number}") for number in range(23)]

    # when
    timers(queue).schedule(many)

    # then
    assert [len(request["Entries"]) for request in queue.requests("send_message_batch")] == [10, 10, 3]
    assert [timer for timer, _ in sent_timers(queue)] == many
    for request in queue.requests("send_message_batch"):
        names = [entry["Id"] for entry in request["Entries"]]
        assert len(set(names)) == len(names)


def test_timers_that_the_queue_did_not_take_are_sent_again_and_no_others() -> None:
    # given
    queue = FakeClient(
        send_message_batch=in_turn(
            {"Failed": [{"Id": "1", "Code": "InternalError", "SenderFault": False}]},
            refusal("ThrottlingException"),
            {"Successful": []},
        )
    )
    first, second = due_in(1_000, "a"), due_in(1_000, "b")

    # when
    timers(queue).schedule([first, second])

    # then
    assert [timer for timer, _ in sent_timers(queue)] == [first, second, second, second]


def test_queue_that_never_takes_a_timer_is_busy() -> None:
    queue = FakeClient(send_message_batch={"Failed": [{"Id": "0"}]})
    with pytest.raises(ServiceBusyError):
        timers(queue, time_left=FakeTime(6_000)).schedule([due_in(1_000)])


def test_no_timers_cost_nothing() -> None:
    queue, scheduler = a_queue(), a_scheduler()
    timers(queue, scheduler).schedule([])
    assert not queue.calls + scheduler.calls


# ---------------------------------------------------------------- the scheduler


def test_far_timer_is_scheduled_five_minutes_early_into_the_queue() -> None:
    # given
    queue, scheduler = a_queue(), a_scheduler()
    far = due_in(LONGEST_DELAY_MS + 1)

    # when
    timers(queue, scheduler).schedule([far])

    # then
    assert not queue.calls
    [request] = scheduler.requests("create_schedule")
    at = datetime.fromtimestamp((far.due - 300_000) / 1000, UTC)
    assert request["ScheduleExpression"] == f"at({at:%Y-%m-%dT%H:%M:%S})"
    assert request["GroupName"] == "group"
    assert request["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert request["ActionAfterCompletion"] == "DELETE"
    assert timer_from_message(request["Target"].pop("Input")) == far
    assert request["Target"] == {"Arn": "arn:timers", "RoleArn": "arn:role"}


def test_same_timer_is_the_same_schedule_and_any_other_is_another() -> None:
    # given
    scheduler = a_scheduler()
    far = due_in(3_600_000)
    others = [
        replace(far, attempt=2),
        replace(far, due=far.due + 1),
        replace(far, task_id="x"),
        replace(far, execution_id="x"),
        replace(far, tenant="x"),
        replace(far, kind=TimerKind.DEADLINE),
    ]

    # when
    timers(a_queue(), scheduler).schedule([far, far, *others])

    # then
    names = [request["Name"] for request in scheduler.requests("create_schedule")]
    assert names[0] == names[1]
    assert len(set(names)) == 1 + len(others)
    assert all(len(name) <= 64 and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in names)


def test_timer_that_is_scheduled_already_is_fine() -> None:
    scheduler = FakeClient(create_schedule=in_turn(refusal("ConflictException"), {}))
    timers(a_queue(), scheduler).schedule([due_in(3_600_000), due_in(3_600_001)])
    assert len(scheduler.calls) == 2


def test_busy_scheduler_is_called_again() -> None:
    scheduler = FakeClient(create_schedule=in_turn(refusal("ThrottlingException"), {}))
    timers(a_queue(), scheduler).schedule([due_in(3_600_000)])
    assert len(scheduler.calls) == 2


def test_refusal_of_the_scheduler_is_not_swallowed() -> None:
    scheduler = FakeClient(create_schedule=refusal("AccessDeniedException"))
    with pytest.raises(Exception, match="AccessDenied"):
        timers(a_queue(), scheduler).schedule([due_in(3_600_000)])


@given(ms=st.integers(min_value=-(10**9), max_value=10**11))
def test_every_timer_goes_to_the_queue_or_the_scheduler(ms: int) -> None:
    # given
    queue, scheduler = a_queue(), a_scheduler()

    # when
    timers(queue, scheduler).schedule([due_in(ms)])

    # then
    assert len(queue.calls) + len(scheduler.calls) == 1
    for _, delay in sent_timers(queue):
        assert 0 <= delay <= 900


# ---------------------------------------------------------------- the message

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(
    timer=st.builds(
        Timer,
        kind=st.sampled_from(TimerKind),
        tenant=NAMES,
        execution_id=NAMES,
        task_id=NAMES,
        attempt=st.integers(1, 2**24),
        due=st.integers(0, 2**53),
    )
)
def test_timer_survives_its_message(timer: Timer) -> None:
    assert timer_from_message(timer_to_message(timer)) == timer


@pytest.mark.parametrize("field", ["kind", "tenant", "executionId", "taskId", "attempt", "due"])
def test_message_that_lacks_something_is_no_timer(field: str) -> None:
    message = json.loads(timer_to_message(TIMER))
    del message[field]
    with pytest.raises(KeyError):
        timer_from_message(json.dumps(message))


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("task", "x"),
        ServiceBusyError("x"),
        refusal("ValidationException"),
    ],
)
def test_message_that_another_try_may_serve_comes_again_without_its_neighbours(error: Exception) -> None:
    # given
    queue = FakeClient()
    handled: list[str] = []

    def take(text: str) -> None:
        if text == "bad":
            raise error
        handled.append(text)

    # when
    answer = process_records(
        [{"messageId": text, "body": text} for text in ("first", "bad", "last")], take, dead_letters(queue)
    )

    # then
    assert handled == ["first", "last"]
    assert answer == {"batchItemFailures": [{"itemIdentifier": "bad"}]}
    assert not queue.calls


POISON: Final = (
    KeyError("x"),
    ValueError("\0ä\n"),
    TypeError(),
    AttributeError(),
    RecursionError("deep"),
    MemoryError(),
)


def serve_poison(queue: FakeClient, error: Exception) -> Any:
    """Serve three messages, of which the second raises an error."""

    def take(text: str) -> None:
        if text == "bad":
            raise error

    return process_records(
        [{"messageId": text, "body": text} for text in ("first", "bad", "last")], take, dead_letters(queue)
    )


@pytest.mark.parametrize("error", POISON, ids=[type(error).__name__ for error in POISON])
def test_message_that_can_never_be_processed_goes_to_the_dead_letter_queue_with_its_reason(error: Exception) -> None:
    # given
    queue = FakeClient(send_message={"MessageId": "1"})

    # when
    answer = serve_poison(queue, error)

    # then
    assert answer == {"batchItemFailures": []}
    (request,) = queue.requests("send_message")
    assert (request["QueueUrl"], request["MessageBody"]) == ("https://queue/failures", "bad")
    reason = request["MessageAttributes"]["reason"]["StringValue"]
    assert reason.startswith(type(error).__name__)
    assert reason.isprintable()
    assert reason.isascii()


@pytest.mark.parametrize("error", [refusal("RequestThrottled"), refusal("AccessDenied")])
def test_message_that_the_dead_letter_queue_rejects_is_delivered_again(error: Exception) -> None:
    queue = FakeClient(send_message=error)
    assert serve_poison(queue, KeyError("x")) == {"batchItemFailures": [{"itemIdentifier": "bad"}]}


# ---------------------------------------------------------------- which timer a task needs


@pytest.mark.parametrize("status", [status for status in TaskStatus if status not in FAILURES])
def test_task_without_limits_needs_no_timer(status: TaskStatus) -> None:
    assert timer_for(a_task(status, started_at=NOW, scheduled_at=NOW)) is None


@pytest.mark.parametrize(
    "status",
    [
        TaskStatus.PENDING,
        TaskStatus.COMPLETED,
        TaskStatus.CANCELED,
        TaskStatus.SKIPPED,
        TaskStatus.COMPLETED_WITH_ERRORS,
    ],
)
def test_attempt_that_is_not_under_way_has_no_deadline(status: TaskStatus) -> None:
    task = a_task(status, started_at=NOW, scheduled_at=NOW, timeout_seconds=1, heartbeat_timeout_seconds=1)
    assert next_deadline(task) is None


def running(**fields: Any) -> Task:
    return a_task(TaskStatus.IN_PROGRESS, scheduled_at=NOW - 9_000, started_at=NOW, **fields)


@pytest.mark.parametrize(
    ("task", "due"),
    [
        (running(timeout_seconds=60), 60_000),
        (running(heartbeat_timeout_seconds=20), 20_000),
        (running(heartbeat_timeout_seconds=20, heartbeat_at=NOW - 5_000), 20_000),
        (running(heartbeat_timeout_seconds=20, heartbeat_at=NOW + 5_000), 25_000),
        (running(heartbeat_timeout_seconds=20, heartbeat_at=NOW + 50_000, timeout_seconds=60), 60_000),
        (a_task(TaskStatus.SCHEDULED, scheduled_at=NOW, timeout_seconds=5, heartbeat_timeout_seconds=1), 5_000),
        (a_task(TaskStatus.SCHEDULED, scheduled_at=NOW, heartbeat_timeout_seconds=1), None),
    ],
)
def test_deadline_is_the_first_of_those_that_hold(task: Task, due: int | None) -> None:
    deadline = next_deadline(task)
    assert (deadline.due - NOW if deadline else None) == due


def failed(attempt: int = 1, **fields: Any) -> Task:
    initial = {"failure_reason": FailureReason.RETRYABLE_ERROR, "ended_at": NOW, "updated_at": NOW} | fields
    policy = RetryPolicy(max_attempts=2, initial_seconds=10, jitter=0)
    return a_task(TaskStatus.FAILED, attempt, retry_policy=policy, **initial)


def test_failure_needs_a_timer_until_its_attempts_are_spent() -> None:
    assert timer_for(failed()) == Timer(TimerKind.RETRY, "default", "nightly", "resize", 1, NOW + 10_000)
    assert timer_for(failed(2)) is None
    assert timer_for(failed(2, granted_attempts=3)) is not None


@pytest.mark.parametrize(
    ("task", "due"),
    [
        (failed(), NOW + 10_000),
        (failed(2), NOW),
        (a_task(TaskStatus.FAILED_WITH_TERMINAL_ERROR, updated_at=NOW), NOW),
        (running(timeout_seconds=60), NOW + 60_000),
    ],
)
def test_thing_is_overdue_only_when_it_is_late_for_good(task: Task, due: int) -> None:
    assert not is_overdue(task, due + OVERDUE_MS)
    assert is_overdue(task, due + OVERDUE_MS + 1)


def test_task_that_nothing_is_due_of_is_never_overdue() -> None:
    assert not is_overdue(running(), NOW * 2)
