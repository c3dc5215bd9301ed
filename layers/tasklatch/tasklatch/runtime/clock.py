"""Time in the ledger's unit: milliseconds since the epoch."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Function that returns milliseconds since the epoch."""


def system_clock() -> int:
    """Return the machine's time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def format_timestamp(milliseconds: int) -> str:
    """Format a time (milliseconds since the epoch) as RFC 3339, in UTC, to the millisecond."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
