"""What becomes of a batch of the stream: records that fail by themselves are set aside, all else goes its way."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tasklatch.domain.changes import Change
from tasklatch.domain.errors import ServiceBusyError
from tasklatch.domain.status import TaskStatus
from tasklatch.notifications.set_aside import SetAsideRecords
from tasklatch.notifications.stream import AnyChange
from tasklatch.notifications.stream_consumer import StreamConsumer
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.observability import metrics
from tests.factories import FakeTime, a_task, stream_record
from tests.workflow_helpers import FakeClient, refusal

Batch = list[int]


def records(*versions: int) -> list[dict[str, Any]]:
    return [stream_record(a_task(version=version), number=f"{version}") for version in versions]


def unreadable(number: str) -> dict[str, Any]:
    record = stream_record(a_task(), number=number)
    record["dynamodb"]["NewImage"]["status"] = {"S": "EXPLODED"}
    return record


class Consumer:
    """Consumer whose function fails as a test says, on a bucket that records its requests."""

    def __init__(
        self,
        fail: Callable[[Batch], Exception | None] = lambda _: None,
        bucket_error: Any = None,
        left_undone: Sequence[int] = (),
    ) -> None:
        self._left_undone = set(left_undone)
        self.batches: list[Batch] = []
        self.processed: Batch = []
        self.bucket = FakeClient(put_object=bucket_error or {})
        self._fail = fail
        time_left = FakeTime()
        backoff = Backoff(time_left.remaining_ms, time_left.sleep)
        client: Any = self.bucket
        self._consumer = StreamConsumer(self.process, SetAsideRecords(lambda: client, "failures", "notifier", backoff))

    def process(self, changes: Sequence[AnyChange]) -> list[AnyChange]:
        versions = [change.task.version for change in changes if isinstance(change, Change)]
        self.batches.append(versions)
        error = self._fail(versions)
        if error is not None:
            raise error
        self.processed += [version for version in versions if version not in self._left_undone]
        return [change for change in changes if isinstance(change, Change) and change.task.version in self._left_undone]

    def consume(self, *batch: dict[str, Any], **more: Any) -> list[str]:
        answer = self._consumer.consume({"Records": list(batch), **more})
        return [str(failure["itemIdentifier"]) for failure in answer["batchItemFailures"]]

    def stored(self) -> list[dict[str, Any]]:
        return [json.loads(request["Body"]) for request in self.bucket.requests("put_object")]


def poisonous(*versions: int, error: Exception | None = None) -> Callable[[Batch], Exception | None]:
    """Fail for each batch that holds one of these versions."""
    return lambda batch: (error or ValueError("odd")) if set(batch) & set(versions) else None


def test_record_that_cannot_be_parsed_is_set_aside_and_its_neighbours_are_processed_once() -> None:
    consumer = Consumer()
    odd = unreadable("3")

    failed = consumer.consume(*records(1, 2), odd, *records(4))

    assert failed == []
    assert consumer.batches == [[1, 2, 4]]
    [stored] = consumer.stored()
    assert json.loads(stored["payload"]) == {"Records": [odd]}
    assert stored["function"] == "notifier"
    assert stored["reason"].startswith("ValueError: ")


def test_change_that_fails_by_itself_is_set_aside_and_its_neighbours_are_processed_once() -> None:
    consumer = Consumer(poisonous(2))
    batch = records(1, 2, 3)

    failed = consumer.consume(*batch)

    assert failed == []
    assert consumer.processed == [1, 3]
    assert [json.loads(stored["payload"])["Records"] for stored in consumer.stored()] == [[batch[1]]]


def test_change_that_a_service_refuses_for_its_content_is_set_aside() -> None:
    consumer = Consumer(poisonous(2, error=refusal("ValidationException")))

    assert consumer.consume(*records(1, 2, 3)) == []
    assert consumer.processed == [1, 3]
    assert [stored["reason"] for stored in consumer.stored()] == [
        "ClientError: An error occurred (ValidationException) when calling the Any operation: no"
    ]


def test_busy_service_makes_all_changes_come_again_and_none_is_set_aside() -> None:
    consumer = Consumer(lambda _: ServiceBusyError("busy"))

    assert consumer.consume(*records(1, 2, 3)) == ["1", "2", "3"]
    assert consumer.batches == [[1, 2, 3]]
    assert consumer.stored() == []


def test_busy_service_after_a_change_that_fails_by_itself_makes_those_behind_it_come_again() -> None:
    def fail(batch: Batch) -> Exception | None:
        if batch == [3]:
            return ServiceBusyError("busy")
        return poisonous(1)(batch)

    consumer = Consumer(fail)

    assert consumer.consume(*records(1, 2, 3, 4)) == ["3", "4"]
    assert consumer.processed == [2]
    assert len(consumer.stored()) == 1


def test_changes_that_a_busy_service_left_undone_come_again_alone() -> None:
    consumer = Consumer(left_undone=[2, 3])

    assert consumer.consume(*records(1, 2, 3, 4)) == ["2", "3"]
    assert consumer.batches == [[1, 2, 3, 4]]
    assert consumer.stored() == []


def test_changes_left_undone_beside_one_that_fails_by_itself_come_again_without_it() -> None:
    consumer = Consumer(poisonous(1), left_undone=[3])

    assert consumer.consume(*records(1, 2, 3, 4)) == ["3"]
    assert consumer.processed == [2, 4]
    assert len(consumer.stored()) == 1


def test_service_that_refuses_everything_fails_the_batch_and_nothing_is_set_aside() -> None:
    consumer = Consumer(lambda _: refusal("AccessDeniedException"))

    with pytest.raises(ClientError, match="AccessDenied"):
        consumer.consume(*records(1, 2), unreadable("3"))
    assert consumer.stored() == []


@pytest.mark.parametrize("code", ["SlowDown", "AccessDenied"])
def test_record_that_cannot_be_set_aside_comes_again(code: str) -> None:
    consumer = Consumer(bucket_error=refusal(code))

    assert consumer.consume(*records(1), unreadable("2")) == ["2"]
    assert consumer.processed == [1]


def test_record_that_is_set_aside_again_is_stored_once() -> None:
    consumer = Consumer()

    odd = unreadable("1")
    for _ in range(2):
        consumer.consume(odd)
    consumer.consume(unreadable("2"))

    keys = [request["Key"] for request in consumer.bucket.requests("put_object")]
    assert keys[0] == keys[1] != keys[2]
    assert all(key.startswith("records/notifier/") for key in keys)


def test_redrive_returns_what_still_fails_instead_of_setting_it_aside() -> None:
    consumer = Consumer(poisonous(2))

    assert consumer.consume(*records(1, 2, 3), unreadable("4"), redrive=True) == ["4", "2"]
    assert consumer.processed == [1, 3]
    assert consumer.stored() == []


def test_records_that_are_set_aside_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Any] = []
    monkeypatch.setattr(metrics, "add_metric", lambda *arguments: counted.append(arguments))

    Consumer().consume(*records(1), unreadable("2"), unreadable("3"))
    Consumer().consume(*records(1))

    assert [(name, value) for name, _, value in counted] == [("RecordsSetAside", 2)]


def test_batch_is_processed_at_once_however_many_records_are_no_change() -> None:
    consumer = Consumer()
    heartbeat = stream_record(a_task(TaskStatus.IN_PROGRESS), a_task(TaskStatus.IN_PROGRESS), number="2")

    assert consumer.consume(*records(1), heartbeat, *records(3)) == []
    assert consumer.batches == [[1, 3]]
