"""What one change brings about: one entry in the history, at most one event, and word only to those who watch."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tasklatch.domain.changes import Change, DetailType, ExecutionChange
from tasklatch.domain.errors import ServiceBusyError
from tasklatch.domain.execution import Execution
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.status import FINAL_STATUSES, ExecutionStatus, TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy, Task
from tasklatch.dynamodb import keys
from tasklatch.ledger.history import History
from tasklatch.ledger.payloads import Payloads
from tasklatch.notifications.broadcast import WatcherBroadcast
from tasklatch.notifications.event_bus import MAX_INPUT_BYTES, BusEvent, EventBus
from tasklatch.notifications.publisher import ChangePublisher
from tasklatch.notifications.websockets import WebSocketConnections
from tasklatch.runtime.attempt_ids import current_attempt_id
from tests.factories import NOW, FakeTime, a_task, fixed_clock
from tests.integration.emulators import make_backoff
from tests.workflow_helpers import SETTINGS, FakeClient, a_bus, in_turn, refusal

ONCE = RetryPolicy(max_attempts=1)
BEFORE = a_task(TaskStatus.IN_PROGRESS, version=3)
AFTER = a_task(TaskStatus.COMPLETED, version=4)


class Outside:
    """Everything that a publisher writes to."""

    def __init__(self, *, inputs: Sequence[dict[str, Any]] = (), watchers: Sequence[str] = (), bus: Any = None) -> None:
        self.table = FakeClient(
            batch_write_item={"UnprocessedItems": {}},
            batch_get_item={"Responses": {"ledger": list(inputs)}, "UnprocessedKeys": {}},
            query={"Items": [{"sk": {"S": name}} for name in watchers]},
            delete_item={},
        )
        self.bus = bus or a_bus()
        self.callback = FakeClient(post_to_connection={})
        self.callbacks = 0

    def publish(self, *changes: Change | ExecutionChange, time_left: FakeTime | None = None) -> None:
        backoff = make_backoff(time_left)
        table: Any = self.table
        bus: Any = self.bus
        ChangePublisher(
            History(table, SETTINGS, backoff),
            EventBus(bus, SETTINGS, backoff),
            WatcherBroadcast(WebSocketConnections(table, SETTINGS, fixed_clock, backoff), self._callback, backoff),
            Payloads(table, SETTINGS, backoff),
        ).publish(changes)

    def _callback(self) -> Any:
        self.callbacks += 1
        return self.callback

    @property
    def history(self) -> list[dict[str, Any]]:
        return [
            put["PutRequest"]["Item"]
            for request in self.table.requests("batch_write_item")
            for put in request["RequestItems"]["ledger"]
        ]

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [entry for request in self.bus.requests("put_events") for entry in request["Entries"]]

    @property
    def details(self) -> list[Any]:
        return [json.loads(entry["Detail"]) for entry in self.entries]

    @property
    def pushed(self) -> list[Any]:
        return [json.loads(request["Data"]) for request in self.callback.requests("post_to_connection")]


def an_execution(status: ExecutionStatus = ExecutionStatus.RUNNING, **fields: Any) -> Execution:
    initial: dict[str, Any] = {
        "tenant": "default",
        "execution_id": "nightly",
        "status": status,
        "version": 1,
        "created_at": NOW,
        "updated_at": NOW,
        "definition": "d",
    }
    return Execution(**(initial | fields))


def input_item(text: str, **fields: str) -> dict[str, Any]:
    return {
        "pk": {"S": keys.execution_pk("default", "nightly")},
        "sk": {"S": keys.input_sk("resize")},
        "payload": {"S": text},
        **{name: {"S": value} for name, value in fields.items()},
    }


def published_detail(task: Task, before: Task | None = BEFORE, **outside: Any) -> Any:
    """The detail of the one event that a change makes."""
    initial = Outside(**outside)
    initial.publish(Change(task, before))
    [detail] = initial.details
    return detail


# ---------------------------------------------------------------- one change


def test_change_that_the_bus_did_not_take_is_not_in_the_history() -> None:
    # given
    outside = Outside(bus=FakeClient(put_events=refusal("ThrottlingException")))

    # when
    with pytest.raises(ServiceBusyError):
        outside.publish(Change(AFTER, BEFORE), time_left=FakeTime(6_000))

    # then: an entry shows that its change was published
    assert not outside.history


def test_change_is_written_once_published_once_and_pushed_to_nobody_if_nobody_watches() -> None:
    # given
    outside = Outside()

    # when
    outside.publish(Change(AFTER, BEFORE))

    # then
    assert [name for name, _ in outside.table.calls] == ["query", "batch_write_item"]
    assert [item["sk"]["S"] for item in outside.history] == ["0000000004"]
    assert len(outside.entries) == 1
    assert outside.callbacks == 0


def test_change_is_pushed_to_each_who_watches() -> None:
    # given
    outside = Outside(watchers=["one", "two"])

    # when
    outside.publish(Change(AFTER, BEFORE))

    # then
    assert [request["ConnectionId"] for request in outside.callback.requests("post_to_connection")] == ["one", "two"]
    assert outside.pushed[0] == outside.pushed[1]
    assert (outside.pushed[0]["type"], outside.pushed[0]["version"]) == ("task.status", 4)
    assert outside.pushed[0]["status"] == "COMPLETED"


def test_same_change_again_is_the_same_entry_and_an_event_of_the_same_version() -> None:
    # given
    outside = Outside()

    # when
    for _ in range(2):
        outside.publish(Change(AFTER, BEFORE))

    # then
    assert outside.history[0] == outside.history[1]
    assert outside.entries[0] == outside.entries[1]


def test_same_change_twice_in_a_batch_is_written_once() -> None:
    # given: DynamoDB takes each key only once in a call
    outside = Outside()

    # when
    outside.publish(Change(AFTER, BEFORE), Change(AFTER, BEFORE))

    # then
    assert len(outside.history) == 1


def test_event_says_whose_task_it_is_and_what_became_of_it() -> None:
    # when
    outside = Outside()
    outside.publish(Change(replace(AFTER, message="fine", platform_status="big"), BEFORE))

    # then
    [entry] = outside.entries
    assert (entry["Source"], entry["EventBusName"]) == ("tasklatch", "bus")
    assert entry["DetailType"] == "Task Status Changed"
    assert json.loads(entry["Detail"]) == {
        "tenant": "default",
        "executionId": "nightly",
        "taskId": "resize",
        "status": "COMPLETED",
        "previousStatus": "IN_PROGRESS",
        "attempt": 1,
        "taskExecutionId": current_attempt_id(AFTER),
        "version": 4,
        "at": "2027-01-15T07:59:30.123Z",
        "settled": True,
        "message": "fine",
        "label": "big",
    }


def test_change_of_an_execution_makes_an_event_and_no_entry() -> None:
    # given
    outside = Outside(watchers=["one"])
    ended = an_execution(ExecutionStatus.TERMINATED, version=2, reason="enough")

    # when
    outside.publish(ExecutionChange(ended, an_execution()))

    # then
    assert not outside.history
    [entry] = outside.entries
    assert entry["DetailType"] == "Execution Status Changed"
    detail = json.loads(entry["Detail"])
    assert (detail["status"], detail["previousStatus"], detail["reason"]) == ("TERMINATED", "RUNNING", "enough")
    assert "taskId" not in detail
    assert outside.pushed[0]["type"] == "execution.status"


def test_watchers_receive_changes_in_order_execution_by_execution() -> None:
    # given
    outside = Outside(watchers=["one"])
    other = replace(AFTER, execution_id="weekly")

    # when
    outside.publish(Change(BEFORE, None), Change(other, None), Change(AFTER, BEFORE))

    # then
    assert [(item["executionId"], item["version"]) for item in outside.pushed] == [
        ("nightly", 3),
        ("nightly", 4),
        ("weekly", 4),
    ]
    assert len(outside.table.requests("query")) == 2


def test_publishing_nothing_makes_no_call() -> None:
    # given
    outside = Outside()

    # when
    outside.publish()

    # then
    assert not outside.table.calls
    assert not outside.bus.calls


# ---------------------------------------------------------------- a task is scheduled

SCHEDULED = a_task(TaskStatus.SCHEDULED, version=2, scheduled_at=NOW)


def test_worker_gets_a_small_input_with_the_event() -> None:
    detail = published_detail(SCHEDULED, inputs=[input_item('{"url": "é"}')])
    assert detail["input"] == {"url": "é"}
    assert "inputPath" not in detail


def test_worker_gets_the_input_with_what_it_refers_to() -> None:
    detail = published_detail(SCHEDULED, inputs=[input_item('{"url": "${a.output.b}"}', resolved='{"url": 5}')])
    assert detail["input"] == {"url": 5}


def test_task_without_input_is_given_an_empty_one() -> None:
    assert published_detail(SCHEDULED)["input"] == {}


@pytest.mark.parametrize(("over", "inline"), [(0, True), (1, False)])
def test_large_input_is_read_and_not_sent(*, over: int, inline: bool) -> None:
    # given
    text = json.dumps({"x": "y" * (MAX_INPUT_BYTES - len('{"x": ""}') + over)})
    assert len(text) == MAX_INPUT_BYTES + over

    # when
    detail = published_detail(replace(SCHEDULED, task_id="resize"), inputs=[input_item(text)])

    # then
    assert ("input" in detail) is inline
    assert detail.get("inputPath") == (None if inline else "/v1/executions/nightly/tasks/resize")


@pytest.mark.parametrize("task_id", ["50%", "a/b", "a?b"])
def test_large_input_of_a_task_that_no_path_names_is_read_with_its_id_in_the_body(task_id: str) -> None:
    # given
    item = {**input_item(json.dumps({"x": "y" * MAX_INPUT_BYTES})), "sk": {"S": keys.input_sk(task_id)}}

    # when
    detail = published_detail(replace(SCHEDULED, task_id=task_id), inputs=[item])

    # then
    assert detail["inputPath"] == "/v1/executions/nightly/tasks/read"
    assert detail["inputBody"] == {"taskId": task_id}
    assert "input" not in detail


def test_every_attempt_in_a_batch_is_given_its_input() -> None:
    # given
    outside = Outside(inputs=[input_item('{"n":1}')])
    second = replace(SCHEDULED, attempt=2, version=4)

    # when
    outside.publish(Change(SCHEDULED, None), Change(second, None))

    # then
    assert [detail["input"] for detail in outside.details] == [{"n": 1}, {"n": 1}]
    [request] = outside.table.requests("batch_get_item")
    assert len(request["RequestItems"]["ledger"]["Keys"]) == 1


def test_ten_of_the_largest_events_fit_into_one_call() -> None:
    # given: EventBridge takes 256 KB
    text = json.dumps({"x": "y" * (MAX_INPUT_BYTES - 9)})
    names = [f"task-{number}" for number in range(10)]
    outside = Outside(inputs=[{**input_item(text), "sk": {"S": keys.input_sk(name)}} for name in names])
    long = a_task(
        TaskStatus.SCHEDULED, message="\U0001f600" * 1024, platform_status="\U0001f600" * 255, retry_after_seconds=1
    )

    # when
    outside.publish(*(Change(replace(long, task_id=name), None) for name in names))

    # then
    [request] = outside.bus.requests("put_events")
    assert sum(len(entry["Detail"].encode()) for entry in request["Entries"]) < 256 * 1024 - 10 * 200


# ---------------------------------------------------------------- settled and attention


def gave_up_for(status: TaskStatus, *, spent: bool) -> bool:
    return status is TaskStatus.FAILED_WITH_TERMINAL_ERROR or (
        spent and status in (TaskStatus.FAILED, TaskStatus.TIMED_OUT)
    )


@pytest.mark.parametrize("status", list(TaskStatus))
@pytest.mark.parametrize("on_failure", list(OnFailure))
@pytest.mark.parametrize("spent", [False, True])
def test_settled_says_whether_anything_more_is_awaited(
    status: TaskStatus, on_failure: OnFailure, *, spent: bool
) -> None:
    # given
    policy = ONCE if spent else RetryPolicy()
    reason = FailureReason.RETRYABLE_ERROR if status is TaskStatus.FAILED else None
    task = a_task(status, on_failure=on_failure, retry_policy=policy, failure_reason=reason)

    # when
    detail = published_detail(task)

    # then
    sealed = status in FINAL_STATUSES - {TaskStatus.FAILED_WITH_TERMINAL_ERROR}
    retries_exhausted = gave_up_for(status, spent=spent)
    assert detail["settled"] is (sealed or (retries_exhausted and on_failure is OnFailure.ABORT))


@pytest.mark.parametrize("reason", list(FailureReason))
def test_failures_that_only_an_administrator_can_mend_ask_for_attention(reason: FailureReason) -> None:
    # given
    outside = Outside()
    needs = {FailureReason.UNAUTHORIZED, FailureReason.AUTH_TOKEN_EXPIRED, FailureReason.AUTH_TOKEN_REVOKED}

    # when
    outside.publish(Change(a_task(TaskStatus.FAILED_WITH_TERMINAL_ERROR, failure_reason=reason), BEFORE))

    # then
    [entry] = outside.entries
    detail = json.loads(entry["Detail"])
    assert entry["DetailType"] == (
        DetailType.TASK_NEEDS_ATTENTION if reason in needs else DetailType.TASK_STATUS_CHANGED
    )
    assert ("needsAttention" in detail) is (reason in needs)
    assert (detail["failureReason"], detail["willRetry"]) == (reason, False)


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.TIMED_OUT])
@pytest.mark.parametrize("spent", [False, True])
def test_spent_retries_ask_for_attention(status: TaskStatus, *, spent: bool) -> None:
    # given
    outside = Outside()
    reason = FailureReason.RETRYABLE_ERROR if status is TaskStatus.FAILED else None
    task = a_task(status, failure_reason=reason, ended_at=NOW, retry_policy=ONCE if spent else RetryPolicy())

    # when
    outside.publish(Change(task, BEFORE))

    # then
    [entry] = outside.entries
    detail = json.loads(entry["Detail"])
    assert (entry["DetailType"] == "Task Needs Attention") is spent
    assert detail["willRetry"] is not spent
    assert ("notBefore" in detail) is not spent


@pytest.mark.parametrize(
    ("status", "detail_type"),
    [(status, DetailType.TASK_STATUS_CHANGED) for status in sorted(FINAL_STATUSES)]
    + [(TaskStatus.SCHEDULED, DetailType.TASK_SCHEDULED)],
)
def test_other_changes_have_their_topic(status: TaskStatus, detail_type: DetailType) -> None:
    outside = Outside()
    outside.publish(Change(a_task(status), BEFORE))
    assert [entry["DetailType"] for entry in outside.entries] == [detail_type]


# ---------------------------------------------------------------- the bus


def events(count: int, *, of_tasks: int = 1_000) -> list[BusEvent]:
    return [
        BusEvent(
            DetailType.TASK_SCHEDULED, {"executionId": "nightly", "taskId": f"task-{number % of_tasks}", "n": number}
        )
        for number in range(count)
    ]


def published(bus: FakeClient) -> list[list[int]]:
    return [
        [json.loads(entry["Detail"])["n"] for entry in request["Entries"]] for request in bus.requests("put_events")
    ]


def event_bus(client: FakeClient, time_left: FakeTime | None = None) -> EventBus:
    initial: Any = client
    return EventBus(initial, SETTINGS, make_backoff(time_left))


@pytest.mark.parametrize(("count", "calls"), [(0, []), (1, [1]), (10, [10]), (11, [10, 1]), (25, [10, 10, 5])])
def test_ten_events_go_with_a_call(count: int, calls: list[int]) -> None:
    bus = a_bus()
    event_bus(bus).publish(events(count))
    assert [len(some) for some in published(bus)] == calls


def test_events_about_one_task_reach_the_bus_in_order_though_it_refuses_the_first() -> None:
    # given: a bus that refuses the first of what it is sent first
    refused = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}, {"EventId": "e"}]}
    taken = {"FailedEntryCount": 0, "Entries": [{"EventId": "e"}]}
    bus = FakeClient(put_events=in_turn(refused, taken, {"FailedEntryCount": 0, "Entries": [{}, {}]}))

    # when: two events of each of two tasks
    event_bus(bus).publish(events(4, of_tasks=2))

    # then: no later event of a task is sent before the bus accepted the first
    assert published(bus) == [[0, 1], [0], [2, 3]]


def test_events_that_the_bus_did_not_take_are_sent_again_and_no_others() -> None:
    # given
    failed = {"ErrorCode": "ThrottlingException", "ErrorMessage": "no"}
    taken = {"EventId": "e"}
    bus = FakeClient(
        put_events=in_turn(
            {"FailedEntryCount": 2, "Entries": [taken, failed, taken, failed]},
            refusal("ThrottlingException"),
            {"FailedEntryCount": 1, "Entries": [failed, taken]},
            {"FailedEntryCount": 0, "Entries": [taken]},
        )
    )

    # when
    event_bus(bus).publish(events(4))

    # then
    assert published(bus) == [[0, 1, 2, 3], [1, 3], [1, 3], [1]]


def test_bus_that_never_takes_an_event_is_busy() -> None:
    # given
    bus = FakeClient(put_events={"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure"}]})

    # then
    with pytest.raises(ServiceBusyError):
        event_bus(bus, FakeTime(6_000)).publish(events(1))


def test_event_that_the_bus_rejects_is_reported_before_watchers_are_notified() -> None:
    # given
    bus = FakeClient(put_events={"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure"}]})
    outside = Outside(bus=bus, watchers=["one"])

    # then
    with pytest.raises(ServiceBusyError):
        outside.publish(Change(AFTER, BEFORE), time_left=FakeTime(6_000))
    assert not outside.pushed
