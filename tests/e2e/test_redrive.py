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
    """Empty the dead-letter queues and the bucket: other tests send what no attempt can process."""
    for key in _objects(stack):
        stack.aws("s3").delete_object(Bucket=stack.failures_bucket, Key=key)
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


def _objects(stack: Stack) -> list[str]:
    page = stack.aws("s3").list_objects_v2(Bucket=stack.failures_bucket)
    return [item["Key"] for item in page.get("Contents", [])]


def _keep(stack: Stack, key: str, **content: Any) -> None:
    stack.aws("s3").put_object(Bucket=stack.failures_bucket, Key=key, Body=json.dumps(content).encode())


def _as_delivered(record: Any, stream: str) -> Any:
    """A record as Lambda delivers it, which has seconds for a time."""
    change = dict(record["dynamodb"])
    change["ApproximateCreationDateTime"] = change["ApproximateCreationDateTime"].timestamp()
    return {**record, "dynamodb": change, "eventSourceARN": stream}


@pytest.mark.parametrize("function", ["notifier", "retry_scheduler"])
@pytest.mark.parametrize("is_batch", [True, False])
def test_records_that_were_kept_are_sent_to_their_function(
    function: str,
    *,
    is_batch: bool,
    execution: str,
    stack: Stack,
    state_dir: StateDir,
    api: ApiClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _wait_for_changes(api, execution, 2)
    stream, _, records = _records(stack, execution)
    payload = json.dumps({"Records": [_as_delivered(record, stream) for record in records]})
    before = _changes(api, execution)
    for version in (1, 2):
        key = {"pk": {"S": f"HIST#default#{execution}#expose"}, "sk": {"S": f"{version:010d}"}}
        stack.aws("dynamodb").delete_item(TableName=stack.table_name, Key=key)
    arn = f"arn:aws:lambda:{stack.region}:000000000000:function:{stack.functions[function]}"
    if is_batch:
        _keep(stack, "aws/lambda/mapping/shard/1", requestContext={"functionArn": arn}, payload=payload)
    else:
        _keep(stack, f"records/{function}/1.json", function=function, reason="odd", payload=payload)

    status = run_redrive(state_dir, None)

    shown = capsys.readouterr().out
    assert status == 0, shown
    assert _objects(stack) == []
    assert _changes(api, execution) == (before if function == "notifier" else [])


def test_a_record_that_cannot_be_read_is_set_aside_and_stays_until_it_can(
    execution: str, stack: Stack, state_dir: StateDir, api: ApiClient, capsys: pytest.CaptureFixture[str]
) -> None:
    # given: an item that looks like a task
    key = {"pk": {"S": f"EXEC#default#{execution}-odd"}, "sk": {"S": "TASK#odd"}}
    stack.aws("dynamodb").put_item(TableName=stack.table_name, Item={**key, "version": {"N": "1"}})
    poll(lambda: _objects(stack))
    _wait_for_changes(api, execution, 2)

    # when
    status = run_redrive(state_dir, None)

    # then
    shown = " ".join(capsys.readouterr().out.split())
    [stored] = _objects(stack)
    assert stored.startswith("records/notifier/")
    assert status == 1
    assert "reported 1 of 1 records as failed" in shown
    stack.aws("s3").delete_object(Bucket=stack.failures_bucket, Key=stored)


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
