"""The local cloud's emulator delivers a stream's failed records again, as AWS does."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from ministack.services import lambda_svc

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
    [{}, None, ["x"], {"Records": [{"eventSource": "aws:sqs", "messageId": "1"}]}, {"routeKey": "GET /v1/health"}],
    ids=str,
)
def test_event_that_is_no_stream_batch_is_delivered_once(monkeypatch: pytest.MonkeyPatch, event: Any) -> None:
    function = Function(monkeypatch, reported(1))

    assert function.run(event) == reported(1)
    assert len(function.delivered) == 1
