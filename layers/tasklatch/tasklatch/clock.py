"""The time, as the ledger counts it."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Gives milliseconds since the epoch."""


def system_clock() -> int:
    """The machine's own time, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
