"""The sample worker with a fake queue and service: what it reports, when it stops, when it deletes a message."""

import json
from threading import Event
from typing import Any, cast

import boto3
import pytest

from local.api_client import ApiClient, ApiError, Reply, call_task
from local.worker import Assignment, Done, Failed, Worker, WorkQueue, sample_work

ID = "00000101-0000-8000-8000-000000000000"
SQS: Any = boto3.client("sqs", region_name="us-east-1")


class Queue:
    """An SQS client with one queue."""

    exceptions = SQS.exceptions
    refusal: Exception | None = None

    def __init__(self, *details: dict[str, Any]) -> None:
        self.waiting = [
            {"Body": json.dumps({"detail": detail}), "ReceiptHandle": str(n)} for n, detail in enumerate(details)
        ]
        self.deleted: list[str] = []
        self.hidden = 0

    def receive_message(self, **requested: Any) -> dict[str, Any]:
        initial, self.waiting = (
            self.waiting[: requested["MaxNumberOfMessages"]],
            self.waiting[requested["MaxNumberOfMessages"] :],
        )
        return {"Messages": initial} if initial else {}

    def change_message_visibility(self, **_: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.hidden += 1

    def delete_message(self, **requested: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.deleted.append(requested["ReceiptHandle"])


class Service:
    """Fake service that records each request and checks that no message was deleted before."""

    def __init__(self, queue: Queue, *, started_status: str = "IN_PROGRESS", should_continue: bool = True) -> None:
        self.queue = queue
        self.started_status = started_status
        self.should_continue = should_continue
        self.requests: list[dict[str, Any]] = []
        self.refuses: ApiError | None = None

    def request(self, client: str, method: str, *path: str, body: Any = None, query: Any = None) -> Reply:
        assert query is None
        if method == "GET":
            assert client == "reader"
            return Reply(200, {"input": {"large": True}}, {}, 1, 0.0)
        assert (client, path[:4]) == ("worker", ("executions", "night", "tasks", "expose"))
        assert not self.queue.deleted, "deleted before the last report"
        if self.refuses:
            raise self.refuses
        self.requests.append({"route": path[-1], **body})
        status = self.started_status if body.get("status") == "IN_PROGRESS" else body.get("status")
        task = {"status": status, "taskExecutionId": ID}
        return Reply(200, {"verdict": "applied", "continue": self.should_continue, "task": task}, {}, 1, 0.0)


def _detail(**more: Any) -> dict[str, Any]:
    return {"executionId": "night", "taskId": "expose", "attempt": 1, "taskExecutionId": ID, "input": {}, **more}


def _worker(queue: Queue, service: Service, work: Any, **more: Any) -> Worker:
    api = cast("ApiClient", service)
    return Worker(WorkQueue(queue, "url", api), api, work, **more)


def test_start_then_outcome_are_reported_and_the_message_is_deleted_last() -> None:
    queue = Queue(_detail())
    service = Service(queue)

    assert _worker(queue, service, lambda *_: Done({"stars": 42})).work_once()

    assert service.requests == [
        {"route": "status", "status": "IN_PROGRESS", "taskExecutionId": ID},
        {"route": "status", "status": "COMPLETED", "output": {"stars": 42}, "taskExecutionId": ID},
    ]
    assert queue.deleted == ["0"]


def test_without_a_message_nothing_is_processed() -> None:
    queue = Queue()

    assert not _worker(queue, Service(queue), lambda *_: Done()).work_once()


def test_failure_is_reported_with_reason_message_and_retry_delay() -> None:
    queue = Queue(_detail())
    service = Service(queue)

    _worker(queue, service, lambda *_: Failed("RATE_LIMITED", "slow down", 3)).work_once()

    messages = {"status": "FAILED", "failureReason": "RATE_LIMITED", "message": "slow down", "retryAfterSeconds": 3}
    assert service.requests[-1] == {"route": "status", **messages, "taskExecutionId": ID}


def test_exception_of_the_work_is_reported_as_a_retryable_failure() -> None:
    def work(*_: Any) -> Done:
        raise ZeroDivisionError("no stars")

    queue = Queue(_detail())
    service = Service(queue)

    _worker(queue, service, work).work_once()

    assert service.requests[-1]["failureReason"] == "RETRYABLE_ERROR"
    assert service.requests[-1]["message"] == "ZeroDivisionError: no stars"
    assert queue.deleted == ["0"]


@pytest.mark.parametrize("status", ["COMPLETED", "CANCELED", "FAILED"])
def test_attempt_of_a_task_that_is_no_longer_open_is_skipped(status: str) -> None:
    queue = Queue(_detail())
    service = Service(queue, started_status=status)

    _worker(queue, service, lambda *_: pytest.fail("the work was started")).work_once()

    assert [body["status"] for body in service.requests] == ["IN_PROGRESS"]
    assert queue.deleted == ["0"]


def test_attempt_that_a_newer_one_replaced_is_skipped() -> None:
    queue = Queue(_detail(taskExecutionId="00000202-0000-8000-8000-000000000000"))

    _worker(queue, Service(queue), lambda *_: pytest.fail("the work was started")).work_once()

    assert queue.deleted == ["0"]


def test_while_it_works_it_sends_heartbeats_and_keeps_the_message_hidden() -> None:
    queue = Queue(_detail())
    service = Service(queue)
    beaten = Event()

    def work(_: Assignment, canceled: Event) -> Done:
        assert beaten.wait(10)
        assert not canceled.is_set()
        return Done()

    def call(*arguments: Any, **names: Any) -> Reply:
        if arguments[-1] == "heartbeat":
            beaten.set()
        return Service.request(service, *arguments, **names)

    service.request = call  # type: ignore[method-assign]
    _worker(queue, service, work, heartbeat_seconds=0.01).work_once()

    assert {"route": "heartbeat", "taskExecutionId": ID} in service.requests
    assert queue.hidden >= 1
    assert service.requests[-1]["status"] == "COMPLETED"


def test_work_that_the_service_stops_ends_without_a_report() -> None:
    queue = Queue(_detail())
    service = Service(queue, should_continue=False)

    def work(_: Assignment, canceled: Event) -> Done:
        assert canceled.wait(10)
        return Done()

    _worker(queue, service, work, heartbeat_seconds=0.01).work_once()

    assert [body["route"] for body in service.requests] == ["status", "heartbeat"]
    assert queue.deleted == ["0"]


class BodyRoutes:
    """Fake of the routes that take a task's id in the body; it records the calls."""

    def __init__(self, problem: dict[str, Any] | None = None) -> None:
        self.problem = problem
        self.calls: list[tuple[str, tuple[str, ...], Any]] = []

    def request(self, _: str, method: str, *path: str, body: Any = None) -> Reply:
        self.calls.append((method, path, body))
        if path[-1] != "statuses":
            return Reply(200, {"continue": True, "input": {}}, {}, 1, 0.0)
        result = {"problem": self.problem, "status": 409} if self.problem else {"verdict": "applied", "task": {}}
        return Reply(200, {"results": [result]}, {}, 1, 0.0)


def test_task_whose_id_no_path_can_carry_is_named_in_bodies() -> None:
    # given
    service = BodyRoutes()
    api = cast("ApiClient", service)

    # when
    reported = call_task(api, "worker", "night", "50%", "status", {"status": "COMPLETED"})
    alive = call_task(api, "worker", "night", "50%", "heartbeat", {"attempt": 1})
    read = call_task(api, "reader", "night", "50%")

    # then
    assert (reported.body["verdict"], alive.body["continue"], read.body["input"]) == ("applied", True, {})
    names = {"taskId": "50%"}
    assert service.calls == [
        ("POST", ("executions", "night", "statuses"), {"statuses": [{**names, "status": "COMPLETED"}]}),
        ("POST", ("executions", "night", "heartbeats"), {**names, "attempt": 1}),
        ("POST", ("executions", "night", "tasks", "read"), names),
    ]


def test_refusal_of_the_only_report_of_a_batch_is_one_of_the_request() -> None:
    api = cast("ApiClient", BodyRoutes({"detail": "task '50%' not found"}))

    with pytest.raises(ApiError, match="not found") as refused:
        call_task(api, "worker", "night", "50%", "status", {"status": "COMPLETED"})

    assert refused.value.is_final


def test_an_input_that_is_too_large_for_an_event_is_read() -> None:
    queue = Queue({name: value for name, value in _detail(inputPath="/v1/x").items() if name != "input"})
    observed: list[Any] = []

    def work(assignment: Assignment, _: Event) -> Done:
        observed.append(assignment.input)
        return Done()

    _worker(queue, Service(queue), work).work_once()

    assert observed == [{"large": True}]


def test_a_refused_report_ends_the_assignment() -> None:
    queue = Queue(_detail())
    service = Service(queue)
    service.refuses = ApiError("POST", 404, {"detail": "no such task"})

    _worker(queue, service, lambda *_: pytest.fail("the work was started")).work_once()

    assert queue.deleted == ["0"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_message_stays_in_the_queue_while_the_service_is_busy(status: int) -> None:
    queue = Queue(_detail())
    service = Service(queue)
    service.refuses = ApiError("POST", status, {"detail": "busy"})
    messages: list[str] = []
    stop = Event()

    def print_text(text: str) -> None:
        messages.append(text)
        stop.set()

    _worker(queue, service, lambda *_: Done(), print_text=print_text).run(stop)

    assert queue.deleted == []
    assert "busy" in messages[0]


@pytest.mark.parametrize(
    ("requested", "attempt", "outcome"),
    [
        ({}, 3, Done({"attempt": 3})),
        ({"output": {"a": 1}}, 1, Done({"a": 1})),
        (
            {"failureReason": "RATE_LIMITED", "retryAfterSeconds": 2},
            1,
            Failed("RATE_LIMITED", "requested by the input", 2),
        ),
        ({"failureReason": "RATE_LIMITED"}, 2, Done({"attempt": 2})),
        ({"failureReason": "RATE_LIMITED", "failAttempts": 2}, 2, Failed("RATE_LIMITED", "requested by the input")),
    ],
)
def test_sample_work_ends_as_its_input_requests(
    requested: dict[str, Any], attempt: int, outcome: Done | Failed
) -> None:
    assignment = Assignment("night", "expose", attempt, ID, {"seconds": 0, **requested}, "")

    assert sample_work(assignment, Event()) == outcome


@pytest.mark.parametrize("name", ["ReceiptHandleIsInvalid", "MessageNotInflight"])
def test_message_that_is_delivered_again_is_neither_deleted_nor_hidden_by_its_old_handle(name: str) -> None:
    # given
    queue = Queue()
    queue.refusal = getattr(SQS.exceptions, name)({"Error": {"Code": name}}, "DeleteMessage")
    work_queue = WorkQueue(cast("Any", queue), "url", cast("ApiClient", None))
    assignment = Assignment("night", "fetch", 1, ID, {}, "old handle")

    # when
    work_queue.hide(assignment)
    work_queue.delete(assignment)

    # then
    assert (queue.hidden, queue.deleted) == (0, [])
