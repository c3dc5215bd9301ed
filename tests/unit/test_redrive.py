"""The redrive of dead-letter queues: what is redriven, what stays, and the notes about it."""

import io
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.redrive import (
    NOT_REDRIVABLE,
    SOURCE_QUEUES,
    STREAM_FUNCTIONS,
    RedriveContext,
    RedriveResult,
    aws_context,
    redrive,
)
from local.retrying_client import RetryingClient

STREAM = "arn:aws:dynamodb:eu-north-1:123456789012:table/t/stream/2026-01-10T08:00:00.000"


class Queues:
    """An SQS client."""

    def __init__(self, **messages: list[str]) -> None:
        self.messages = {name: list(bodies) for name, bodies in messages.items()}
        self.hidden: dict[str, list[str]] = {}
        self.refused: set[str] = set()

    def get_queue_attributes(self, **requested: Any) -> dict[str, Any]:
        return {"Attributes": {"ApproximateNumberOfMessages": str(len(self.messages.get(requested["QueueUrl"], [])))}}

    def receive_message(self, **requested: Any) -> dict[str, Any]:
        waiting = self.messages.get(requested["QueueUrl"], [])
        initial, waiting[:] = waiting[: requested["MaxNumberOfMessages"]], waiting[requested["MaxNumberOfMessages"] :]
        self.hidden.setdefault(requested["QueueUrl"], []).extend(initial)
        return {"Messages": [{"Body": body, "ReceiptHandle": body} for body in initial]} if initial else {}

    def send_message_batch(self, **requested: Any) -> dict[str, Any]:
        answer: dict[str, Any] = {"Successful": [], "Failed": []}
        for entry in requested["Entries"]:
            if entry["MessageBody"] in self.refused:
                answer["Failed"].append({"Id": entry["Id"], "Code": "InternalError", "Message": "later"})
            else:
                self.messages.setdefault(requested["QueueUrl"], []).append(entry["MessageBody"])
                answer["Successful"].append({"Id": entry["Id"]})
        return answer

    def delete_message(self, **requested: Any) -> None:
        self.hidden[requested["QueueUrl"]].remove(requested["ReceiptHandle"])


class Stream:
    """A DynamoDB streams client with one shard, whose pages hold two records; every other page is empty."""

    def __init__(self, *records: dict[str, Any], error: str | None = None) -> None:
        self.records = records
        self.error = error

    def get_shard_iterator(self, **requested: Any) -> dict[str, Any]:
        if self.error:
            raise ClientError({"Error": {"Code": self.error, "Message": ""}}, "GetShardIterator")
        numbers = [record["dynamodb"]["SequenceNumber"] for record in self.records]
        assert requested["ShardIteratorType"] == "AT_SEQUENCE_NUMBER"
        return {"ShardIterator": f"{numbers.index(requested['SequenceNumber'])}/empty"}

    def get_records(self, **requested: Any) -> dict[str, Any]:
        context, _, kind = requested["ShardIterator"].partition("/")
        if kind == "empty":
            return {"Records": [], "NextShardIterator": f"{context}/full"}
        start = int(context)
        return {"Records": list(self.records[start : start + 2]), "NextShardIterator": f"{start + 2}/empty"}


class Functions:
    """A Lambda client."""

    def __init__(self, answer: Any = None, *, error: str | None = None) -> None:
        self.answer = answer
        self.error = error
        self.invoked: list[tuple[str, list[Any]]] = []

    def invoke(self, **requested: Any) -> dict[str, Any]:
        self.invoked.append((requested["FunctionName"], json.loads(requested["Payload"])["Records"]))
        body = {"Payload": io.BytesIO(json.dumps(self.answer or {"batchItemFailures": []}).encode())}
        return {**body, "FunctionError": self.error} if self.error else body


def _record(number: int, sk: str = "TASK#expose", event: str = "MODIFY") -> dict[str, Any]:
    change = {
        "ApproximateCreationDateTime": datetime(2026, 1, 17, 22, 58, tzinfo=UTC),
        "Keys": {"pk": {"S": "EXEC#default#night"}, "sk": {"S": sk}},
        "SequenceNumber": f"{number:021d}",
    }
    return {"eventID": str(number), "eventName": event, "dynamodb": change}


def _failure_message(first: int, last: int) -> str:
    batch = {"streamArn": STREAM, "shardId": "shardId-1"}
    batch |= {"startSequenceNumber": f"{first:021d}", "endSequenceNumber": f"{last:021d}"}
    return json.dumps({"DDBStreamBatchInfo": batch})


def _redriven(
    queues: Queues, stream: Stream | None = None, functions: Functions | None = None
) -> dict[str, RedriveResult]:
    names = [*SOURCE_QUEUES, *SOURCE_QUEUES.values(), *STREAM_FUNCTIONS, *NOT_REDRIVABLE]
    context = RedriveContext(
        sqs=queues,
        streams=stream or Stream(),
        functions=functions or Functions(),
        queue_urls={name: name for name in names},
        function_names={"notifier": "Notifier", "retry_scheduler": "RetryScheduler"},
    )
    return {result.queue: result for result in redrive(context)}


@pytest.mark.parametrize(("source", "target"), SOURCE_QUEUES.items())
def test_messages_return_to_their_source_queue(source: str, target: str) -> None:
    bodies = [f"timer {number}" for number in range(23)]
    queues = Queues(**{source: bodies})

    done = _redriven(queues)[source]

    assert done == RedriveResult(source, 23, 23, [])
    assert sorted(queues.messages[target]) == sorted(bodies)
    assert queues.messages[source] == queues.hidden[source] == []


def test_message_that_was_not_sent_is_not_deleted() -> None:
    queues = Queues(TimerFailures=["one", "two"])
    queues.refused = {"one"}

    done = _redriven(queues)["TimerFailures"]

    assert (done.depth, done.redriven) == (2, 1)
    assert "InternalError" in done.notes[0]
    assert queues.hidden["TimerFailures"] == ["one"]


def test_message_that_fails_again_meanwhile_is_not_received_a_second_time() -> None:
    class Again(Queues):
        def send_message_batch(self, **requested: Any) -> dict[str, Any]:
            self.messages["TimerFailures"] += [entry["MessageBody"] for entry in requested["Entries"]]
            return super().send_message_batch(**requested)

    queues = Again(TimerFailures=["one", "two", "three"])

    assert _redriven(queues)["TimerFailures"].redriven == 3
    assert len(queues.messages["TimerFailures"]) == 3


@pytest.mark.parametrize(
    ("source", "function"), [("NotifierFailures", "Notifier"), ("RetrySchedulerFailures", "RetryScheduler")]
)
def test_changes_of_a_batch_are_read_and_sent_to_the_function(source: str, function: str) -> None:
    queues = Queues(**{source: [_failure_message(2, 6)]})
    others = [_record(3, "INPUT#expose"), _record(5, event="REMOVE")]
    stream = Stream(_record(1), _record(2), others[0], _record(4, "EXEC"), others[1], _record(6), _record(7))
    functions = Functions()

    done = _redriven(queues, stream, functions)[source]

    assert done == RedriveResult(source, 1, 1, [])
    ((called, records),) = functions.invoked
    assert called == function
    assert [record["eventID"] for record in records] == ["2", "4", "6"]
    assert {record["eventSourceARN"] for record in records} == {STREAM}
    assert records[0]["dynamodb"]["ApproximateCreationDateTime"] == 1768690680.0
    assert queues.hidden[source] == []


def test_many_changes_are_sent_in_batches_of_a_hundred() -> None:
    functions = Functions()
    stream = Stream(*(_record(number) for number in range(1, 251)))

    _redriven(Queues(NotifierFailures=[_failure_message(1, 250)]), stream, functions)

    assert [len(records) for _, records in functions.invoked] == [100, 100, 50]


@pytest.mark.parametrize(
    ("body", "stream", "functions", "words"),
    [
        (_failure_message(1, 1), Stream(error="TrimmedDataAccessException"), Functions(), "have expired"),
        (_failure_message(1, 1), Stream(error="ResourceNotFoundException"), Functions(), "have expired"),
        ("no message of Lambda's", Stream(), Functions(), "has no position"),
        (_failure_message(1, 9), Stream(_record(1)), Functions(), "was not in the stream"),
        (
            _failure_message(1, 1),
            Stream(_record(1)),
            Functions({"errorMessage": "boom"}, error="Unhandled"),
            "failed: boom",
        ),
        (
            _failure_message(1, 1),
            Stream(_record(1)),
            Functions({"batchItemFailures": [{"itemIdentifier": "1"}]}),
            "reported 1 of 1 records as failed",
        ),
    ],
)
def test_message_that_cannot_be_redriven_stays_with_a_note(
    body: str, stream: Stream, functions: Functions, words: str
) -> None:
    queues = Queues(NotifierFailures=[body])

    done = _redriven(queues, stream, functions)["NotifierFailures"]

    assert (done.depth, done.redriven) == (1, 0)
    assert words in done.notes[0]
    assert queues.hidden["NotifierFailures"] == [body]


def test_other_errors_of_aws_end_the_redrive() -> None:
    with pytest.raises(ClientError):
        _redriven(Queues(NotifierFailures=[_failure_message(1, 1)]), Stream(error="AccessDeniedException"))


@pytest.mark.parametrize("name", NOT_REDRIVABLE)
def test_queue_that_cannot_be_redriven_is_counted(name: str) -> None:
    assert _redriven(Queues(**{name: ["one"]}))[name] == RedriveResult(name, 1, 0, [NOT_REDRIVABLE[name]])


def test_on_aws_queues_and_functions_are_those_of_the_stack() -> None:
    class CloudFormation:
        def describe_stacks(self, **requested: Any) -> dict[str, Any]:
            assert requested == {"StackName": "night"}
            outputs = [("TimerFailuresUrl", "https://timers"), ("TableName", "t")]
            return {"Stacks": [{"Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs]}]}

        def get_paginator(self, operation: str) -> Any:
            assert operation == "list_stack_resources"
            return self

        def paginate(self, **_: Any) -> list[dict[str, Any]]:
            functions = [("RetrySchedulerFunction", "night-rs"), ("NotifierFunction", "night-n")]
            kinds = [
                {"ResourceType": "AWS::Lambda::Function", "LogicalResourceId": a, "PhysicalResourceId": b}
                for a, b in functions
            ]
            table = {"ResourceType": "AWS::DynamoDB::Table", "LogicalResourceId": "T", "PhysicalResourceId": "t"}
            return [{"StackResourceSummaries": [kinds[0], table]}, {"StackResourceSummaries": [kinds[1]]}]

    class Session:
        def client(self, service: str) -> Any:
            return CloudFormation() if service == "cloudformation" else SimpleNamespace(service=service)

    context = aws_context("night", Session())

    assert context.queue_urls == {"TimerFailures": "https://timers"}
    assert context.function_names == {"retry_scheduler": "night-rs", "notifier": "night-n"}
    clients = (context.sqs, context.streams, context.functions)
    assert all(isinstance(client, RetryingClient) for client in clients)
    assert [client._client.service for client in clients] == ["sqs", "dynamodbstreams", "lambda"]
