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
    "AttentionFailures": "a target could not be reached: see its address; each message says what it was about",
    "ReconcilerFailures": "nothing to do: the next run comes by itself",
}

_MESSAGES: Final = 10
_HIDDEN_SECONDS: Final = 120
_RECORDS_A_CALL: Final = 100
_EMPTY_READS: Final = 10
_GONE: Final = frozenset({"TrimmedDataAccessException", "ResourceNotFoundException"})
_WRONG_USE: Final = 2


class CannotRedriveError(Exception):
    """A message stays in its queue; the error's text is the reason."""


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
    waiting, sent_on
        Number of messages at the beginning, and number of those that were sent on.
    notes
        Reasons why the others stay.
    """

    queue: str
    waiting: int
    sent_on: int = 0
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
        waiting = _depth(context, name)
        if name in NOT_REDRIVABLE or not waiting:
            yield RedriveResult(name, waiting, notes=[NOT_REDRIVABLE[name]] if waiting else [])
        elif name in SOURCE_QUEUES:
            yield _move_back(context, name, waiting)
        else:
            yield _read_again(context, name, waiting)


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
        0 if all redrivable messages were sent on, 1 if some are left or a call to AWS failed, 2 if the stack cannot be
        read.
    """
    try:
        context = aws_context(stack_name) if stack_name else local_context(Stack.load(state_dir))
    except (LocalCloudError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return _WRONG_USE
    table = Table("Queue", "Waiting", "Sent on", "What stays, and why", box=box.SIMPLE_HEAD, pad_edge=False)
    is_left = False
    try:
        for result in redrive(context):
            table.add_row(
                result.queue, str(result.waiting), str(result.sent_on), escape("; ".join(dict.fromkeys(result.notes)))
            )
            is_left = is_left or (result.sent_on < result.waiting and result.queue not in NOT_REDRIVABLE)
    except (BotoCoreError, ClientError) as error:
        print(f"Redrive failed: {error}", file=sys.stderr)
        is_left = True
    result_console().print(table)
    return int(is_left)


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


def _move_back(context: RedriveContext, name: str, waiting: int) -> RedriveResult:
    target = context.queue_urls[SOURCE_QUEUES[name]]
    sent_on, notes = 0, []
    for messages in _take(context, name, waiting):
        entries = [{"Id": str(index), "MessageBody": message["Body"]} for index, message in enumerate(messages)]
        response = context.sqs.send_message_batch(QueueUrl=target, Entries=entries)
        notes += [f"{failed['Code']}: {failed.get('Message', '')}" for failed in response.get("Failed", [])]
        for sent in response.get("Successful", []):
            _delete(context, name, messages[int(sent["Id"])])
            sent_on += 1
    return RedriveResult(name, waiting, sent_on, notes)


def _read_again(context: RedriveContext, name: str, waiting: int) -> RedriveResult:
    sent_on, notes = 0, []
    for messages in _take(context, name, waiting):
        for message in messages:
            try:
                _hand_over(context, STREAM_FUNCTIONS[name], _records(context, message["Body"]))
            except CannotRedriveError as error:
                notes.append(str(error))
            else:
                _delete(context, name, message)
                sent_on += 1
    return RedriveResult(name, waiting, sent_on, notes)


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
        raise CannotRedriveError("the message does not say where in the stream it is from") from error
    try:
        iterator = context.streams.get_shard_iterator(
            StreamArn=stream, ShardId=shard, ShardIteratorType="AT_SEQUENCE_NUMBER", SequenceNumber=first
        )["ShardIterator"]
        return [_as_lambda_has_it(record, stream) for record in _up_to(context, iterator, last) if _is_ours(record)]
    except ParamValidationError as error:
        raise CannotRedriveError("the message names no place in a stream") from error
    except ClientError as error:
        if error.response["Error"]["Code"] not in _GONE:
            raise
        raise CannotRedriveError("older than the 24 hours that the stream goes back: they are gone") from error


def _up_to(context: RedriveContext, iterator: str | None, last: int) -> Iterator[dict[str, Any]]:
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
        raise CannotRedriveError("the stream did not come to the last of its changes")


def _is_ours(record: Mapping[str, Any]) -> bool:
    """Return True if a record is a change of a task or an execution, as in the filters of the functions' mappings."""
    sk = record["dynamodb"]["Keys"]["sk"]["S"]
    return record["eventName"] in ("INSERT", "MODIFY") and (sk.startswith("TASK#") or sk == "EXEC")


def _as_lambda_has_it(record: Mapping[str, Any], stream: str) -> dict[str, Any]:
    change = dict(record["dynamodb"])
    at = change.get("ApproximateCreationDateTime")
    if isinstance(at, datetime):
        change["ApproximateCreationDateTime"] = at.timestamp()
    return {**record, "dynamodb": change, "eventSourceARN": stream}


def _hand_over(context: RedriveContext, function: str, records: Sequence[dict[str, Any]]) -> None:
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
            raise CannotRedriveError(f"{function} gave {len(failed)} of {len(chunk)} changes back")


def _delete(context: RedriveContext, name: str, message: Mapping[str, Any]) -> None:
    context.sqs.delete_message(QueueUrl=context.queue_urls[name], ReceiptHandle=message["ReceiptHandle"])
