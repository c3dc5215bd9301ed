"""The local cloud's emulator delivers a stream's failed records again, as AWS does."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from ministack.services import lambda_svc, s3

from local.cloud import emulator_streams

STREAM: Final = "arn:aws:dynamodb:us-east-1:000000000000:table/ledger/stream/1"
FUNCTION: Final = {"config": {"FunctionName": "notifier"}}


def record(number: int) -> dict[str, Any]:
    return {"eventSource": "aws:dynamodb", "eventSourceARN": STREAM, "dynamodb": {"SequenceNumber": str(number)}}


def numbers(records: Sequence[dict[str, Any]]) -> list[int]:
    return [int(record["dynamodb"]["SequenceNumber"]) for record in records]


def reported(*failed: int) -> dict[str, Any]:
    return {"body": {"batchItemFailures": [{"itemIdentifier": str(number)} for number in failed]}}


class Function:
    """Function with scripted responses, and success once they are used up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *responses: dict[str, Any]) -> None:
        self.responses = list(responses)
        self.delivered: list[list[int]] = []
        self.sent_to_failures: list[list[int]] = []
        mapping = {"FunctionName": "notifier", "EventSourceArn": STREAM}
        monkeypatch.setattr(emulator_streams, "_MAX_WAIT_SECONDS", 0.0)
        monkeypatch.setattr(lambda_svc, "_execute_function", self.execute)
        monkeypatch.setattr(lambda_svc, "_iter_all_esms", lambda: [("0", "us-east-1", mapping)])
        monkeypatch.setattr(lambda_svc, "_send_ddb_stream_failure_record", self.send_to_failures)
        emulator_streams.PartialBatchFailures().install()

    def execute(self, _: Any, event: Any) -> dict[str, Any]:
        records = event.get("Records", []) if isinstance(event, dict) else []
        self.delivered.append(numbers(records) if records and "dynamodb" in records[0] else [])
        return self.responses.pop(0) if self.responses else reported()

    def send_to_failures(self, _mapping: Any, _function: Any, records: Any, *_: Any) -> None:
        self.sent_to_failures.append(numbers(records))

    def run(self, event: Any) -> dict[str, Any]:
        execute: Callable[..., dict[str, Any]] = lambda_svc._execute_function
        return execute(FUNCTION, event)


def test_batch_is_delivered_again_from_the_first_failed_record(monkeypatch: pytest.MonkeyPatch) -> None:
    function = Function(monkeypatch, reported(2, 3), {"body": json.dumps(reported(3)["body"])})

    function.run({"Records": [record(1), record(2), record(3)]})

    assert function.delivered == [[1, 2, 3], [2, 3], [3]]
    assert function.sent_to_failures == []


def test_record_that_fails_each_time_goes_to_the_failure_destination_and_the_rest_is_delivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    function = Function(monkeypatch, *[reported(1)] * 11)

    function.run({"Records": [record(1), record(2)]})

    assert function.delivered == [[1, 2]] * 11 + [[2]]
    assert function.sent_to_failures == [[1]]


def test_failed_invocation_is_left_to_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"error": True, "body": {"errorMessage": "killed"}}
    function = Function(monkeypatch, reported(1), broken)

    assert function.run({"Records": [record(1)]}) == broken
    assert function.delivered == [[1], [1]]


@pytest.mark.parametrize(
    "event",
    [
        {},
        None,
        {"Records": [record(1)], "redrive": True},
        ["x"],
        {"Records": [{"eventSource": "aws:sqs", "messageId": "1"}]},
        {"routeKey": "GET /v1/health"},
    ],
    ids=str,
)
def test_event_that_is_no_stream_batch_is_delivered_once(monkeypatch: pytest.MonkeyPatch, event: Any) -> None:
    function = Function(monkeypatch, reported(1))

    assert function.run(event) == reported(1)
    assert len(function.delivered) == 1


def test_batch_that_failed_is_stored_whole_where_the_destination_is_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    stored: list[tuple[str, str, Any]] = []
    monkeypatch.setattr(s3, "_put_object", lambda bucket, key, body, _: stored.append((bucket, key, json.loads(body))))
    monkeypatch.setattr(lambda_svc, "_send_ddb_stream_failure_record", lambda *_: None)
    emulator_streams.FailuresInBuckets().install()
    arn = "arn:aws:lambda:us-east-1:000000000000:function:notifier"
    mapping = {"UUID": "id", "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:s3:::failures"}}}
    send: Callable[..., None] = lambda_svc._send_ddb_stream_failure_record

    # when
    send(mapping, {"config": {"FunctionArn": arn}}, [record(1), record(2)], STREAM, {}, "RetryAttemptsExhausted")

    # then
    [(bucket, key, content)] = stored
    assert bucket == "failures"
    assert key.startswith("aws/lambda/id/")
    assert content["requestContext"] == {"functionArn": arn, "condition": "RetryAttemptsExhausted"}
    assert json.loads(content["payload"]) == {"Records": [record(1), record(2)]}


def test_batch_that_failed_goes_to_a_queue_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(lambda_svc, "_send_ddb_stream_failure_record", lambda *arguments: sent.append(arguments))
    emulator_streams.FailuresInBuckets().install()
    mapping = {"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:000000000000:failures"}}}
    send: Callable[..., None] = lambda_svc._send_ddb_stream_failure_record

    send(mapping, FUNCTION, [record(1)], STREAM, {}, "RetryAttemptsExhausted")

    assert sent == [(mapping, FUNCTION, [record(1)], STREAM, {}, "RetryAttemptsExhausted")]
