"""Strict JSON: a text that two parsers could read differently is rejected, with the path of the error.

Numbers are returned as they were sent: integers with all their digits; a decimal that a double cannot hold is rejected.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final

from tasklatch.domain.errors import PayloadTooLargeError

MAX_NESTING: Final = 60
"""Maximum nesting of objects and lists in a body or a stored payload. It leaves room for the levels that responses
and events add around a payload: the strictest parsers in use stop at 64 levels."""

_MAX_DECIMAL_CHARACTERS: Final = 1_100
"""A double has at most 1,077 characters with all its digits."""

_BYTE_ORDER_MARKS: Final = (b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")

_TOO_DEEP: Final = f"nested more than {MAX_NESTING} levels deep"
_REPEATED: Final = "the key is repeated"
_INEXACT: Final = "a decimal number must be one that a double holds: send it as a string"
_TOO_LONG: Final = "an integer has too many digits: send it as a string"
_NOT_JSON: Final = "NaN and Infinity are not JSON"


class InvalidJsonError(ValueError):
    """A text that is not JSON, or that two parsers could read differently.

    Parameters
    ----------
    kind
        Name of the error.
    path
        Path of the error, as far as it is known.
    """

    def __init__(self, message: str, kind: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.path = path


class _UnlocatedError(ValueError):
    """An error whose path is not known yet: a second pass looks for it."""


def parse(data: bytes) -> Any:
    """Parse a JSON text.

    Raises
    ------
    InvalidJsonError
        If it is not UTF-8, not JSON, repeats a key, is nested too deep, or contains a number or text that could not
        be returned as it was sent.
    """
    text = _decode(data)
    decoder = _WITH_NEGATIVE_ZERO if "-0" in text else _DECODER
    try:
        value = decoder.decode(text)
    except RecursionError as error:
        raise InvalidJsonError(_TOO_DEEP, "too_deep") from error
    except _UnlocatedError as error:
        raise _first_error(text) from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidJsonError(f"not valid JSON: {error.msg} at {where}", "json_invalid") from error
    except ValueError as error:
        raise InvalidJsonError(_TOO_LONG, "number") from error
    if text.count("[") + text.count("{") > MAX_NESTING and is_too_deep(value):
        raise InvalidJsonError(_TOO_DEEP, "too_deep")
    if _SURROGATE_ESCAPE.search(text) and _has_lone_surrogate(value):
        raise InvalidJsonError("a text contains half of a surrogate pair", "json_invalid")
    return value


def dump_payload(value: Any, what: str, limit: int) -> str:
    """Serialize a payload to the JSON text to store.

    Parameters
    ----------
    what
        Name of the payload in the error.
    limit
        The maximum size in bytes.

    Raises
    ------
    PayloadTooLargeError
        If it is larger, or nested too deep.
    """
    if is_too_deep(value):
        raise PayloadTooLargeError(f"{what} is {_TOO_DEEP}")
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    size = len(text.encode())
    if size > limit:
        raise PayloadTooLargeError(f"{what} is {size:,} bytes of JSON, the limit is {limit:,}")
    return text


def is_too_deep(value: Any) -> bool:
    """Return True if a value is nested deeper than `MAX_NESTING`; without recursion, so that any depth is safe."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_NESTING):
        if not level:
            return False
        level = [child for parent in level for child in _members(parent) if isinstance(child, dict | list)]
    return bool(level)


def _members(parent: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return parent.values() if isinstance(parent, dict) else parent


def _decode(data: bytes) -> str:
    if data.startswith(_BYTE_ORDER_MARKS):
        raise InvalidJsonError("begins with a byte order mark: send UTF-8 without one", "encoding")
    if b"\0" in data[:4]:
        raise InvalidJsonError("contains NUL bytes, as UTF-16 and UTF-32 do: send UTF-8", "encoding")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidJsonError(f"not UTF-8 at byte {error.start}", "encoding") from error


def _has_lone_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _UnlocatedError
    return members


def _decimal(text: str) -> float:
    value = float(text)
    if repr(value) != text and not _is_exact(text, value):
        raise _UnlocatedError
    return value


def _integer(text: str) -> int | float:
    # An integer zero has no sign; a double keeps it.
    return -0.0 if text == "-0" else int(text)


def _constant(_text: str) -> Any:
    raise _UnlocatedError


def _is_exact(text: str, value: float) -> bool:
    """Return True if a text is a double's shortest form, or its value rounded to any number of digits."""
    if math.isinf(value) or len(text) > _MAX_DECIMAL_CHARACTERS:
        return False
    try:
        sent = Decimal(text)
    except InvalidOperation:
        return False
    rounded = Context(prec=len(sent.as_tuple().digits)).create_decimal_from_float(value)
    return sent in (Decimal(repr(value)), rounded)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_float=_decimal, parse_constant=_constant)
_WITH_NEGATIVE_ZERO: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_decimal, parse_int=_integer, parse_constant=_constant
)


class _Pairs(list[Any]):
    """An object with all its keys, including repeated ones."""


class _Rejected(str):
    """Reason for which a value is rejected, in place of the value."""

    __slots__ = ()


def _decimal_or_rejected(text: str) -> Any:
    try:
        return _decimal(text)
    except _UnlocatedError:
        return _Rejected(_INEXACT)


_EXPLAINING: Final = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_float=_decimal_or_rejected, parse_constant=lambda _: _Rejected(_NOT_JSON)
)


def _first_error(text: str) -> InvalidJsonError:
    """Return the first error of an invalid text, with its path."""
    try:
        value = _EXPLAINING.decode(text)
    except RecursionError:
        return InvalidJsonError(_TOO_DEEP, "too_deep")
    except ValueError as error:
        return InvalidJsonError(f"not valid JSON: {error}", "json_invalid")
    for path, item in _walk(value):
        if isinstance(item, _Rejected):
            return InvalidJsonError(str(item), "number", path)
        if isinstance(item, _Pairs):
            repeated = _repeated(name for name, _ in item)
            if repeated is not None:
                return InvalidJsonError(_REPEATED, "repeated_key", (*path, repeated))
    return InvalidJsonError("not valid JSON", "json_invalid")


def _repeated(names: Iterable[str]) -> str | None:
    earlier: set[str] = set()
    for name in names:
        if name in earlier:
            return name
        earlier.add(name)
    return None


def _walk(root: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield lists and rejected values with their paths, in document order and with only the current path in memory."""
    yield (), root
    levels: list[Iterator[tuple[str | int, Any]]] = [_children(root)]
    path: list[str | int] = []
    while levels:
        step, item = next(levels[-1], (None, None))
        if step is None:
            levels.pop()
            del path[-1:]
            continue
        if isinstance(item, _Rejected | list):
            yield (*path, step), item
        if isinstance(item, list):
            levels.append(_children(item))
            path.append(step)


def _children(item: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(item, _Pairs):
        return iter(item)
    return iter(enumerate(item)) if isinstance(item, list) else iter(())
