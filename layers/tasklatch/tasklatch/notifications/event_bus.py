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
        """
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
            self._put(entries)

    def _put(self, entries: list[Any]) -> None:
        def put() -> None:
            nonlocal entries
            response = self._client.put_events(Entries=entries)
            results = zip(entries, response["Entries"], strict=True)
            entries = [entry for entry, result in results if "ErrorCode" in result]
            if response["FailedEntryCount"]:
                raise TryAgainError

        self._backoff.run(put)


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
