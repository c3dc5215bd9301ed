"""Trying again, within a deadline, what failed for a cause that passes: the one loop of all local programs."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

DEADLINE_SECONDS: Final = 60.0
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 2.0

T = TypeVar("T")


class TransientError(Exception):
    """A failure that may be gone a moment later.

    Parameters
    ----------
    final
        What is raised when there is no time for another attempt.
    wait_seconds
        How long to wait at least.
    """

    def __init__(self, final: Exception, wait_seconds: float = 0.0) -> None:
        super().__init__(str(final))
        self.final = final
        self.wait_seconds = wait_seconds


class DeadlineBackoff:
    """How long a call may take, all its attempts included.

    Parameters
    ----------
    deadline_seconds
        From the first attempt on; none is begun after it.
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
        """Make a call, again after a random wait while it ends in a `TransientError`.

        Parameters
        ----------
        attempt
            Makes one attempt; is given its number, from 1.

        Raises
        ------
        Exception
            The last failure itself, when there is no time for another attempt.
        """
        ends = self._clock() + self._deadline_seconds
        for number, wait in enumerate(_waits(), 1):
            try:
                return attempt(number)
            except TransientError as error:
                patience = max(wait, error.wait_seconds)
                if self._clock() + patience > ends:
                    raise error.final from error
            self._sleep(patience)
        raise AssertionError("waits do not end")


def _waits() -> Iterator[float]:
    """Seconds to wait before each next attempt: drawn from a range that doubles up to a bound."""
    ceiling = _FIRST_WAIT
    while True:
        yield random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing
        ceiling = min(ceiling * 2, _LONGEST_WAIT)
