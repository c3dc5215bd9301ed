"""Timers: near ones in the queue, far ones on the list, none of them lost."""

import json
from collections import Counter
from dataclasses import replace
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
from tasklatch.dynamodb import keys
from tasklatch.retries.due_list import DueList
from tasklatch.retries.timer_scheduler import (
    LONGEST_DELAY_MS,
    TimerScheduler,
    timer_from_message,
    timer_to_message,
)
from tasklatch.runtime.queue_records import DeadLetters, process_records
from tests.factories import NOW, FakeTime, a_task, fixed_clock
from tests.integration.emulators import make_backoff
from tests.workflow_helpers import SETTINGS, FakeClient, a_queue, in_turn, refusal, sent_timers

TIMER = Timer(TimerKind.RETRY, "default", "nightly", "resize", 1, NOW + 2_000)


def timers(queue: FakeClient, table: FakeClient | None = None, time_left: FakeTime | None = None) -> TimerScheduler:
    queue_client: Any = queue
    table_client: Any = table or FakeClient()
    backoff = make_backoff(time_left)
    return TimerScheduler(queue_client, DueList(table_client, SETTINGS, backoff), SETTINGS, fixed_clock, backoff)


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


def test_timer_that_a_busy_queue_never_takes_is_left() -> None:
    queue = FakeClient(send_message_batch=refusal("ThrottlingException"))
    assert timers(queue, time_left=FakeTime(6_000)).schedule([due_in(1_000)]) == [due_in(1_000)]


def test_no_timers_cost_nothing() -> None:
    queue, table = a_queue(), a_table()
    timers(queue, table).schedule([])
    assert not queue.calls + table.calls


# ---------------------------------------------------------------- the list


def a_table() -> FakeClient:
    return FakeClient(update_item={})


def listed(table: FakeClient) -> list[tuple[str, str, str]]:
    """The task, the list and the due time of each entry that was put."""
    result = []
    for request in table.requests("update_item"):
        values = request["ExpressionAttributeValues"]
        result.append((request["Key"]["sk"]["S"], values[":v0"]["S"], values[":v1"]["S"]))
    return result


def test_far_timer_is_put_on_the_list_of_its_task_by_due_time() -> None:
    # given
    queue, table = a_queue(), a_table()
    far = due_in(LONGEST_DELAY_MS + 1)

    # when
    timers(queue, table).schedule([far])

    # then
    assert not queue.calls
    [(sort_key, list_key, due)] = listed(table)
    assert sort_key == "TASK#resize"
    assert list_key in {keys.timer_list(shard) for shard in range(keys.SHARDS)}
    assert due == f"{far.due:014d}"


def test_timers_are_spread_over_all_shards() -> None:
    table = a_table()
    timers(a_queue(), table).schedule([due_in(3_600_000, f"task-{number}") for number in range(400)])
    counts = Counter(list_key for _, list_key, _ in listed(table))
    assert len(counts) == keys.SHARDS
    assert max(counts.values()) < 3 * min(counts.values())


@pytest.mark.parametrize(
    ("timer", "lowest", "below"),
    [(replace(TIMER, kind=TimerKind.DEADLINE), 11, 13), (TIMER, 13, 15), (replace(TIMER, attempt=7), 73, 75)],
)
def test_far_timer_is_listed_only_while_its_attempt_is_as_it_was(timer: Timer, lowest: int, below: int) -> None:
    # given
    table = a_table()

    # when
    timers(a_queue(), table).schedule([replace(timer, due=NOW + 3_600_000)])

    # then
    [request] = table.requests("update_item")
    assert request["ConditionExpression"] == "attribute_exists(pk) AND precedence >= :v2 AND precedence < :v3"
    values = request["ExpressionAttributeValues"]
    assert (values[":v2"], values[":v3"]) == ({"N": str(lowest)}, {"N": str(below)})
    assert "version" not in request["UpdateExpression"]


def test_far_timer_of_a_task_that_moved_on_is_dropped() -> None:
    table = FakeClient(update_item=refusal("ConditionalCheckFailedException"))
    timers(a_queue(), table).schedule([due_in(3_600_000)])
    assert len(table.calls) == 1


def test_near_timers_are_sent_though_the_table_takes_no_far_one() -> None:
    # given
    queue, table = a_queue(), FakeClient(update_item=refusal("ThrottlingException"))
    near, far = due_in(1_000, "near"), due_in(3_600_000, "far")

    # when
    left = timers(queue, table, FakeTime(6_000)).schedule([far, near])

    # then
    assert sent_timers(queue) == [(near, 1)]
    assert left == [far]


def test_timers_that_the_queue_does_not_take_are_named() -> None:
    # given
    queue = FakeClient(send_message_batch={"Failed": [{"Id": "1"}]})
    first, second = due_in(1_000, "a"), due_in(1_000, "b")

    # when
    left = timers(queue, a_table(), FakeTime(6_000)).schedule([first, second])

    # then
    assert left == [second]


def test_refusal_of_the_table_is_not_swallowed() -> None:
    table = FakeClient(update_item=refusal("AccessDeniedException"))
    with pytest.raises(Exception, match="AccessDenied"):
        timers(a_queue(), table).schedule([due_in(3_600_000)])


@given(ms=st.integers(min_value=-(10**9), max_value=10**11))
def test_every_timer_goes_to_the_queue_or_the_list(ms: int) -> None:
    # given
    queue, table = a_queue(), a_table()

    # when
    timers(queue, table).schedule([due_in(ms)])

    # then
    assert len(queue.calls) + len(table.calls) == 1
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
