"""Which ids a path can carry, and which must not exist because a path would take them for another.

API Gateway decodes a path before it matches it, may decode what stands for a parameter once more, and cuts the path
at a decoded question mark. What any of these changes goes through bodies, where an id is what it is. An id that the
second decoding turns into another id, and one that clients and proxies resolve as a path of its own, cannot be
created.
"""

import re
from typing import Final

_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_DOT_SEGMENT: Final = re.compile(r"(?:^|[/\\])\.{1,2}(?:[/\\]|$)")
_LOST_IN_PATHS: Final = "%/\\?;\ufffd"
"""The last is what bytes that are no UTF-8 become."""

PATH_PATTERN: Final = r"^(?!\.{1,2}$)[^\x00-\x1f\x7f-\x9f%/\\?;\ufffd]+$"
"""What an id looks like that a path can carry, for the API description."""

UNCONFUSED_PATTERN: Final = r"^(?!.*%[0-9A-Fa-f]{2})(?!(?:.*[/\\])?\.{1,2}(?:[/\\]|$))[^\x00-\x1f\x7f-\x9f]*$"
"""What an id looks like that can be created, for the API description."""


def path_confusion(value: str) -> str | None:
    """Say why no id can be created that looks like this; None if one can."""
    if _ESCAPE.search(value):
        return "'%' followed by two hexadecimal digits is not allowed: decoded again in a path, it is another id"
    if _DOT_SEGMENT.search(value):
        return "'.' and '..' are not allowed, nor between slashes: in a path they are resolved, and another is named"
    return None


def fits_path(value: str) -> bool:
    """Whether a path names this id, however often it is decoded on the way."""
    return not any(character in value for character in _LOST_IN_PATHS) and value not in (".", "..")
