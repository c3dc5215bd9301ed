"""Failure reasons of an attempt, and the effect of each on retries.

The eight reasons and their meanings are those that Atlassian Forge documents for ``updateTaskStatus``.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class FailureReason(StrEnum):
    """Reason that a worker reports for a failure."""

    ENTITY_NOT_FOUND = "ENTITY_NOT_FOUND"
    RETRY_LIMIT_EXCEEDED = "RETRY_LIMIT_EXCEEDED"
    NON_RETRYABLE_ERROR = "NON_RETRYABLE_ERROR"
    UNAUTHORIZED = "UNAUTHORIZED"
    AUTH_TOKEN_REVOKED = "AUTH_TOKEN_REVOKED"  # noqa: S105 - a reason's name
    AUTH_TOKEN_EXPIRED = "AUTH_TOKEN_EXPIRED"  # noqa: S105 - a reason's name
    RATE_LIMITED = "RATE_LIMITED"
    RETRYABLE_ERROR = "RETRYABLE_ERROR"


class FailurePolicy(NamedTuple):
    """Effects of a failure reason: another attempt follows, or a person must act."""

    retryable: bool
    needs_attention: bool


FAILURE_POLICY: Final[dict[FailureReason, FailurePolicy]] = {
    FailureReason.ENTITY_NOT_FOUND: FailurePolicy(retryable=False, needs_attention=False),
    FailureReason.RETRY_LIMIT_EXCEEDED: FailurePolicy(retryable=False, needs_attention=False),
    FailureReason.NON_RETRYABLE_ERROR: FailurePolicy(retryable=False, needs_attention=False),
    FailureReason.UNAUTHORIZED: FailurePolicy(retryable=False, needs_attention=True),
    FailureReason.AUTH_TOKEN_REVOKED: FailurePolicy(retryable=False, needs_attention=True),
    FailureReason.AUTH_TOKEN_EXPIRED: FailurePolicy(retryable=False, needs_attention=True),
    FailureReason.RATE_LIMITED: FailurePolicy(retryable=True, needs_attention=False),
    FailureReason.RETRYABLE_ERROR: FailurePolicy(retryable=True, needs_attention=False),
}
