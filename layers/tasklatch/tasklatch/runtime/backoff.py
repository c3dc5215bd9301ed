"""Waiting out a busy table: full jitter, within the time that the function has left."""

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
"""What AWS calls a request that may go through a moment later: DynamoDB as an exception and as a statement's error, the
bus, the queue, the scheduler and live connections in words of their own."""

_FIRST_WAIT: Final = 0.025
_LONGEST_WAIT: Final = 1.0
_RESERVE_MS: Final = 4_500


class Backoff:
    """How long a caller can wait.

    Parameters
    ----------
    remaining_ms
        Gives the milliseconds that are left. No try is begun that could not end, by the client's time-outs, and
        still leave time to answer.
    sleep
        Waits for some seconds.
    """

    def __init__(self, remaining_ms: Callable[[], int], sleep: Callable[[float], None] = time.sleep) -> None:
        self._remaining_ms = remaining_ms
        self._sleep = sleep

    def attempts(self) -> Iterator[int]:
        """Yield a number for each try, and wait between them.

        Where there is no time even for a first, none is made: many calls one after the other, each of them quick, must
        not run into the end of the function's time either.

        Raises
        ------
        ServiceBusyError
            When there is no time for another.
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
        """Make a call, again while the table is busy or the connection breaks.

        Raises
        ------
        ServiceBusyError
            When there is no time for another try.
        ClientError
            When the table refused it for another cause: a failed condition above all.
        """
        for _ in self.attempts():
            try:
                return request()
            except ClientError as error:
                if not _is_busy(error):
                    raise
            except (HTTPClientError, AwsConnectionError):
                # The call may have taken effect all the same; every write of ours can be sent twice.
                continue
        raise AssertionError("tries end by raising")


def _is_busy(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return error.response["Error"]["Code"] in BUSY_CODES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
