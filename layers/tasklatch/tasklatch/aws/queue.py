"""A queue's messages, each on its own: one that fails comes again without its neighbours."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from botocore.exceptions import ClientError

from tasklatch.domain.errors import TasklatchError
from tasklatch.observability import logger


def take_each(records: Iterable[Mapping[str, Any]], take: Callable[[str], None]) -> PartialItemFailureResponse:
    """Take the messages that Lambda hands over, and report those that could not be served.

    A message that is none of ours, or that this version or AWS cannot serve, is reported each time it comes; after some
    tries the queue sets it aside.

    Parameters
    ----------
    take
        Serves one message's text.
    """
    failed: list[str] = []
    for record in records:
        try:
            take(record["body"])
        except (AttributeError, ClientError, KeyError, RuntimeError, TypeError, ValueError, TasklatchError):
            logger().exception("a message could not be served", extra={"message_id": record["messageId"]})
            failed.append(record["messageId"])
    return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}


def all_failed(records: Iterable[Mapping[str, Any]], error: TasklatchError) -> PartialItemFailureResponse:
    """Report all messages, for an error that concerns them together."""
    logger().warning("messages are served late", extra={"detail": str(error)})
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in records]}
