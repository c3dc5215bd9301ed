"""Processing of queue messages one by one: a message that fails is retried or moved to the dead-letter queue alone."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from botocore.exceptions import BotoCoreError, ClientError

from tasklatch.domain.errors import TasklatchError
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.failure_reason import failure_reason
from tasklatch.runtime.observability import logger

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

REASON: Final = "reason"
"""Attribute of a dead-lettered message that holds the reason."""

RETRYABLE_ERRORS: Final = (BotoCoreError, ClientError, TasklatchError)
"""Errors that another attempt may not meet: a service that is busy or refuses, or an item that does not exist yet."""


class DeadLetters:
    """Dead-letter queue for messages that no further attempt can process.

    Parameters
    ----------
    client
        Returns the queue's client, which is seldom needed.
    url
        The address of the queue that also receives messages after too many attempts.
    backoff
        Backoff while the queue is busy.
    """

    def __init__(self, client: Callable[[], "SQSClient"], url: str, backoff: Backoff) -> None:
        self._client = client
        self._url = url
        self._backoff = backoff

    def put(self, body: str, reason: str) -> None:
        """Move a message to the dead-letter queue.

        Raises
        ------
        ServiceBusyError
            If the queue does not accept it in time.
        """
        request: dict[str, Any] = {
            "QueueUrl": self._url,
            "MessageBody": body,
            "MessageAttributes": {REASON: {"DataType": "String", "StringValue": reason}},
        }
        self._backoff.run(lambda: self._client().send_message(**request))


def process_records(
    records: Iterable[Mapping[str, Any]], process: Callable[[str], None], dead_letters: DeadLetters
) -> PartialItemFailureResponse:
    """Process the messages of one invocation, and return those that must be delivered again.

    Parameters
    ----------
    process
        Processes the body of one message.
    """
    failed: list[str] = []
    for record in records:
        try:
            process_message(record["messageId"], record["body"], process, dead_letters)
        except RETRYABLE_ERRORS:
            failed.append(record["messageId"])
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def process_message(message_id: str, body: str, process: Callable[[str], None], dead_letters: DeadLetters) -> None:
    """Process one message; move it to the dead-letter queue, with the reason, if another attempt would fail too.

    Raises
    ------
    BotoCoreError, ClientError, TasklatchError
        If it must be delivered again; after several attempts the queue moves it to the dead-letter queue.
    """
    logger.set_correlation_id(message_id)
    try:
        process(body)
    except RETRYABLE_ERRORS:
        logger.exception("message processing failed", extra={"message_id": message_id})
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the message is stored, and an alarm reports it
        logger.exception("message moved to the dead-letter queue", extra={"message_id": message_id})
        dead_letters.put(body, _printable(failure_reason(error)))


def _printable(text: str) -> str:
    """Return a text with the characters that a message attribute cannot hold replaced by ``?``."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)
