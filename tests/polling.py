"""Polling with a deadline, which holds on a machine that has much else to do: tests do not sleep."""

import time
from collections.abc import Callable
from typing import Any, Final

DEADLINE_SECONDS: Final = 90.0
_INTERVAL_SECONDS: Final = 0.1


def poll(read: Callable[[], Any], seconds: float = DEADLINE_SECONDS, interval: float = _INTERVAL_SECONDS) -> Any:
    """Call a function until its result is true in the sense of Python, and return that.

    Raises
    ------
    AssertionError
        If it is not so within the given seconds; with the last result.
    """
    deadline = time.monotonic() + seconds
    while not (result := read()):
        assert time.monotonic() < deadline, f"{result!r} after {seconds:g} s"
        time.sleep(interval)
    return result
