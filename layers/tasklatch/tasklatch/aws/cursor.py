"""Where a list goes on: opaque to the caller, and good only for the list it came from."""

import base64
import binascii
import json
from hashlib import sha256

from tasklatch.domain.errors import InvalidRequestError


def _seal(scope: str) -> str:
    return sha256(scope.encode()).hexdigest()[:8]


def encode_cursor(scope: str, *parts: str) -> str:
    """Make a cursor for the list that `scope` names."""
    return base64.urlsafe_b64encode(json.dumps([_seal(scope), *parts]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, scope: str, count: int) -> list[str]:
    """Read a cursor's parts back.

    Raises
    ------
    InvalidRequestError
        If it was not made for this list.
    """
    try:
        parts = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        parts = None
    if (
        not isinstance(parts, list)
        or len(parts) != count + 1
        or not all(isinstance(part, str) for part in parts)
        or parts[0] != _seal(scope)
    ):
        error: dict[str, object] = {
            "loc": ["query", "cursor"],
            "msg": "not a cursor of this list",
            "type": "cursor",
        }
        raise InvalidRequestError("the cursor is not one of this list's", [error])
    return parts[1:]
