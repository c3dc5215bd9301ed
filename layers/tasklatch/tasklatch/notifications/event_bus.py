"""Event bus: publishes ten events per call, and sends rejected entries again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.changes import DetailType
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

SOURCE: Final = "tasklatch"
MAX_INPUT_BYTES: Final = 16 * 1024
"""EventBridge limits a call to 256 KB for ten entries: a larger input is left out, and the worker reads it."""

_ENTRIES_A_CALL: Final = 10
_REFUSED: Final = frozenset({"InvalidArgument", "MalformedDetail", "RedactionFailure"})
"""Codes of entries that the bus refuses for their content. The others can be sent again."""


class EventRefusedError(Exception):
    """An event that the bus refuses for its content; the others are published."""


@dataclass(frozen=True, slots=True)
class BusEvent:
    """One event, with its EventBridge detail type and detail."""

    detail_type: DetailType
    detail: dict[str, Any]


class EventBus:
    """Client of the event bus.

    Parameters
    ----------
    backoff
        Retry policy for a busy service.
    """

    def __init__(self, client: "EventBridgeClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._settings = settings
        self._backoff = backoff

    def publish(self, events: Sequence[BusEvent]) -> None:
        """Publish events, in order for each task and each execution; entries that the bus rejects are sent again.

        Raises
        ------
        ServiceBusyError
            If the bus stays busy until the deadline; some events may be published.
        EventRefusedError
            If the bus refuses an event for its content; all others are published.
        """
        refused: list[str] = []
        for chunk in _calls(events):
            entries: list[Any] = [
                {
                    "Source": SOURCE,
                    "DetailType": event.detail_type,
                    "Detail": json.dumps(event.detail, ensure_ascii=False, separators=(",", ":")),
                    "EventBusName": self._settings.event_bus_name,
                }
                for event in chunk
            ]
            refused += self._put(entries)
        if refused:
            raise EventRefusedError(", ".join(refused))

    def _put(self, entries: list[Any]) -> list[str]:
        """Send entries until the bus has taken each, or refused it; return the codes of those that it refused."""
        refused: list[str] = []

        def put() -> None:
            nonlocal entries
            response = self._client.put_events(Entries=entries)
            codes = [result.get("ErrorCode") for result in response["Entries"]]
            refused.extend(code for code in codes if code in _REFUSED)
            results = zip(entries, codes, strict=True)
            entries = [entry for entry, code in results if code is not None and code not in _REFUSED]
            if entries:
                raise TryAgainError

        self._backoff.run(put)
        return refused


def _calls(events: Sequence[BusEvent]) -> list[list[BusEvent]]:
    """Split events into calls that each hold at most one event of a task or of the execution itself.

    With two of them in one call, the bus could reject only the first, and the order would be lost. Events of different
    tasks have no order; an execution's event never goes into an earlier call than the events before it.
    """
    calls: list[list[BusEvent]] = []
    latest: dict[tuple[str, str | None], int] = {}
    for event in events:
        task_id = event.detail.get("taskId")
        subject = (event.detail["executionId"], task_id)
        index = max(latest.get(subject, -1) + 1, 0 if task_id else len(calls) - 1)
        while index < len(calls) and len(calls[index]) == _ENTRIES_A_CALL:
            index += 1
        if index == len(calls):
            calls.append([])
        calls[index].append(event)
        latest[subject] = index
    return calls
