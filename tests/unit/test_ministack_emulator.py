"""What the local cloud's emulator does that the plain one does not: a stream's failed records come again, as on AWS."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from ministack.services import lambda_svc

from local.cloud import ministack_emulator

STREAM: Final = "arn:aws:dynamodb:us-east-1:000000000000:table/ledger/stream/1"
FUNCTION: Final = {"config": {"FunctionName": "notifier"}}


def record(number: int) -> dict[str, Any]:
    return {"eventSource": "aws:dynamodb", "eventSourceARN": STREAM, "dynamodb": {"SequenceNumber": str(number)}}


def numbers(records: Sequence[dict[str, Any]]) -> list[int]:
    return [int(record["dynamodb"]["SequenceNumber"]) for record in records]


def reported(*failed: int) -> dict[str, Any]:
    return {"body": {"batchItemFailures": [{"itemIdentifier": str(number)} for number in failed]}}


class Function:
    """A function that answers as it is told, and with success when nothing is left to tell."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.handed_over: list[list[int]] = []
        self.set_aside: list[list[int]] = []
        mapping = {"FunctionName": "notifier", "EventSourceArn": STREAM}
        monkeypatch.setattr(ministack_emulator, "_LONGEST_WAIT", 0.0)
        monkeypatch.setattr(lambda_svc, "_execute_function", self.execute)
        monkeypatch.setattr(lambda_svc, "_iter_all_esms", lambda: [("0", "us-east-1", mapping)])
        monkeypatch.setattr(lambda_svc, "_send_ddb_stream_failure_record", self.send_to_failures)
        ministack_emulator.redeliver_reported_records()

    def execute(self, _: Any, event: Any) -> dict[str, Any]:
        records = event.get("Records", []) if isinstance(event, dict) else []
        self.handed_over.append(numbers(records) if records and "dynamodb" in records[0] else [])
        return self.answers.pop(0) if self.answers else reported()

    def send_to_failures(self, _mapping: Any, _function: Any, records: Any, *_: Any) -> None:
        self.set_aside.append(numbers(records))

    def run(self, event: Any) -> dict[str, Any]:
        execute: Callable[..., dict[str, Any]] = lambda_svc._execute_function
        return execute(FUNCTION, event)


def test_batch_comes_again_from_the_first_record_that_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    function = Function(monkeypatch, reported(2, 3), {"body": json.dumps(reported(3)["body"])})

    function.run({"Records": [record(1), record(2), record(3)]})

    assert function.handed_over == [[1, 2, 3], [2, 3], [3]]
    assert function.set_aside == []


def test_record_that_fails_each_time_is_set_aside_and_what_is_behind_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    function = Function(monkeypatch, *[reported(1)] * 11)

    function.run({"Records": [record(1), record(2)]})

    assert function.handed_over == [[1, 2]] * 11 + [[2]]
    assert function.set_aside == [[1]]


def test_invocation_that_broke_off_is_left_to_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"error": True, "body": {"errorMessage": "killed"}}
    function = Function(monkeypatch, reported(1), broken)

    assert function.run({"Records": [record(1)]}) == broken
    assert function.handed_over == [[1], [1]]


@pytest.mark.parametrize(
    "event",
    [{}, None, ["x"], {"Records": [{"eventSource": "aws:sqs", "messageId": "1"}]}, {"routeKey": "GET /v1/health"}],
    ids=str,
)
def test_what_is_no_stream_is_handed_over_once(monkeypatch: pytest.MonkeyPatch, event: Any) -> None:
    function = Function(monkeypatch, reported(1))

    assert function.run(event) == reported(1)
    assert len(function.handed_over) == 1
