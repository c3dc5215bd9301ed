"""Values of a query string, which are all text: numbers, booleans and times in the formats of the API description.

Pydantic accepts more: `6` as a time, `1_0` as a number, `on` as true. A client that sends such a value means something
else, and another parser would read it in another way.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BeforeValidator, WithJsonSchema

_INTEGER: Final = r"-?(0|[1-9][0-9]*)"
_TIMESTAMP: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_PYTHON_BOOLEANS: Final = {"True": "true", "False": "false"}


def _require(pattern: str, message: str) -> BeforeValidator:
    compiled = re.compile(pattern)

    def check(value: Any) -> Any:
        if isinstance(value, str) and not compiled.fullmatch(value):
            raise ValueError(message)
        return value

    return BeforeValidator(check)


def _parse_boolean(value: Any) -> Any:
    text = _PYTHON_BOOLEANS.get(value, value)
    if isinstance(text, str) and text not in _PYTHON_BOOLEANS.values():
        raise ValueError("must be true or false")
    return text


DECIMAL: Final = _require(_INTEGER, "must be an integer in decimal digits")
"""Validator of an `int`, to be placed after its bounds."""

QueryBool = Annotated[
    bool,
    BeforeValidator(_parse_boolean),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": list(_PYTHON_BOOLEANS)}]}),
]
"""Accepts Python's spelling too: clients of the platforms that use `requests` send it."""

Timestamp = Annotated[
    AwareDatetime, _require(_TIMESTAMP, "must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z")
]


def to_milliseconds(value: datetime | None) -> int | None:
    """Return a time in milliseconds since the epoch, as the table stores it; a time before 1970 becomes 0."""
    return max(round(value.timestamp() * 1000), 0) if value is not None else None
