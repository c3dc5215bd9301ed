"""Sends on what was set aside in the dead-letter queues, once the cause is mended.

A timer or an announcement goes back into the queue that it came from. What is set aside of the table's stream is no
change but only where in the stream it is: the changes are read there again, for as long as the stream keeps them (24
hours), and handed to the function. Everything the service does can be done twice, so a redrive that breaks off is
simply started again; a message is deleted only when what it stands for is done.
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

from local.backoff import Backoff
from local.patient_client import PatientClient
from local.stack import Home, LocalCloudError, Stack, snake_case
from local.tables import result_console

GOES_BACK_TO: Final[Mapping[str, str]] = {"TimerFailures": "TimerQueue", "AdvanceFailures": "AdvanceQueue"}
IS_READ_AGAIN_BY: Final[Mapping[str, str]] = {
    "NotifierFailures": "notifier",
    "RetrySchedulerFailures": "retry_scheduler",
}
STAYS: Final[Mapping[str, str]] = {
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
    """A message that stays where it is; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to redrive: boto3 clients, the queues' URLs by their names in the template, the functions by folder."""

    sqs: Any
    streams: Any
    functions: Any
    queue_urls: Mapping[str, str]
    function_names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of one queue.

    Attributes
    ----------
    found, sent_on
        Messages that were there, and those of them that are done with.
    notes
        Why the others stay.
    """

    queue: str
    found: int
    sent_on: int = 0
    notes: Sequence[str] = ()


def redrive(place: Place) -> Iterator[Redriven]:
    """Send on, queue by queue, what was there at the beginning; what fails again is not taken a second time.

    Raises
    ------
    BotoCoreError, ClientError
        If a service does not take part.
    """
    for name in (*GOES_BACK_TO, *IS_READ_AGAIN_BY, *STAYS):
        if name not in place.queue_urls:
            continue
        found = _depth(place, name)
        if name in STAYS or not found:
            yield Redriven(name, found, notes=[STAYS[name]] if found else [])
        elif name in GOES_BACK_TO:
            yield _move_back(place, name, found)
        else:
            yield _read_again(place, name, found)


def place_of(stack: Stack) -> Place:
    """The local cloud."""
    return Place(
        sqs=stack.aws("sqs"),
        streams=stack.aws("dynamodbstreams"),
        functions=stack.aws("lambda"),
        queue_urls=stack.queues,
        function_names=stack.functions,
    )


def place_on_aws(stack_name: str, session: Any = None) -> Place:
    """A stack in the account and region of the ordinary AWS configuration.

    Raises
    ------
    BotoCoreError, ClientError
        If there is no such stack, or no access to it.
    """
    session = session or boto3.Session()
    cloudformation = session.client("cloudformation")
    described = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack_name)
    return Place(
        sqs=PatientClient(session.client("sqs"), Backoff()),
        streams=PatientClient(session.client("dynamodbstreams"), Backoff()),
        functions=PatientClient(session.client("lambda"), Backoff()),
        queue_urls={name.removesuffix("Url"): url for name, url in outputs.items() if name.endswith("Url")},
        function_names={
            snake_case(resource["LogicalResourceId"].removesuffix("Function")): resource["PhysicalResourceId"]
            for page in pages
            for resource in page["StackResourceSummaries"]
            if resource["ResourceType"] == "AWS::Lambda::Function"
        },
    )


def run_redrive(home: Home, stack_name: str | None) -> int:
    """Redrive, and show what was done.

    Returns
    -------
    int
        0 if nothing is left that could be sent on, 1 if something is, 2 if it could not begin.
    """
    try:
        place = place_on_aws(stack_name) if stack_name else place_of(Stack.load(home))
    except (LocalCloudError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return _WRONG_USE
    table = Table("Queue", "Waiting", "Sent on", "What stays, and why", box=box.SIMPLE_HEAD, pad_edge=False)
    is_left = False
    try:
        for one in redrive(place):
            table.add_row(one.queue, str(one.found), str(one.sent_on), escape("; ".join(dict.fromkeys(one.notes))))
            is_left = is_left or (one.sent_on < one.found and one.queue not in STAYS)
    except (BotoCoreError, ClientError) as error:
        print(f"The redrive broke off: {error}", file=sys.stderr)
        is_left = True
    result_console().print(table)
    return int(is_left)


def _depth(place: Place, name: str) -> int:
    asked = {"QueueUrl": place.queue_urls[name], "AttributeNames": ["ApproximateNumberOfMessages"]}
    return int(place.sqs.get_queue_attributes(**asked)["Attributes"]["ApproximateNumberOfMessages"])


def _take(place: Place, name: str, at_most: int) -> Iterator[list[dict[str, Any]]]:
    """Give messages in lists of up to ten, each message hidden meanwhile, until so many were given or none is left."""
    while at_most > 0:
        messages = place.sqs.receive_message(
            QueueUrl=place.queue_urls[name],
            MaxNumberOfMessages=min(at_most, _MESSAGES),
            VisibilityTimeout=_HIDDEN_SECONDS,
            WaitTimeSeconds=1,
        ).get("Messages", [])
        if not messages:
            return
        at_most -= len(messages)
        yield messages


def _move_back(place: Place, name: str, found: int) -> Redriven:
    target = place.queue_urls[GOES_BACK_TO[name]]
    sent_on, notes = 0, []
    for messages in _take(place, name, found):
        entries = [{"Id": str(index), "MessageBody": message["Body"]} for index, message in enumerate(messages)]
        answer = place.sqs.send_message_batch(QueueUrl=target, Entries=entries)
        notes += [f"{failed['Code']}: {failed.get('Message', '')}" for failed in answer.get("Failed", [])]
        for sent in answer.get("Successful", []):
            _delete(place, name, messages[int(sent["Id"])])
            sent_on += 1
    return Redriven(name, found, sent_on, notes)


def _read_again(place: Place, name: str, found: int) -> Redriven:
    sent_on, notes = 0, []
    for messages in _take(place, name, found):
        for message in messages:
            try:
                _hand_over(place, IS_READ_AGAIN_BY[name], _records(place, message["Body"]))
            except CannotRedriveError as error:
                notes.append(str(error))
            else:
                _delete(place, name, message)
                sent_on += 1
    return Redriven(name, found, sent_on, notes)


def _records(place: Place, body: str) -> list[dict[str, Any]]:
    """The changes that a message stands for, as Lambda hands them over.

    Raises
    ------
    CannotRedriveError
        If the stream no longer has them, or the message names none.
    """
    try:
        batch = json.loads(body)["DDBStreamBatchInfo"]
        stream, shard = batch["streamArn"], batch["shardId"]
        first, last = batch["startSequenceNumber"], int(batch["endSequenceNumber"])
    except (KeyError, TypeError, ValueError) as error:
        raise CannotRedriveError("the message does not say where in the stream it is from") from error
    try:
        iterator = place.streams.get_shard_iterator(
            StreamArn=stream, ShardId=shard, ShardIteratorType="AT_SEQUENCE_NUMBER", SequenceNumber=first
        )["ShardIterator"]
        return [_as_lambda_has_it(record, stream) for record in _up_to(place, iterator, last) if _is_ours(record)]
    except ParamValidationError as error:
        raise CannotRedriveError("the message names no place in a stream") from error
    except ClientError as error:
        if error.response["Error"]["Code"] not in _GONE:
            raise
        raise CannotRedriveError("older than the 24 hours that the stream goes back: they are gone") from error


def _up_to(place: Place, iterator: str | None, last: int) -> Iterator[dict[str, Any]]:
    """Yield a shard's records up to a sequence number."""
    empty = 0
    while iterator and empty < _EMPTY_READS:
        answer = place.streams.get_records(ShardIterator=iterator, Limit=_RECORDS_A_CALL)
        for record in answer["Records"]:
            number = int(record["dynamodb"]["SequenceNumber"])
            if number <= last:
                yield record
            if number >= last:
                return
        empty = 0 if answer["Records"] else empty + 1
        iterator = answer.get("NextShardIterator")
    if iterator:
        raise CannotRedriveError("the stream did not come to the last of its changes")


def _is_ours(record: Mapping[str, Any]) -> bool:
    """Whether it is a change of a task or an execution, as the functions' mappings filter it."""
    sk = record["dynamodb"]["Keys"]["sk"]["S"]
    return record["eventName"] in ("INSERT", "MODIFY") and (sk.startswith("TASK#") or sk == "EXEC")


def _as_lambda_has_it(record: Mapping[str, Any], stream: str) -> dict[str, Any]:
    change = dict(record["dynamodb"])
    at = change.get("ApproximateCreationDateTime")
    if isinstance(at, datetime):
        change["ApproximateCreationDateTime"] = at.timestamp()
    return {**record, "dynamodb": change, "eventSourceARN": stream}


def _hand_over(place: Place, function: str, records: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(records), _RECORDS_A_CALL):
        chunk = records[start : start + _RECORDS_A_CALL]
        answer = place.functions.invoke(
            FunctionName=place.function_names[function], Payload=json.dumps({"Records": chunk}).encode()
        )
        said = json.loads(answer["Payload"].read() or b"null")
        if "FunctionError" in answer:
            raise CannotRedriveError(f"{function} failed: {said.get('errorMessage', said)}")
        failed = (said or {}).get("batchItemFailures", [])
        if failed:
            raise CannotRedriveError(f"{function} gave {len(failed)} of {len(chunk)} changes back")


def _delete(place: Place, name: str, message: Mapping[str, Any]) -> None:
    place.sqs.delete_message(QueueUrl=place.queue_urls[name], ReceiptHandle=message["ReceiptHandle"])
