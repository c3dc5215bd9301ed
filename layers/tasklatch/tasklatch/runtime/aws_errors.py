"""Kinds of errors of AWS requests."""

from http import HTTPStatus
from typing import Final

from botocore.exceptions import ClientError

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
the event bus, the queue and the WebSocket connections."""

CONDITION_FAILURE: Final = "ConditionalCheckFailed"
"""Error code of a statement in a batch whose condition does not hold; DynamoDB's exception adds "Exception"."""


REFUSED_CODES: Final = frozenset(
    {
        "BatchRequestTooLong",
        "InvalidMessageContents",
        "ItemCollectionSizeLimitExceededException",
        "ValidationException",
    },
)
"""Error codes of AWS requests that are refused for their content: no other attempt will be taken either."""


def is_refused(error: ClientError) -> bool:
    """Return True if a request was refused for its content."""
    return error.response["Error"]["Code"] in REFUSED_CODES


def is_condition_failure(error: ClientError) -> bool:
    """Return True if DynamoDB refused a write because its condition does not hold."""
    return error.response["Error"]["Code"] == f"{CONDITION_FAILURE}Exception"


def is_busy(error: ClientError) -> bool:
    """Return True if the request may succeed a moment later: it was throttled, conflicted, or the service failed."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return error.response["Error"]["Code"] in BUSY_CODES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
