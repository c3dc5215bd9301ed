"""Emulator patch: lists of schedules have pages."""

import json
from typing import Any

from ministack.services import scheduler


class SchedulePages:
    """Pages of ListSchedules, with the token of the next page.

    Fault of ministack 1.5: it returns the first `MaxResults` schedules, 100 by default, and no `NextToken`, so that
    whoever follows the pages never sees the others.
    """

    def __init__(self) -> None:
        self._list = scheduler._list_schedules  # noqa: SLF001 - it has no other place for this

    def install(self) -> None:
        """Patch the emulator."""
        scheduler._list_schedules = self.list_page  # noqa: SLF001

    def list_page(self, query: dict[str, str]) -> tuple[Any, ...]:
        """Return one page of schedules."""
        size, start = int(query.get("MaxResults", 100)), int(query.get("NextToken", 0))
        status, headers, body = self._list(query | {"MaxResults": str(start + size + 1)})
        listed = json.loads(body)["Schedules"][start:]
        page: dict[str, Any] = {"Schedules": listed[:size]}
        if len(listed) > size:
            page["NextToken"] = str(start + size)
        return status, headers, json.dumps(page).encode()
