"""The redrive of dead-letter queues: what is redriven, what stays, and the notes about it."""

import io
import json
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.redrive import (
    BUCKET,
    NOT_REDRIVABLE,
    SOURCE_QUEUES,
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


class Bucket:
    """An S3 client with one bucket, whose pages hold two objects."""

    def __init__(self, **objects: Any) -> None:
        self.objects = {
            key: content if isinstance(content, bytes) else json.dumps(content).encode()
            for key, content in objects.items()
        }

    def list_objects_v2(self, **requested: Any) -> dict[str, Any]:
        assert requested["Bucket"] == "failures"
        names = sorted(name for name in self.objects if name > requested.get("ContinuationToken", ""))
        page = {"Contents": [{"Key": name} for name in names[:2]], "IsTruncated": len(names) > 2}
        return page | ({"NextContinuationToken": names[1]} if len(names) > 2 else {})

    def get_object(self, **requested: Any) -> dict[str, Any]:
        return {"Body": io.BytesIO(self.objects[requested["Key"]])}

    def put_object(self, **requested: Any) -> None:
        self.objects[requested["Key"]] = requested["Body"]

    def delete_object(self, **requested: Any) -> None:
        del self.objects[requested["Key"]]


class Functions:
    """A Lambda client."""

    def __init__(self, answer: Any = None, *, error: str | None = None) -> None:
        self.answer = answer
        self.error = error
        self.invoked: list[tuple[str, list[Any]]] = []
        self.events: list[Any] = []

    def invoke(self, **requested: Any) -> dict[str, Any]:
        self.events.append(json.loads(requested["Payload"]))
        self.invoked.append((requested["FunctionName"], self.events[-1]["Records"]))
        body = {"Payload": io.BytesIO(json.dumps(self.answer or {"batchItemFailures": []}).encode())}
        return {**body, "FunctionError": self.error} if self.error else body

    @staticmethod
    def refuse() -> dict[str, Any]:
        failures = [{"itemIdentifier": f"{1:021d}"}]
        return {"Payload": io.BytesIO(json.dumps({"batchItemFailures": failures}).encode())}


def _record(number: int) -> dict[str, Any]:
    change = {
        "ApproximateCreationDateTime": 1768690680.0,
        "Keys": {"pk": {"S": "EXEC#default#night"}, "sk": {"S": "TASK#expose"}},
        "SequenceNumber": f"{number:021d}",
    }
    return {"eventID": str(number), "eventName": "MODIFY", "eventSourceARN": STREAM, "dynamodb": change}


def _batch(*numbers: int, function: str = "Notifier", payload: Any = None) -> dict[str, Any]:
    """A batch that grew too old, as Lambda stores it."""
    arn = f"arn:aws:lambda:eu-north-1:123456789012:function:{function}"
    return {
        "requestContext": {"functionArn": arn, "condition": "RecordAgeExceeded"},
        "DDBStreamBatchInfo": {"streamArn": STREAM, "batchSize": len(numbers)},
        "payload": payload or json.dumps({"Records": [_record(number) for number in numbers]}),
    }


def _single(number: int, function: str = "notifier") -> dict[str, Any]:
    """A record that a function set aside."""
    payload = json.dumps({"Records": [_record(number)]})
    return {"version": "1.0", "function": function, "reason": "ValueError: odd", "payload": payload}


def _redriven(
    queues: Queues | None = None, bucket: Bucket | None = None, functions: Functions | None = None
) -> dict[str, RedriveResult]:
    names = [*SOURCE_QUEUES, *SOURCE_QUEUES.values(), *NOT_REDRIVABLE]
    context = RedriveContext(
        sqs=queues or Queues(),
        s3=bucket or Bucket(),
        functions=functions or Functions(),
        queue_urls={name: name for name in names},
        bucket="failures",
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
    ("content", "function"),
    [
        (_batch(2, 3), "Notifier"),
        (_batch(2, 3, function="RetryScheduler:live"), "RetryScheduler"),
        (_batch(payload={"Records": [_record(2), _record(3)]}), "Notifier"),
    ],
)
def test_records_of_a_batch_are_sent_to_the_function_and_the_object_is_deleted(content: Any, function: str) -> None:
    bucket, functions = Bucket(object=content), Functions()

    done = _redriven(bucket=bucket, functions=functions)[BUCKET]

    assert done == RedriveResult(BUCKET, 1, 1, [])
    assert functions.invoked == [(function, [_record(2), _record(3)])]
    assert bucket.objects == {}


def test_objects_are_redriven_in_the_order_of_the_stream() -> None:
    bucket = Bucket(a=_batch(7, 8), b=_single(5), c=_batch(10, function="RetryScheduler"), d=_single(2), e=_batch(3, 4))
    functions = Functions()

    assert _redriven(bucket=bucket, functions=functions)[BUCKET] == RedriveResult(BUCKET, 5, 5, [])
    sent = [int(record["eventID"]) for _, records in functions.invoked for record in records]
    assert sent == [2, 3, 4, 5, 7, 8, 10]


def test_redrive_says_that_it_is_one() -> None:
    functions = Functions()

    _redriven(bucket=Bucket(object=_single(1)), functions=functions)

    assert functions.events == [{"Records": [_record(1)], "redrive": True}]


def test_many_records_are_sent_in_batches_of_a_hundred() -> None:
    functions = Functions()

    _redriven(bucket=Bucket(object=_batch(*range(1, 251))), functions=functions)

    assert [len(records) for _, records in functions.invoked] == [100, 100, 50]


def test_large_records_are_sent_in_calls_that_lambda_takes() -> None:
    large = [_record(number) | {"padding": "x" * 2_000_000} for number in (1, 2, 3)]
    functions = Functions()

    _redriven(bucket=Bucket(object=_batch(payload={"Records": large})), functions=functions)

    assert [len(records) for _, records in functions.invoked] == [2, 1]


@pytest.mark.parametrize(
    ("content", "functions", "words"),
    [
        (b"no object of ours", Functions(), "does not hold records"),
        ({"payload": "{}"}, Functions(), "does not hold records"),
        (_batch(), Functions(), "does not hold records"),
        (_batch(1, function="Stranger"), Functions(), "does not hold records"),
        (_single(1, function="stranger"), Functions(), "does not hold records"),
        (_batch(1), Functions({"errorMessage": "boom"}, error="Unhandled"), "failed: boom"),
        (
            _batch(1),
            Functions({"batchItemFailures": [{"itemIdentifier": f"{1:021d}"}]}),
            "reported 1 of 1 records as failed",
        ),
    ],
)
def test_object_that_cannot_be_redriven_stays_with_a_note(content: Any, functions: Functions, words: str) -> None:
    bucket = Bucket(object=content)

    done = _redriven(bucket=bucket, functions=functions)[BUCKET]

    assert (done.depth, done.redriven) == (1, 0)
    assert words in done.notes[0]
    assert set(bucket.objects) == {"object"}


def test_records_that_fail_stay_in_their_object_without_the_others() -> None:
    failing = Functions({"batchItemFailures": [{"itemIdentifier": f"{2:021d}"}]})
    bucket = Bucket(object=_batch(1, 2, 3))

    done = _redriven(bucket=bucket, functions=failing)[BUCKET]
    again = Functions()
    assert _redriven(bucket=bucket, functions=again)[BUCKET] == RedriveResult(BUCKET, 1, 1, [])

    assert (done.depth, done.redriven) == (1, 0)
    assert again.invoked == [("Notifier", [_record(2)])]


def test_object_that_stays_holds_up_no_other() -> None:
    class Some(Functions):
        def invoke(self, **requested: Any) -> dict[str, Any]:
            answer = super().invoke(**requested)
            return self.refuse() if self.invoked[-1][1] == [_record(1)] else answer

    bucket = Bucket(a=_single(1), b=_single(2), c=b"?")

    done = _redriven(bucket=bucket, functions=Some())[BUCKET]

    assert (done.depth, done.redriven, len(done.notes)) == (3, 1, 2)
    assert set(bucket.objects) == {"a", "c"}


def test_other_errors_of_aws_end_the_redrive() -> None:
    class Closed(Bucket):
        def get_object(self, **_: Any) -> dict[str, Any]:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "GetObject")

    with pytest.raises(ClientError):
        _redriven(bucket=Closed(object=_single(1)))


@pytest.mark.parametrize("name", NOT_REDRIVABLE)
def test_queue_that_cannot_be_redriven_is_counted(name: str) -> None:
    assert _redriven(Queues(**{name: ["one"]}))[name] == RedriveResult(name, 1, 0, [NOT_REDRIVABLE[name]])


def test_on_aws_queues_and_functions_are_those_of_the_stack() -> None:
    class CloudFormation:
        def describe_stacks(self, **requested: Any) -> dict[str, Any]:
            assert requested == {"StackName": "night"}
            outputs = [("TimerFailuresUrl", "https://timers"), ("TableName", "t"), ("StreamFailuresBucket", "failures")]
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
    assert context.bucket == "failures"
    clients = (context.sqs, context.s3, context.functions)
    assert all(isinstance(client, RetryingClient) for client in clients)
    assert [client._client.service for client in clients] == ["sqs", "s3", "lambda"]
