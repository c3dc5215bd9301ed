"""Pagination cursors: opaque to the caller, and valid only for the list that returned them, filters included."""

import base64
import json
from hashlib import sha256
from typing import Final

from tasklatch.domain.errors import InvalidRequestError

_LONGEST_POSITION_BYTES: Final = 1023
"""Size of DynamoDB's sort keys, less the one byte that is added to continue a list directly after a position."""

_PARTS: Final = 2


def _scope_digest(scope: str) -> str:
    return sha256(scope.encode()).hexdigest()[:8]


def encode_cursor(scope: str, position: str) -> str:
    """Return a cursor for the list that `scope` names; `position` is the sort key of the last returned item."""
    return base64.urlsafe_b64encode(json.dumps([_scope_digest(scope), position]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, scope: str) -> str:
    """Return the position in a cursor.

    Raises
    ------
    InvalidRequestError
        If the cursor was not created for this list.
    """
    try:
        parts = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, RecursionError) as error:
        raise invalid_cursor() from error
    if not isinstance(parts, list) or len(parts) != _PARTS or not all(isinstance(part, str) for part in parts):
        raise invalid_cursor()
    if parts[0] != _scope_digest(scope) or not _can_be_key(parts[1]):
        raise invalid_cursor()
    return str(parts[1])


def _can_be_key(position: str) -> bool:
    try:
        return 1 <= len(position.encode()) <= _LONGEST_POSITION_BYTES
    except UnicodeEncodeError:
        # Half of a surrogate pair has no UTF-8 form.
        return False


def invalid_cursor() -> InvalidRequestError:
    """Return the error for a cursor that was not created for this list."""
    error: dict[str, object] = {"loc": ["query", "cursor"], "msg": "invalid cursor for this query", "type": "cursor"}
    return InvalidRequestError("invalid cursor for this query", [error])
