"""Redrive of what failed, once the cause of the failures is fixed.

Messages of the timer queue and the advance queue go back into their source queue. Records of the table's stream are in
a bucket, whole, and are sent to their function. All the service's work is safe to repeat, so a redrive that fails can
be started again; a message or an object is deleted only after its work is done.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from rich import box
from rich.markup import escape
from rich.table import Table

from local.backoff import DeadlineBackoff
from local.cloud.stack import LocalCloudError, Stack, StateDir, snake_case
from local.redrive_records import RecordsRedrive
from local.replay.tables import result_console
from local.retrying_client import RetryingClient

SOURCE_QUEUES: Final[Mapping[str, str]] = {
    "TimerFailures": "TimerQueue",
    "AdvanceFailures": "AdvanceQueue",
    "TriggerFailures": "TriggerQueue",
}
BUCKET: Final = "StreamFailures"
NOT_REDRIVABLE: Final[Mapping[str, str]] = {
    "AttentionFailures": "a target could not be reached: the messages have the details",
    "ReconcilerFailures": "no action needed: the next run of the reconciler, or sweep of timers, repeats the work",
}

_MESSAGES: Final = 10
_HIDDEN_SECONDS: Final = 120
_WRONG_USE: Final = 2


@dataclass(frozen=True, slots=True)
class RedriveContext:
    """Target of a redrive.

    Attributes
    ----------
    sqs, s3, functions
        boto3 clients of SQS, S3 and Lambda.
    queue_urls
        URLs of the queues, by their names in the template.
    bucket
        Name of the bucket for records of the stream; empty where the stack has none.
    function_names
        Names of the functions, by their folders.
    """

    sqs: Any
    s3: Any
    functions: Any
    queue_urls: Mapping[str, str]
    bucket: str
    function_names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RedriveResult:
    """Result of the redrive of one queue, or of the bucket.

    Attributes
    ----------
    depth, redriven
        Number of messages or objects at the beginning, and number of those that were redriven.
    notes
        Reasons why some remain.
    """

    queue: str
    depth: int
    redriven: int = 0
    notes: Sequence[str] = ()


def redrive(context: RedriveContext) -> Iterator[RedriveResult]:
    """Redrive what is in the bucket and the queues at the beginning, and yield the result of each.

    A message that fails again is not received a second time.

    Raises
    ------
    BotoCoreError, ClientError
        If a call to AWS fails.
    """
    if context.bucket:
        records = RecordsRedrive(context.s3, context.functions, context.bucket, context.function_names)
        yield RedriveResult(BUCKET, *records.run())
    for name in (*SOURCE_QUEUES, *NOT_REDRIVABLE):
        if name not in context.queue_urls:
            continue
        depth = _depth(context, name)
        if name in NOT_REDRIVABLE or not depth:
            yield RedriveResult(name, depth, notes=[NOT_REDRIVABLE[name]] if depth else [])
        else:
            yield _move_to_source(context, name, depth)


def local_context(stack: Stack) -> RedriveContext:
    """Return the context of the local cloud."""
    return RedriveContext(
        sqs=stack.aws("sqs"),
        s3=stack.aws("s3"),
        functions=stack.aws("lambda"),
        queue_urls=stack.queues,
        bucket=stack.failures_bucket,
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
        s3=RetryingClient(session.client("s3"), DeadlineBackoff()),
        functions=RetryingClient(session.client("lambda"), DeadlineBackoff()),
        queue_urls={name.removesuffix("Url"): url for name, url in outputs.items() if name.endswith("Url")},
        bucket=outputs.get("StreamFailuresBucket", ""),
        function_names={
            snake_case(resource["LogicalResourceId"].removesuffix("Function")): resource["PhysicalResourceId"]
            for page in pages
            for resource in page["StackResourceSummaries"]
            if resource["ResourceType"] == "AWS::Lambda::Function"
        },
    )


def run_redrive(state_dir: StateDir, stack_name: str | None) -> int:
    """Redrive the bucket and the queues, and print a table of the results.

    Returns
    -------
    int
        0 if all that can be redriven was, 1 if some is left or a call to AWS failed, 2 if the stack cannot be read.
    """
    try:
        context = aws_context(stack_name) if stack_name else local_context(Stack.load(state_dir))
    except (LocalCloudError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return _WRONG_USE
    table = Table("Queue or bucket", "Number", "Redriven", "Notes", box=box.SIMPLE_HEAD, pad_edge=False)
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


def _delete(context: RedriveContext, name: str, message: Mapping[str, Any]) -> None:
    context.sqs.delete_message(QueueUrl=context.queue_urls[name], ReceiptHandle=message["ReceiptHandle"])
