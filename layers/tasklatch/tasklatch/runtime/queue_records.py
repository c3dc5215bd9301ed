"""A queue's messages, each on its own: one that fails comes again, or is set aside, without its neighbours."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from botocore.exceptions import BotoCoreError, ClientError

from tasklatch.domain.errors import TasklatchError
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.observability import logger

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

REASON: Final = "reason"
"""The attribute of a message in a dead-letter queue that says why it is there."""

_LONGEST_REASON: Final = 500
_COMES_AGAIN: Final = (BotoCoreError, ClientError, TasklatchError)
"""What another try may find better: a service that is busy or refuses, or something that is not there yet."""


class DeadLetters:
    """Where messages are set aside that no try can serve.

    Parameters
    ----------
    client
        Gives the queue's client: it is seldom needed.
    url
        The queue's address: of the one that the messages would end in after too many tries.
    patience
        How long to wait for a busy queue.
    """

    def __init__(self, client: Callable[[], "SQSClient"], url: str, backoff: Backoff) -> None:
        self._client = client
        self._url = url
        self._patience = backoff

    def put(self, body: str, reason: str) -> None:
        """Set a message aside.

        Raises
        ------
        ServiceBusyError
            If the queue would not take it in time.
        """
        request: dict[str, Any] = {
            "QueueUrl": self._url,
            "MessageBody": body,
            "MessageAttributes": {REASON: {"DataType": "String", "StringValue": reason}},
        }
        self._patience.run(lambda: self._client().send_message(**request))


def process_records(
    records: Iterable[Mapping[str, Any]], take: Callable[[str], None], dead_letters: DeadLetters
) -> PartialItemFailureResponse:
    """Take the messages that Lambda hands over, and report those that are to come again.

    A message that fails for what another try may find better comes again, and is set aside by the queue after some
    tries. One that fails for any other error is set aside at once, with the reason.

    Parameters
    ----------
    take
        Serves one message's text.
    """
    failed: list[str] = []
    for record in records:
        name = record["messageId"]
        try:
            _take(record["body"], name, take, dead_letters)
        except _COMES_AGAIN:
            logger().exception("message processing failed", extra={"message_id": name})
            failed.append(name)
    return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}


def _take(body: str, name: str, take: Callable[[str], None], dead_letters: DeadLetters) -> None:
    try:
        take(body)
    except _COMES_AGAIN:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the message is kept, and an alarm tells of it
        logger().exception("a message is set aside", extra={"message_id": name})
        dead_letters.put(body, _printable(f"{type(error).__name__}: {error}")[:_LONGEST_REASON])


def _printable(text: str) -> str:
    """What an attribute of a message can hold of any text."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)
