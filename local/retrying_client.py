"""AWS clients that retry transient failures: a broken connection, a service that fails or is busy."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as AwsConnectionError

from local.backoff import DeadlineBackoff, TransientError

_THROTTLED: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    },
)
"""Error codes that AWS's SDKs document as retryable, whatever the status."""


class RetryingClient:
    """A boto3 client that repeats calls while the service is busy, fails or cannot be reached.

    A failed call may still have taken effect: use this client only for calls that are safe to repeat.
    """

    def __init__(self, client: Any, backoff: DeadlineBackoff) -> None:
        self._client = client
        self._backoff = backoff

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if name not in self._client.meta.method_to_api_mapping:
            return attribute

        def call(**parameters: Any) -> Any:
            return self._backoff.run(lambda _: _attempt(attribute, parameters))

        return call


def _attempt(operation: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    try:
        return operation(**parameters)
    except ClientError as error:
        if not _is_transient(error):
            raise
        raise TransientError(error) from error
    except (HTTPClientError, AwsConnectionError) as error:
        raise TransientError(error) from error


def _is_transient(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or error.response["Error"]["Code"] in _THROTTLED
