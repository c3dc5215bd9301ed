"""Redrive of the dead-letter queues, once the cause of the failures is fixed.

Messages of the timer queue and the advance queue go back into their source queue. A message from the table's stream
holds no change but only the change's position in the stream: the changes are read again from the stream, which keeps
them for 24 hours, and sent to the function. All the service's work is safe to repeat, so a redrive that fails can be
started again; a message is deleted only after its work is done.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import boto3
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from rich import box
from rich.markup import escape
from rich.table import Table

from local.backoff import DeadlineBackoff
from local.cloud.stack import LocalCloudError, Stack, StateDir, snake_case
from local.replay.tables import result_console
from local.retrying_client import RetryingClient

SOURCE_QUEUES: Final[Mapping[str, str]] = {"TimerFailures": "TimerQueue", "AdvanceFailures": "AdvanceQueue"}
STREAM_FUNCTIONS: Final[Mapping[str, str]] = {
    "NotifierFailures": "notifier",
    "RetrySchedulerFailures": "retry_scheduler",
}
NOT_REDRIVABLE: Final[Mapping[str, str]] = {
    "AttentionFailures": "a target could not be reached: the messages have the details",
    "ReconcilerFailures": "no action needed: the next scheduled run repeats the work",
}

_MESSAGES: Final = 10
_HIDDEN_SECONDS: Final = 120
_RECORDS_A_CALL: Final = 100
_EMPTY_READS: Final = 10
_EXPIRED: Final = frozenset({"TrimmedDataAccessException", "ResourceNotFoundException"})
_WRONG_USE: Final = 2


class CannotRedriveError(Exception):
    """A message that stays in its queue; the error's text is the reason."""


@dataclass(frozen=True, slots=True)
class RedriveContext:
    """Target of a redrive.

    Attributes
    ----------
    sqs, streams, functions
        boto3 clients of SQS, DynamoDB Streams and Lambda.
    queue_urls
        URLs of the queues, by their names in the template.
    function_names
        Names of the functions, by their folders.
    """

    sqs: Any
    streams: Any
    functions: Any
    queue_urls: Mapping[str, str]
    function_names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RedriveResult:
    """Result of the redrive of one queue.

    Attributes
    ----------
    depth, redriven
        Number of messages at the beginning, and number of those that were redriven.
    notes
        Reasons why messages remain in the queue.
    """

    queue: str
    depth: int
    redriven: int = 0
    notes: Sequence[str] = ()


def redrive(context: RedriveContext) -> Iterator[RedriveResult]:
    """Redrive the messages that are in the queues at the beginning, and yield the result of each queue.

    A message that fails again is not received a second time.

    Raises
    ------
    BotoCoreError, ClientError
        If a call to AWS fails.
    """
    for name in (*SOURCE_QUEUES, *STREAM_FUNCTIONS, *NOT_REDRIVABLE):
        if name not in context.queue_urls:
            continue
        depth = _depth(context, name)
        if name in NOT_REDRIVABLE or not depth:
            yield RedriveResult(name, depth, notes=[NOT_REDRIVABLE[name]] if depth else [])
        elif name in SOURCE_QUEUES:
            yield _move_to_source(context, name, depth)
        else:
            yield _replay_stream_records(context, name, depth)


def local_context(stack: Stack) -> RedriveContext:
    """Return the context of the local cloud."""
    return RedriveContext(
        sqs=stack.aws("sqs"),
        streams=stack.aws("dynamodbstreams"),
        functions=stack.aws("lambda"),
        queue_urls=stack.queues,
        function_names=stack.functions,
    )


def aws_context(stack_name: str, session: Any = None) -> RedriveContext:
    """Return the context of a stack in the account and region of the session, by default boto3's default session.

    Raises
    ------
    BotoCoreError, ClientError
        If the stack does not exist, or access to it is denied.
    """
    session = session or boto3.Session()
    cloudformation = session.client("cloudformation")
    described = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack_name)
    return RedriveContext(
        sqs=RetryingClient(session.client("sqs"), DeadlineBackoff()),
        streams=RetryingClient(session.client("dynamodbstreams"), DeadlineBackoff()),
        functions=RetryingClient(session.client("lambda"), DeadlineBackoff()),
        queue_urls={name.removesuffix("Url"): url for name, url in outputs.items() if name.endswith("Url")},
        function_names={
            snake_case(resource["LogicalResourceId"].removesuffix("Function")): resource["PhysicalResourceId"]
            for page in pages
            for resource in page["StackResourceSummaries"]
            if resource["ResourceType"] == "AWS::Lambda::Function"
        },
    )


def run_redrive(state_dir: StateDir, stack_name: str | None) -> int:
    """Redrive the queues and print a table of the results.

    Returns
    -------
    int
        0 if all messages that can be redriven were, 1 if some are left or a call to AWS failed, 2 if the stack cannot
        be read.
    """
    try:
        context = aws_context(stack_name) if stack_name else local_context(Stack.load(state_dir))
    except (LocalCloudError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return _WRONG_USE
    table = Table("Queue", "Messages", "Redriven", "Notes", box=box.SIMPLE_HEAD, pad_edge=False)
    has_remaining = False
    try:
        for result in redrive(context):
            table.add_row(
                result.queue, str(result.depth), str(result.redriven), escape("; ".join(dict.fromkeys(result.notes)))
            )
            has_remaining = has_remaining or (result.redriven < result.depth and result.queue not in NOT_REDRIVABLE)
    except (BotoCoreError, ClientError) as error:
        print(f"Redrive failed: {error}", file=sys.stderr)
        has_remaining = True
    result_console().print(table)
    return int(has_remaining)


def _depth(context: RedriveContext, name: str) -> int:
    query = {"QueueUrl": context.queue_urls[name], "AttributeNames": ["ApproximateNumberOfMessages"]}
    return int(context.sqs.get_queue_attributes(**query)["Attributes"]["ApproximateNumberOfMessages"])


def _take(context: RedriveContext, name: str, at_most: int) -> Iterator[list[dict[str, Any]]]:
    """Yield up to `at_most` messages in lists of up to ten, until none is left; each stays hidden meanwhile."""
    while at_most > 0:
        messages = context.sqs.receive_message(
            QueueUrl=context.queue_urls[name],
            MaxNumberOfMessages=min(at_most, _MESSAGES),
            VisibilityTimeout=_HIDDEN_SECONDS,
            WaitTimeSeconds=1,
        ).get("Messages", [])
        if not messages:
            return
        at_most -= len(messages)
        yield messages


def _move_to_source(context: RedriveContext, name: str, depth: int) -> RedriveResult:
    target = context.queue_urls[SOURCE_QUEUES[name]]
    redriven, notes = 0, []
    for messages in _take(context, name, depth):
        entries = [{"Id": str(index), "MessageBody": message["Body"]} for index, message in enumerate(messages)]
        response = context.sqs.send_message_batch(QueueUrl=target, Entries=entries)
        notes += [f"{failed['Code']}: {failed.get('Message', '')}" for failed in response.get("Failed", [])]
        for sent in response.get("Successful", []):
            _delete(context, name, messages[int(sent["Id"])])
            redriven += 1
    return RedriveResult(name, depth, redriven, notes)


def _replay_stream_records(context: RedriveContext, name: str, depth: int) -> RedriveResult:
    redriven, notes = 0, []
    for messages in _take(context, name, depth):
        for message in messages:
            try:
                _invoke(context, STREAM_FUNCTIONS[name], _records(context, message["Body"]))
            except CannotRedriveError as error:
                notes.append(str(error))
            else:
                _delete(context, name, message)
                redriven += 1
    return RedriveResult(name, depth, redriven, notes)


def _records(context: RedriveContext, body: str) -> list[dict[str, Any]]:
    """Return the changes that a message refers to, in the form in which Lambda delivers them.

    Raises
    ------
    CannotRedriveError
        If the stream no longer has them, or the message has no position in a stream.
    """
    try:
        batch = json.loads(body)["DDBStreamBatchInfo"]
        stream, shard = batch["streamArn"], batch["shardId"]
        first, last = batch["startSequenceNumber"], int(batch["endSequenceNumber"])
    except (KeyError, TypeError, ValueError) as error:
        raise CannotRedriveError("the message has no position in a stream") from error
    try:
        iterator = context.streams.get_shard_iterator(
            StreamArn=stream, ShardId=shard, ShardIteratorType="AT_SEQUENCE_NUMBER", SequenceNumber=first
        )["ShardIterator"]
        records = [record for record in _read_until(context, iterator, last) if _is_delivered(record)]
    except ParamValidationError as error:
        raise CannotRedriveError("the message has an invalid position in a stream") from error
    except ClientError as error:
        if error.response["Error"]["Code"] not in _EXPIRED:
            raise
        raise CannotRedriveError("the stream keeps records for 24 hours, and these have expired") from error
    return [_to_lambda_record(record, stream) for record in records]


def _read_until(context: RedriveContext, iterator: str | None, last: int) -> Iterator[dict[str, Any]]:
    """Yield a shard's records up to and including a sequence number."""
    empty = 0
    while iterator and empty < _EMPTY_READS:
        response = context.streams.get_records(ShardIterator=iterator, Limit=_RECORDS_A_CALL)
        for record in response["Records"]:
            number = int(record["dynamodb"]["SequenceNumber"])
            if number <= last:
                yield record
            if number >= last:
                return
        empty = 0 if response["Records"] else empty + 1
        iterator = response.get("NextShardIterator")
    if iterator:
        raise CannotRedriveError("the last record of the batch was not in the stream")


def _is_delivered(record: Mapping[str, Any]) -> bool:
    """Return True if a record is a change of a task or an execution, as in the filters of the functions' mappings."""
    sk = record["dynamodb"]["Keys"]["sk"]["S"]
    return record["eventName"] in ("INSERT", "MODIFY") and (sk.startswith("TASK#") or sk == "EXEC")


def _to_lambda_record(record: Mapping[str, Any], stream: str) -> dict[str, Any]:
    change = dict(record["dynamodb"])
    at = change.get("ApproximateCreationDateTime")
    if isinstance(at, datetime):
        change["ApproximateCreationDateTime"] = at.timestamp()
    return {**record, "dynamodb": change, "eventSourceARN": stream}


def _invoke(context: RedriveContext, function: str, records: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(records), _RECORDS_A_CALL):
        chunk = records[start : start + _RECORDS_A_CALL]
        response = context.functions.invoke(
            FunctionName=context.function_names[function], Payload=json.dumps({"Records": chunk}).encode()
        )
        result = json.loads(response["Payload"].read() or b"null")
        if "FunctionError" in response:
            raise CannotRedriveError(f"{function} failed: {result.get('errorMessage', result)}")
        failed = (result or {}).get("batchItemFailures", [])
        if failed:
            raise CannotRedriveError(f"{function} reported {len(failed)} of {len(chunk)} records as failed")


def _delete(context: RedriveContext, name: str, message: Mapping[str, Any]) -> None:
    context.sqs.delete_message(QueueUrl=context.queue_urls[name], ReceiptHandle=message["ReceiptHandle"])
