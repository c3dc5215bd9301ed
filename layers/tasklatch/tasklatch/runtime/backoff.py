"""Retries of requests to a busy AWS service: full jitter, within the time that the function has left."""

import random
import time
from collections.abc import Callable
from itertools import count
from typing import Final, TypeVar

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as AwsConnectionError

from tasklatch.domain.errors import ServiceBusyError
from tasklatch.runtime.aws_errors import is_busy, is_condition_failure

T = TypeVar("T")

_FIRST_WAIT: Final = 0.025
_LONGEST_WAIT: Final = 1.0
_RESERVE_MS: Final = 4_500


class TryAgainError(Exception):
    """Raise it in a function that `Backoff.run` calls to have it called again: a part of its work is left."""


class TimeBudget:
    """Part of the time that a function has left; made by `Backoff.budget`."""

    def __init__(self, is_left: Callable[[], bool], sleep: Callable[[float], None]) -> None:
        self._is_left = is_left
        self._sleep = sleep

    @property
    def is_left(self) -> bool:
        """True until the time has passed."""
        return self._is_left()

    def wait(self, longest: float) -> None:
        """Wait for a random time, of at most a number of seconds."""
        self._sleep(random.uniform(0, longest))  # noqa: S311 - spreads load, guards nothing


class Backoff:
    """Backoff between attempts, limited by the time that the function has left.

    Parameters
    ----------
    remaining_ms
        Returns the remaining time in milliseconds. An attempt starts only if it can end, within the client's time-outs,
        and still leave time to respond.
    sleep
        Waits for a number of seconds.
    """

    def __init__(self, remaining_ms: Callable[[], int], sleep: Callable[[float], None] = time.sleep) -> None:
        self._remaining_ms = remaining_ms
        self._sleep = sleep

    def budget(self, most_ms: int, reserve_ms: int) -> TimeBudget:
        """Return a part of the time that the function has left.

        Parameters
        ----------
        most_ms, reserve_ms
            The length of the part; and the time that stays for what comes after it, of which nothing is taken.
        """
        ends_at = max(self._remaining_ms() - most_ms, reserve_ms)
        return TimeBudget(lambda: self._remaining_ms() > ends_at, self._sleep)

    def has_time(self, milliseconds: int) -> bool:
        """Return True if the function has more than this time left."""
        return self._remaining_ms() > milliseconds

    def run(self, function: Callable[[], T]) -> T:
        """Call a function, again while the service is busy, the connection breaks or it raises `TryAgainError`.

        Without time for a first call there is none: a long series of quick requests must not run into the function's
        time-out either.

        Parameters
        ----------
        function
            Sends a request, or several; must be safe to repeat.

        Raises
        ------
        ServiceBusyError
            If there is no time for another call.
        ClientError
            If the service refuses a request for another reason: most often a failed condition.
        """
        wait, ceiling = 0.0, _FIRST_WAIT
        for number in count():
            if self._remaining_ms() - wait * 1000 < _RESERVE_MS:
                break
            if number:
                self._sleep(wait)
            try:
                return function()
            except ClientError as error:
                if not is_busy(error):
                    raise
            except (HTTPClientError, AwsConnectionError, TryAgainError):
                # A request may have taken effect; it is repeated because every write of ours is safe to repeat.
                pass
            wait = random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing
            ceiling = min(ceiling * 2, _LONGEST_WAIT)
        raise ServiceBusyError("service busy; nothing was acknowledged, retry the request")

    def run_conditional(self, write: Callable[[], object]) -> bool:
        """Call a function that makes one conditional write, as `run` does.

        Returns
        -------
        bool
            False if the condition failed.

        Raises
        ------
        ServiceBusyError, ClientError
            As `run` does.
        """
        try:
            self.run(write)
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            return False
        return True
