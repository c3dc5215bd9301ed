"""Rules for ids in paths: ids that a path can carry, and ids that are refused because a path would change them.

API Gateway decodes a path before it matches it, may decode a path parameter a second time, and cuts the path at a
decoded question mark. An id that any of these would change is passed in a body, where nothing decodes it. An id that
the second decoding turns into another id, or that clients and proxies resolve as a relative path, cannot be created.
"""

import re
from typing import Final

# The regular expressions below are composed of these parts; Python and the API description read them alike
_CONTROL: Final = r"\x00-\x1f\x7f-\x9f"
_CHANGED_IN_PATHS: Final = r"%/\\?;\ufffd"
"""Characters that a path can lose or change; the last, U+FFFD, replaces bytes that are not UTF-8."""
_DOTS: Final = r"\.{1,2}"
_DOTS_TO_END_OF_SEGMENT: Final = _DOTS + r"(?:[/\\]|$)"
_ESCAPE: Final = r"%[0-9A-Fa-f]{2}"

PATH_PATTERN: Final = f"^(?!{_DOTS}$)[^{_CONTROL}{_CHANGED_IN_PATHS}]+$"
"""Pattern of an id that a path can carry, for the API description."""

NEW_ID_PATTERN: Final = rf"^(?!.*{_ESCAPE})(?!(?:.*[/\\])?{_DOTS_TO_END_OF_SEGMENT})[^{_CONTROL}]*$"
"""Pattern of an id that can be created, for the API description."""

_DOT_SEGMENT: Final = rf"(?:^|[/\\]){_DOTS_TO_END_OF_SEGMENT}"
_CHANGES_IN_PATH: Final = re.compile(rf"[{_CHANGED_IN_PATHS}]|\A{_DOTS}\Z")


def new_id_error(value: str) -> str | None:
    """Return the reason why an id of this form cannot be created; None if it can."""
    if re.search(_ESCAPE, value):
        return "'%' followed by two hexadecimal digits is not allowed: decoding in a path turns it into another id"
    if re.search(_DOT_SEGMENT, value):
        return "'.' and '..' are not allowed, nor between slashes: in a path they lead to another id"
    return None


def fits_path(value: str) -> bool:
    """Return True if a path carries this id unchanged, however often it is decoded on the way."""
    return _CHANGES_IN_PATH.search(value) is None
