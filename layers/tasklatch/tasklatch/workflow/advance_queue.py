"""Queue of the workflow advancer: messages as JSON, and their sending, ten in a call."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.advance import Advance, AdvanceMessage, SweepPosition
from tasklatch.domain.status import ExecutionStatus
from tasklatch.dynamodb.batch_write import batched
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_MESSAGES_A_CALL: Final = 10


class AdvanceQueue:
    """Sender of the workflow advancer's messages.

    Parameters
    ----------
    client
        Returns the queue's client, which most invocations do not need.
    backoff
        Retry policy for a busy queue.
    """

    def __init__(self, client: "Callable[[], SQSClient]", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._url = settings.advance_queue_url
        self._backoff = backoff

    def send(self, messages: Iterable[AdvanceMessage]) -> None:
        """Send messages; the same message twice does no harm.

        Raises
        ------
        ServiceBusyError
            If the queue stays busy until the deadline; some messages may be sent.
        """
        for chunk in batched(messages, _MESSAGES_A_CALL):
            self._send([{"Id": str(index), "MessageBody": to_body(message)} for index, message in enumerate(chunk)])

    def _send(self, entries: list[Any]) -> None:
        def send() -> None:
            nonlocal entries
            response = self._client().send_message_batch(QueueUrl=self._url, Entries=entries)
            failed = {failure["Id"] for failure in response.get("Failed", [])}
            entries = [entry for entry in entries if entry["Id"] in failed]
            if entries:
                raise TryAgainError

        self._backoff.run(send)


def to_body(message: AdvanceMessage) -> str:
    """Return the body of a message."""
    body: dict[str, Any] = {
        "kind": message.kind,
        "tenant": message.tenant,
        "executionId": message.execution_id,
        "taskId": message.task_id or None,
        "final": message.is_final or None,
        "position": _position_to_json(message.position),
        "concurrencyKey": message.concurrency_key or None,
    }
    present = {name: value for name, value in body.items() if value is not None}
    return json.dumps(present, ensure_ascii=False, separators=(",", ":"))


def from_body(body: str) -> AdvanceMessage:
    """Return the message of a body; an event of the bus, as earlier versions sent them, is one too.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is neither.
    """
    content = json.loads(body)
    fields = content.get("detail", content)
    event_kind = Advance.TASK if "taskId" in fields else Advance.CANCEL
    kind = content["kind"] if content is fields else event_kind
    return AdvanceMessage(
        Advance(kind),
        fields["tenant"],
        fields["executionId"],
        fields.get("taskId", ""),
        content.get("final", False),
        _position_from_json(fields.get("position")),
        content.get("concurrencyKey", ""),
    )


def _position_to_json(position: SweepPosition | None) -> dict[str, Any] | None:
    if position is None:
        return None
    return {
        "after": position.after,
        "version": position.version,
        "additions": position.additions,
        "outcome": position.outcome,
    }


def _position_from_json(position: Mapping[str, Any] | None) -> SweepPosition | None:
    if position is None:
        return None
    return SweepPosition(
        position["version"], position["additions"], position["after"], ExecutionStatus(position["outcome"])
    )
