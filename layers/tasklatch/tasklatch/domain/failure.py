"""Why an attempt failed, and what each reason means for a retry.

The eight reasons and their meanings are those that Atlassian Forge documents for ``updateTaskStatus``.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class FailureReason(StrEnum):
    """What a worker can give as the cause of a failure."""

    ENTITY_NOT_FOUND = "ENTITY_NOT_FOUND"
    RETRY_LIMIT_EXCEEDED = "RETRY_LIMIT_EXCEEDED"
    NON_RETRYABLE_ERROR = "NON_RETRYABLE_ERROR"
    UNAUTHORIZED = "UNAUTHORIZED"
    AUTH_TOKEN_REVOKED = "AUTH_TOKEN_REVOKED"  # noqa: S105 - a reason's name
    AUTH_TOKEN_EXPIRED = "AUTH_TOKEN_EXPIRED"  # noqa: S105 - a reason's name
    RATE_LIMITED = "RATE_LIMITED"
    RETRYABLE_ERROR = "RETRYABLE_ERROR"


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """What follows from a failure reason."""

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
