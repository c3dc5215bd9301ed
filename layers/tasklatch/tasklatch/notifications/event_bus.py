"""The event bus: ten announcements a call, and none of them lost on the way."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.changes import DetailType
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

SOURCE: Final = "tasklatch"
MAX_INPUT_BYTES: Final = 16 * 1024
"""A call takes 256 KB for ten entries: a larger input is not sent along but read."""

_ENTRIES_A_CALL: Final = 10


@dataclass(frozen=True, slots=True)
class BusEvent:
    """One announcement, in the bus's words."""

    detail_type: DetailType
    detail: dict[str, Any]


class EventBus:
    """Where announcements are published.

    Parameters
    ----------
    patience
        How long to wait for a busy service.
    """

    def __init__(self, client: "EventBridgeClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._settings = settings
        self._patience = backoff

    def publish(self, events: Sequence[BusEvent]) -> None:
        """Publish announcements, those about one thing in order; those that the bus did not take are sent again.

        Raises
        ------
        ServiceBusyError
            When the bus would not take them all in time.
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
            for _ in self._patience.attempts():
                response = self._patience.run(partial(self._client.put_events, Entries=entries))
                entries = [
                    entry for entry, result in zip(entries, response["Entries"], strict=True) if "ErrorCode" in result
                ]
                if not response["FailedEntryCount"]:
                    break


def _calls(events: Sequence[BusEvent]) -> list[list[BusEvent]]:
    """Cut into calls that each speak once about one thing: of two words, the bus might refuse the first alone.

    Between tasks there is no order to keep; what is said of an execution does not overtake what was said before.
    """
    calls: list[list[BusEvent]] = []
    latest: dict[tuple[str, str | None], int] = {}
    for event in events:
        task = event.detail.get("taskId")
        about = (event.detail["executionId"], task)
        index = max(latest.get(about, -1) + 1, 0 if task else len(calls) - 1)
        while index < len(calls) and len(calls[index]) == _ENTRIES_A_CALL:
            index += 1
        if index == len(calls):
            calls.append([])
        calls[index].append(event)
        latest[about] = index
    return calls
