"""Retries of requests to a busy AWS service: full jitter, within the time that the function has left."""

import random
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final, TypeVar

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as AwsConnectionError

from tasklatch.domain.errors import ServiceBusyError

T = TypeVar("T")

BUSY_CODES: Final = frozenset(
    {
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "ServiceUnavailable",
        "ThrottlingError",
        "ThrottlingException",
        "TransactionConflict",
        "TransactionConflictException",
    },
)
"""Error codes of AWS requests that may succeed a moment later: those of DynamoDB's exceptions and statement errors, of
the event bus, the queue, the scheduler and the WebSocket connections."""

_FIRST_WAIT: Final = 0.025
_LONGEST_WAIT: Final = 1.0
_RESERVE_MS: Final = 4_500


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

    def attempts(self) -> Iterator[int]:
        """Yield a number for each attempt, from 0, and wait between them.

        Without time for a first attempt there is none: a long series of quick requests must not run into the function's
        time-out either.

        Raises
        ------
        ServiceBusyError
            If there is no time for another attempt.
        """
        number, wait = 0, 0.0
        while True:
            if self._remaining_ms() - wait * 1000 < _RESERVE_MS:
                raise ServiceBusyError("service busy; nothing was acknowledged, retry the request")
            if number:
                self._sleep(wait)
            yield number
            ceiling = min(_FIRST_WAIT * 2**number, _LONGEST_WAIT)
            wait = random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing
            number += 1

    def run(self, request: Callable[[], T]) -> T:
        """Send a request, again while the service is busy or the connection breaks.

        Parameters
        ----------
        request
            Sends the request once; must be safe to repeat.

        Raises
        ------
        ServiceBusyError
            If there is no time for another attempt.
        ClientError
            If the service refuses the request for another reason: most often a failed condition.
        """
        for _ in self.attempts():
            try:
                return request()
            except ClientError as error:
                if not _is_busy(error):
                    raise
            except (HTTPClientError, AwsConnectionError):
                # The request may have taken effect; it is repeated because every write of ours is safe to repeat.
                continue
        raise AssertionError("tries end by raising")


def _is_busy(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return error.response["Error"]["Code"] in BUSY_CODES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
