"""Retries of transient failures within a deadline, shared by all local programs."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

DEADLINE_SECONDS: Final = 60.0
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 2.0

T = TypeVar("T")


class TransientError(Exception):
    """A failure after which another attempt may succeed.

    Parameters
    ----------
    final
        The exception to raise if there is no time for another attempt.
    wait_seconds
        Minimum wait before the next attempt.
    """

    def __init__(self, final: Exception, wait_seconds: float = 0.0) -> None:
        super().__init__(str(final))
        self.final = final
        self.wait_seconds = wait_seconds


class DeadlineBackoff:
    """Retries of a call with random waits, up to a deadline.

    Parameters
    ----------
    deadline_seconds
        Counted from the first attempt; no attempt starts after it.
    """

    def __init__(
        self,
        deadline_seconds: float = DEADLINE_SECONDS,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._sleep = sleep
        self._clock = clock

    def run(self, attempt: Callable[[int], T]) -> T:
        """Call a function; repeat the call after a random wait while it raises a `TransientError`.

        Parameters
        ----------
        attempt
            Function of one attempt; its argument is the attempt's number, from 1.

        Raises
        ------
        Exception
            The `final` exception of the last failure, if there is no time for another attempt.
        """
        ends = self._clock() + self._deadline_seconds
        for number, wait in enumerate(_waits(), 1):
            try:
                return attempt(number)
            except TransientError as error:
                wait_seconds = max(wait, error.wait_seconds)
                if self._clock() + wait_seconds > ends:
                    raise error.final from error
            self._sleep(wait_seconds)
        raise AssertionError("waits do not end")


def _waits() -> Iterator[float]:
    """Yield the random wait before each next attempt, in seconds; its upper bound doubles up to a limit."""
    ceiling = _FIRST_WAIT
    while True:
        yield random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing
        ceiling = min(ceiling * 2, _LONGEST_WAIT)
