"""The time, as the ledger counts it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Gives milliseconds since the epoch."""


def system_clock() -> int:
    """The machine's own time, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def format_timestamp(milliseconds: int) -> str:
    """Write a time (milliseconds since the epoch) as RFC 3339, in UTC, to the millisecond."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
