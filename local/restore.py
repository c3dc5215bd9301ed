"""Copy of what the ledger has lost, from a restored copy of its table, without lowering the latch.

An item is copied only where the ledger has none, and a task that has succeeded in the copy also where the ledger says
that it has not. What the ledger has recorded since the time of the copy stays, so a repeat does no harm and the service
may run meanwhile. Executions come last, as when they are created: a task without its execution does nothing.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local.backoff import DeadlineBackoff
from local.cloud.stack import LocalCloudError, Stack, StateDir
from local.retrying_client import RetryingClient

COPIED: Final = "copied"
SUCCESS_RESTORED: Final = "successes restored"
PRESENT: Final = "already there"
_EXECUTION: Final = "EXEC"
_PASSING: Final = ("CONNECTION#", "LIVE#", "RECONCILER", "TICKET#")
"""Partition keys of items that mean nothing any more: who watched at that time, and how far the reconciler was."""

_WRONG_USE: Final = 2
Item = Mapping[str, Any]


def copy_missing(dynamodb: Any, source: str, ledger: str) -> Counter[str]:
    """Copy from one table to the other, and return the number of items by what was done.

    Parameters
    ----------
    dynamodb
        A boto3 client of DynamoDB.

    Raises
    ------
    BotoCoreError, ClientError
        If a call to DynamoDB fails; what was copied by then stays.
    """
    counts: Counter[str] = Counter()
    for is_last in (False, True):
        for item in _scan(dynamodb, source):
            if (item["sk"]["S"] == _EXECUTION) is is_last and not item["pk"]["S"].startswith(_PASSING):
                counts[_copy(dynamodb, ledger, item)] += 1
    return counts


def run_restore(state_dir: StateDir, stack_name: str | None, source: str) -> int:
    """Copy from a restored table to the ledger of a stack, and print what was done.

    Returns
    -------
    int
        0, 1 if a call to AWS failed, or 2 if the stack cannot be read.
    """
    try:
        dynamodb, ledger = _aws_ledger(stack_name) if stack_name else _local_ledger(Stack.load(state_dir))
    except (LocalCloudError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return _WRONG_USE
    try:
        counts = copy_missing(dynamodb, source, ledger)
    except (BotoCoreError, ClientError) as error:
        print(f"Restore failed, and can be started again: {error}", file=sys.stderr)
        return 1
    print(", ".join(f"{counts[what]:,} {what}" for what in (COPIED, SUCCESS_RESTORED, PRESENT)))
    return 0


def _local_ledger(stack: Stack) -> tuple[Any, str]:
    return stack.aws("dynamodb"), stack.table_name


def _aws_ledger(stack_name: str) -> tuple[Any, str]:
    session = boto3.Session()
    described = session.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"][0]
    [ledger] = [output["OutputValue"] for output in described["Outputs"] if output["OutputKey"] == "TableName"]
    return RetryingClient(session.client("dynamodb"), DeadlineBackoff()), ledger


def _scan(dynamodb: Any, table: str) -> Iterator[Item]:
    request: dict[str, Any] = {"TableName": table, "ConsistentRead": True}
    while True:
        page = dynamodb.scan(**request)
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _copy(dynamodb: Any, ledger: str, item: Item) -> str:
    """Put an item where the ledger has none, or a task's success where the ledger has another end of the task."""
    if _put(dynamodb, ledger, item, ConditionExpression="attribute_not_exists(pk)"):
        return COPIED
    while _is_success(item):
        key = {"pk": item["pk"], "sk": item["sk"]}
        present = dynamodb.get_item(TableName=ledger, Key=key, ConsistentRead=True).get("Item")
        if present is None or _is_success(present):
            break
        # A version of its own, or consumers would take the change for a repeat of an older one
        later = {**item, "version": {"N": str(int(present["version"]["N"]) + 1)}}
        condition = {"ExpressionAttributeValues": {":version": present["version"]}}
        if _put(dynamodb, ledger, later, ConditionExpression="version = :version", **condition):
            return SUCCESS_RESTORED
    return PRESENT


def _is_success(item: Item) -> bool:
    return bool(item["sk"]["S"].startswith("TASK#") and item["status"]["S"] == "COMPLETED")


def _put(dynamodb: Any, ledger: str, item: Item, **condition: Any) -> bool:
    """Put an item; return False if its condition does not hold."""
    try:
        dynamodb.put_item(TableName=ledger, Item=item, **condition)
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return False
    return True
