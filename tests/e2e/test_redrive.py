"""What was set aside is sent on in the local cloud, and what it stands for is done."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from local.api_client import ApiClient
from local.cloud.stack import Stack, StateDir
from local.redrive import run_redrive
from tests.polling import poll

Entry = dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def empty_queues(stack: Stack) -> None:
    """Purge the dead-letter queues: other tests send messages that no attempt can process."""
    sqs = stack.aws("sqs")
    for name, url in stack.queues.items():
        if name.endswith("Failures"):
            sqs.purge_queue(QueueUrl=url)


@pytest.fixture
def api(stack: Stack) -> Iterator[ApiClient]:
    with ApiClient(stack) as api:
        yield api


@pytest.fixture
def execution(api: ApiClient) -> str:
    name = f"demo-{uuid4()}"
    body = {"executionId": name, "tasks": [{"taskId": "expose", "timeoutSeconds": 3600}]}
    api.request("operator", "POST", "executions", body=body)
    return name


def _changes(api: ApiClient, execution: str) -> list[Entry]:
    return list(api.paginate("reader", "executions", execution, "tasks", "expose", "history"))


def _wait_for_changes(api: ApiClient, execution: str, number: int) -> None:
    poll(lambda: len(_changes(api, execution)) >= number)


def _records(stack: Stack, execution: str) -> tuple[str, str, list[Any]]:
    """The stream, its shard, and what is in it of the task."""
    streams = stack.aws("dynamodbstreams")
    arn = streams.list_streams(TableName=stack.table_name)["Streams"][0]["StreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    requested = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
    iterator = streams.get_shard_iterator(**requested)["ShardIterator"]
    result: list[Any] = []
    while iterator:
        answer = streams.get_records(ShardIterator=iterator)
        if not answer["Records"]:
            break
        result += answer["Records"]
        iterator = answer.get("NextShardIterator")
    key = {"S": f"EXEC#default#{execution}"}, {"S": "TASK#expose"}
    ours = [item for item in result if (item["dynamodb"]["Keys"]["pk"], item["dynamodb"]["Keys"]["sk"]) == key]
    return arn, shard["ShardId"], ours


def _set_aside(stack: Stack, queue: str, message: Any) -> None:
    stack.aws("sqs").send_message(QueueUrl=stack.queues[queue], MessageBody=json.dumps(message))


def _depth(stack: Stack, queue: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    sqs = stack.aws("sqs")
    existing = sqs.get_queue_attributes(QueueUrl=stack.queues[queue], AttributeNames=names)["Attributes"]
    return sum(int(value) for value in existing.values())


@pytest.mark.parametrize("queue", ["NotifierFailures", "RetrySchedulerFailures"])
def test_changes_that_were_set_aside_are_read_again(
    queue: str, execution: str, stack: Stack, state_dir: StateDir, api: ApiClient, capsys: pytest.CaptureFixture[str]
) -> None:
    _wait_for_changes(api, execution, 2)
    stream, shard, records = _records(stack, execution)
    numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
    before = _changes(api, execution)
    for version in (1, 2):
        key = {"pk": {"S": f"HIST#default#{execution}#expose"}, "sk": {"S": f"{version:010d}"}}
        stack.aws("dynamodb").delete_item(TableName=stack.table_name, Key=key)
    batch = {"streamArn": stream, "shardId": shard, "batchSize": len(records)}
    batch |= {"startSequenceNumber": numbers[0], "endSequenceNumber": numbers[-1]}
    _set_aside(stack, queue, {"version": "1.0", "DDBStreamBatchInfo": batch})

    status = run_redrive(state_dir, None)

    assert status == 0, capsys.readouterr().out
    assert _depth(stack, queue) == 0
    assert _changes(api, execution) == (before if queue == "NotifierFailures" else [])


def test_a_timer_that_was_set_aside_goes_back_to_its_queue(
    execution: str, stack: Stack, state_dir: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    timer = {"kind": "retry", "tenant": "default", "executionId": execution, "taskId": "expose", "attempt": 1, "due": 1}
    _set_aside(stack, "TimerFailures", timer)

    status = run_redrive(state_dir, None)

    shown = capsys.readouterr().out
    assert status == 0, shown
    (line,) = (line.split() for line in shown.splitlines() if "TimerFailures" in line)
    assert line == ["TimerFailures", "1", "1"]
    assert _depth(stack, "TimerFailures") == 0


def test_changes_that_the_stream_no_longer_has_stay_and_are_reported(
    stack: Stack, state_dir: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    streams = stack.aws("dynamodbstreams")
    arn = streams.list_streams(TableName=stack.table_name)["Streams"][0]["StreamArn"]
    batch = {"streamArn": arn, "shardId": "shardId-00000000000000000000-00000000"}
    batch |= {"startSequenceNumber": "1".zfill(21), "endSequenceNumber": "2".zfill(21)}
    _set_aside(stack, "NotifierFailures", {"DDBStreamBatchInfo": batch})

    status = run_redrive(state_dir, None)

    shown = " ".join(capsys.readouterr().out.split())
    assert status == 1
    assert "have expired" in shown
    assert _depth(stack, "NotifierFailures") == 1
    stack.aws("sqs").purge_queue(QueueUrl=stack.queues["NotifierFailures"])
