"""Rules for ids in paths: ids that a path can carry, and ids that are refused because a path would change them.

API Gateway decodes a path before it matches it, may decode a path parameter a second time, and cuts the path at a
decoded question mark. An id that any of these would change is passed in a body, where nothing decodes it. An id that
the second decoding turns into another id, or that clients and proxies resolve as a relative path, cannot be created.
"""

import re
from typing import Final

_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_DOT_SEGMENT: Final = re.compile(r"(?:^|[/\\])\.{1,2}(?:[/\\]|$)")
_LOST_IN_PATHS: Final = "%/\\?;\ufffd"
"""The last is U+FFFD, which replaces bytes that are not UTF-8."""

PATH_PATTERN: Final = r"^(?!\.{1,2}$)[^\x00-\x1f\x7f-\x9f%/\\?;\ufffd]+$"
"""Pattern of an id that a path can carry, for the API description."""

UNCONFUSED_PATTERN: Final = r"^(?!.*%[0-9A-Fa-f]{2})(?!(?:.*[/\\])?\.{1,2}(?:[/\\]|$))[^\x00-\x1f\x7f-\x9f]*$"
"""Pattern of an id that can be created, for the API description."""


def path_confusion(value: str) -> str | None:
    """Return the reason why an id of this form cannot be created; None if it can."""
    if _ESCAPE.search(value):
        return "'%' followed by two hexadecimal digits is not allowed: decoded again in a path, it is another id"
    if _DOT_SEGMENT.search(value):
        return "'.' and '..' are not allowed, nor between slashes: in a path they are resolved, and another is named"
    return None


def fits_path(value: str) -> bool:
    """Return True if a path carries this id unchanged, however often it is decoded on the way."""
    return not any(character in value for character in _LOST_IN_PATHS) and value not in (".", "..")
