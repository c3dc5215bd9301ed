"""The functions that follow the table's stream, called as Lambda calls them, on both emulators."""

import json
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from tasklatch.domain.execution import Execution
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.report import Verdict
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy, Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_to_item
from tasklatch.runtime import services
from tests.factories import NOW, Context, a_task, stored_item, stream_record
from tests.integration.emulators import Table, counted_calls, intercepted
from tests.workflow_helpers import FakeClient, World, a_bus, refusal, sent_timers

ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
def world(table: Table) -> World:
    return World(table)


@pytest.fixture
def bus() -> FakeClient:
    return a_bus()


@pytest.fixture
def callback() -> FakeClient:
    return FakeClient(post_to_connection={})


@pytest.fixture
def bucket() -> FakeClient:
    return FakeClient(put_object={})


@pytest.fixture
def notify(
    world: World,
    bus: FakeClient,
    callback: FakeClient,
    bucket: FakeClient,
    load: Callable[[str, Any], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., list[str]]:
    """Hand records to the notifier; give the sequence numbers that it reports."""

    def call(*records: Any, client: Any = None, context: Any = None, **more: Any) -> list[str]:
        module = load("notifier", client or world.table.client)
        monkeypatch.setattr(services, "events", lambda: bus)
        monkeypatch.setattr(services, "live_callback", lambda _url: callback)
        monkeypatch.setattr(services, "s3", lambda: bucket)
        return reported(module.handler({"Records": list(records), **more}, context or Context()))

    return call


@pytest.fixture
def schedule(
    world: World, bucket: FakeClient, load: Callable[[str, Any], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Hand records to the retry scheduler; give the sequence numbers that it reports."""

    def call(*records: Any, client: Any = None, context: Any = None) -> list[str]:
        module = load("retry_scheduler", client or world.table.client)
        monkeypatch.setattr(services, "sqs", lambda: world.queue)
        monkeypatch.setattr(services, "s3", lambda: bucket)
        monkeypatch.setattr(services, "system_clock", world.clock)
        return reported(module.handler({"Records": list(records)}, context or Context()))

    return call


def reported(answer: Any) -> list[str]:
    assert answer.keys() == {"batchItemFailures"}
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def a_life(world: World, task_id: str = "resize") -> list[Task]:
    """The versions of a task that is created, scheduled, started, fails for good."""
    steps = [TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.IN_PROGRESS, TaskStatus.FAILED]
    return [
        a_task(
            status,
            tenant=world.tenant,
            task_id=task_id,
            version=version,
            updated_at=NOW + version,
            failure_reason=FailureReason.RETRYABLE_ERROR if status is TaskStatus.FAILED else None,
            retry_policy=ONCE,
            on_failure=OnFailure.CONTINUE,
        )
        for version, status in enumerate(steps, 1)
    ]


def records_of(versions: list[Task], first: int = 1) -> list[dict[str, Any]]:
    return [
        stream_record(new, old, number=f"{number}")
        for number, (old, new) in enumerate(zip([None, *versions], versions, strict=False), first)
    ]


def poison(number: str) -> dict[str, Any]:
    record = stream_record(a_task(), number=number)
    record["dynamodb"]["NewImage"]["status"] = {"S": "EXPLODED"}
    return record


def set_aside(bucket: FakeClient) -> list[tuple[str, list[Any]]]:
    """The functions that set records aside, and the records."""
    contents = [json.loads(request["Body"]) for request in bucket.requests("put_object")]
    return [(content["function"], json.loads(content["payload"])["Records"]) for content in contents]


def history(world: World, task_id: str = "resize") -> list[dict[str, Any]]:
    return world.table.items(keys.history_pk(world.tenant, "nightly", task_id))


def details(bus: FakeClient) -> list[Any]:
    return [json.loads(entry["Detail"]) for request in bus.requests("put_events") for entry in request["Entries"]]


def no_changes(world: World) -> list[dict[str, Any]]:
    """Records that are no change of a task or an execution."""
    task = a_task(tenant=world.tenant)
    others = []
    for sk in (
        "INPUT#resize",
        "OUTPUT#resize#1#f",
        "1#f",
        "NEXT#resize#crop",
        "WAITS#crop",
        "0000000003",
        "RECONCILER",
    ):
        record = stream_record(task, number=sk)
        record["dynamodb"]["Keys"]["sk"] = {"S": sk}
        others.append(record)
    execution = Execution(
        tenant=world.tenant,
        execution_id="nightly",
        status=ExecutionStatus.RUNNING,
        version=1,
        created_at=NOW,
        updated_at=NOW,
        definition="d",
    )
    item = execution_to_item(execution)
    addition = {
        "eventName": "MODIFY",
        "dynamodb": {
            "Keys": {name: item[name] for name in ("pk", "sk")},
            "SequenceNumber": "addition",
            "NewImage": {**item, "additions": {"N": "1"}},
            "OldImage": item,
        },
    }
    closed = stored_item(task)
    left_the_list = stream_record(task, task, number="closed")
    left_the_list["dynamodb"]["NewImage"] = {
        name: value for name, value in closed.items() if name not in (keys.LIST_KEY, keys.LIST_SORT)
    }
    return [
        *others,
        addition,
        left_the_list,
        stream_record(replace(task, heartbeat_at=NOW, progress=0.5), task, number="heartbeat"),
        stream_record(None, task, number="removed by TTL"),
    ]


# ---------------------------------------------------------------- the notifier


def test_every_change_is_in_the_history_and_on_the_bus(
    world: World, notify: Callable[..., list[str]], bus: FakeClient
) -> None:
    # when
    failed = notify(*records_of(a_life(world)))

    # then
    assert failed == []
    entries = history(world)
    assert [(entry["version"]["N"], entry["status"]["S"]) for entry in entries] == [
        ("1", "PENDING"),
        ("2", "SCHEDULED"),
        ("3", "IN_PROGRESS"),
        ("4", "FAILED"),
    ]
    assert {entry["verdict"]["S"] for entry in entries} == {Verdict.APPLIED}
    assert [detail["version"] for detail in details(bus)] == [1, 2, 3, 4]


def test_redelivery_of_any_batch_changes_nothing_in_the_table(
    world: World, notify: Callable[..., list[str]], bus: FakeClient
) -> None:
    # given
    records = records_of(a_life(world))
    notify(*records)
    before = history(world)
    messages = details(bus)

    # when
    batches = [(start, end) for start in range(4) for end in range(start + 1, 5)]
    for start, end in batches:
        assert notify(*records[start:end]) == []

    # then
    assert history(world) == before
    again = details(bus)[len(messages) :]
    assert len(again) == sum(end - start for start, end in batches)
    assert all(detail == messages[detail["version"] - 1] for detail in again)


def test_record_that_always_fails_is_set_aside_alone_and_its_neighbours_go_through_once(
    world: World, notify: Callable[..., list[str]], bus: FakeClient, bucket: FakeClient
) -> None:
    # given
    records = records_of(a_life(world))
    bad = poison("bad")

    # when
    failed = notify(*records[:2], bad, *records[2:])

    # then
    assert failed == []
    assert len(history(world)) == 4
    assert [detail["version"] for detail in details(bus)] == [1, 2, 3, 4]
    assert set_aside(bucket) == [("notifier", [bad])]


def test_change_that_cannot_be_published_is_set_aside_alone_and_its_neighbours_are_published_once(
    world: World, notify: Callable[..., list[str]], bus: FakeClient, bucket: FakeClient
) -> None:
    # given: the stored input of one task is no JSON
    ready = a_task(TaskStatus.SCHEDULED, tenant=world.tenant, task_id="odd", version=2)
    records = records_of(a_life(world))
    odd = stream_record(ready, number="odd")
    pk = keys.execution_pk(world.tenant, "nightly")
    world.table.put({"pk": {"S": pk}, "sk": {"S": keys.input_sk("odd")}, "payload": {"S": "{"}})

    # when
    failed = notify(*records[:2], odd, *records[2:])

    # then
    assert failed == []
    assert [(detail["taskId"], detail["version"]) for detail in details(bus)] == [
        ("resize", version) for version in (1, 2, 3, 4)
    ]
    assert set_aside(bucket) == [("notifier", [odd])]


def test_event_that_the_bus_refuses_for_its_content_is_set_aside(
    world: World, notify: Callable[..., list[str]], bus: FakeClient, bucket: FakeClient
) -> None:
    # given
    records = records_of(a_life(world))

    def refuse_third(Entries: Any, **_: Any) -> Any:  # noqa: N803 - AWS's own name
        versions = [json.loads(entry["Detail"])["version"] for entry in Entries]
        results = [{"ErrorCode": "MalformedDetail"} if version == 3 else {"EventId": "e"} for version in versions]
        return {"FailedEntryCount": versions.count(3), "Entries": results}

    bus.answers["put_events"] = refuse_third

    # when
    failed = notify(*records)

    # then
    assert failed == []
    assert set_aside(bucket) == [("notifier", [records[2]])]


def test_redrive_of_a_record_that_always_fails_reports_it(
    world: World, notify: Callable[..., list[str]], bucket: FakeClient
) -> None:
    records = records_of(a_life(world))

    assert notify(*records[:2], poison("bad"), redrive=True) == ["bad"]
    assert len(history(world)) == 2
    assert not bucket.calls


def test_what_is_no_change_is_ignored(
    world: World, notify: Callable[..., list[str]], bus: FakeClient, callback: FakeClient
) -> None:
    # when
    with counted_calls(world.table.client) as calls:
        failed = notify(*no_changes(world))

    # then
    assert failed == []
    assert not calls
    assert not bus.calls + callback.calls


@pytest.mark.parametrize("operation", ["batch_write_item", "batch_get_item", "query"])
def test_busy_table_reports_all_that_it_holds_up(
    world: World, notify: Callable[..., list[str]], operation: str
) -> None:
    # given
    records = records_of(a_life(world))

    def around(called: str, send: Callable[[], Any], _arguments: dict[str, Any]) -> Any:
        if called == operation:
            raise refusal("ThrottlingException")
        return send()

    # when
    busy = intercepted(world.table.client, around)
    failed = notify(*records, poison("bad"), client=busy, context=Context(remaining_ms=1_000))

    # then
    assert sorted(failed) == ["1", "2", "3", "4", "bad"]
    assert notify(*records) == []
    assert len(history(world)) == 4


def test_large_batch_is_written_25_a_call_and_published_10_a_call_none_of_one_task(
    world: World, notify: Callable[..., list[str]], bus: FakeClient
) -> None:
    # given
    lives = [a_life(world, f"task{number}") for number in range(25)]
    records = [record for number, life in enumerate(lives) for record in records_of(life, number * 4)]

    # when
    with counted_calls(world.table.client) as calls:
        failed = notify(*records)

    # then
    assert failed == []
    assert calls == {"BatchWriteItem": 4, "BatchGetItem": 1, "Query": 1}
    kwargs = [
        [json.loads(entry["Detail"])["taskId"] for entry in request["Entries"]]
        for request in bus.requests("put_events")
    ]
    assert [len(set(names)) for names in kwargs] == [10] * 8 + [5] * 4
    assert sum(map(len, kwargs)) == 100
    assert all(len(history(world, f"task{number}")) == 4 for number in range(25))


# ---------------------------------------------------------------- the retry scheduler


def test_scheduler_arms_one_timer_for_each_change_that_needs_one(
    world: World, schedule: Callable[..., list[str]], bucket: FakeClient
) -> None:
    # given
    retried = a_task(
        TaskStatus.FAILED, tenant=world.tenant, failure_reason=FailureReason.RATE_LIMITED, ended_at=NOW, version=3
    )
    limited = a_task(TaskStatus.IN_PROGRESS, tenant=world.tenant, task_id="limited", started_at=NOW, timeout_seconds=9)
    free = a_task(TaskStatus.IN_PROGRESS, tenant=world.tenant, task_id="free", started_at=NOW)
    records = [stream_record(task, number=number) for number, task in (("1", retried), ("2", limited), ("3", free))]

    # when
    bad = poison("bad")
    failed = schedule(*records, bad)

    # then
    assert failed == []
    assert set_aside(bucket) == [("retry_scheduler", [bad])]
    assert [(timer.kind.value, timer.task_id) for timer, _ in sent_timers(world.queue)] == [
        ("retry", "resize"),
        ("deadline", "limited"),
    ]


def test_scheduler_ignores_what_is_no_change(world: World, schedule: Callable[..., list[str]]) -> None:
    # when
    with counted_calls(world.table.client) as calls:
        failed = schedule(*no_changes(world))

    # then
    assert failed == []
    assert not calls
    assert not world.queue.calls


def test_redelivery_of_a_failure_for_good_seals_once(world: World, schedule: Callable[..., list[str]]) -> None:
    # given
    life = a_life(world)
    world.table.put(stored_item(life[-1]))
    record = stream_record(life[-1], life[-2])

    # when
    failed = [schedule(record) for _ in range(3)]

    # then
    assert failed == [[]] * 3
    sealed = world.task("resize")
    assert (sealed.status, sealed.version) == (TaskStatus.COMPLETED_WITH_ERRORS, 5)


def test_timers_that_cannot_be_armed_are_reported(world: World, schedule: Callable[..., list[str]]) -> None:
    # given
    world.queue.answers["send_message_batch"] = refusal("ThrottlingException")
    retried = a_task(TaskStatus.FAILED, tenant=world.tenant, failure_reason=FailureReason.RATE_LIMITED, ended_at=NOW)

    # when
    failed = schedule(stream_record(retried, number="7"), context=Context(remaining_ms=1_000))

    # then
    assert failed == ["7"]
