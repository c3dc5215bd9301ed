"""Where a list goes on: opaque to the caller, and good only for the list it came from, filters included."""

import base64
import json
from hashlib import sha256
from typing import Final

from tasklatch.domain.errors import InvalidRequestError

_LONGEST_POSITION_BYTES: Final = 1023
"""What DynamoDB's sort keys hold, less the one by which a list goes on right behind a position."""

_PARTS: Final = 2


def _scope_digest(scope: str) -> str:
    return sha256(scope.encode()).hexdigest()[:8]


def encode_cursor(scope: str, position: str) -> str:
    """Make a cursor for the list that `scope` names: the sort key of the last item that was given."""
    return base64.urlsafe_b64encode(json.dumps([_scope_digest(scope), position]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, scope: str) -> str:
    """Read a cursor's position back.

    Raises
    ------
    InvalidRequestError
        If it was not made for this list.
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
        # Half of a surrogate pair
        return False


def invalid_cursor() -> InvalidRequestError:
    """The error for a cursor that was not made for this list."""
    error: dict[str, object] = {"loc": ["query", "cursor"], "msg": "invalid cursor for this query", "type": "cursor"}
    return InvalidRequestError("invalid cursor for this query", [error])
