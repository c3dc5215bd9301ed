"""Request bodies: unpacked within a bound, parsed as strict JSON, checked against a model."""

import base64
import re
import zlib
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from tasklatch.domain import json_text
from tasklatch.domain.errors import (
    MAX_REPORTED_ERRORS,
    InvalidRequestError,
    PayloadTooLargeError,
    UnsupportedEncodingError,
)

MAX_BODY_BYTES: Final = 5 * 1024 * 1024
"""After unpacking. Lambda itself takes 6 MB a request, base64 included."""

MAX_PAYLOAD_BYTES: Final = 100 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_LONGEST_STEP: Final = 255
"""Of a fault's path: as long as the longest name that can be right."""

_CHARSET: Final = re.compile(r"charset\s*=\s*\"?([^\s;,\"]+)", re.IGNORECASE)
_UTF_8: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


M = TypeVar("M", bound=BaseModel)


def read_body(event: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
    """Take the body out of an API Gateway event, unpacked.

    Raises
    ------
    InvalidRequestError
        If it is not what its encoding says.
    PayloadTooLargeError
        If it is, or unpacks to, more than `MAX_BODY_BYTES`.
    UnsupportedEncodingError
        If it is encoded in another way than gzip, or is said to be in another charset than UTF-8.
    """
    charset = _CHARSET.search(headers.get("content-type", ""))
    if charset and charset[1].lower() not in _UTF_8:
        raise UnsupportedEncodingError(f"charset {charset[1][:40]!r} is not served: JSON is UTF-8")
    raw: str = event.get("body") or ""
    try:
        data = base64.b64decode(raw, validate=True) if event.get("isBase64Encoded") else raw.encode()
    except ValueError as error:
        raise _invalid("body", "not valid base64 or text", "encoding") from error
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        data = _gunzip(data)
    elif encoding not in ("identity", ""):
        raise UnsupportedEncodingError(f"Content-Encoding {encoding[:40]!r} is not supported: use gzip or none")
    if len(data) > MAX_BODY_BYTES:
        raise _too_large()
    return data


def parse_json(data: bytes) -> Any:
    """Parse JSON as strictly as `tasklatch.domain.json_text.parse` does.

    Raises
    ------
    InvalidRequestError
        If it is anything else, with the place of what is wrong.
    """
    try:
        return json_text.parse(data)
    except json_text.InvalidJsonError as error:
        path = map(_cut, error.path[: json_text.MAX_NESTING])
        fault: dict[str, object] = {"loc": ["body", *path], "msg": str(error), "type": error.kind}
        raise InvalidRequestError("the body cannot be read", [fault]) from error


def validate(model: type[M], value: Any, *where: str | int) -> M:
    """Check a parsed body against a model.

    Parameters
    ----------
    where
        The path to the value in the body, for the errors.

    Raises
    ------
    InvalidRequestError
        Naming each fault, without repeating what was sent.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidRequestError("invalid request body", field_errors(error, "body", *where)) from error


def field_errors(error: ValidationError, *where: str | int) -> list[dict[str, object]]:
    """What pydantic found, without the input, which may be large or secret; unknown fields are named, but cut."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        {"loc": [*where, *map(_cut, entry["loc"])], "msg": entry["msg"], "type": entry["type"]}
        for entry in errors[:MAX_REPORTED_ERRORS]
    ]


def _cut(step: str | int) -> str | int:
    return step[:_LONGEST_STEP] if isinstance(step, str) else step


def dump_json(value: Mapping[str, Any] | None, *where: str | int, limit: int = MAX_PAYLOAD_BYTES) -> str | None:
    """Put an input, output or the like into the JSON text that is kept.

    Parameters
    ----------
    where
        Its place in the body, for the errors.
    limit
        The most that is kept, in bytes.

    Raises
    ------
    PayloadTooLargeError
        If the text is over the limit, or nested too deep.
    """
    return None if value is None else json_text.dump_payload(value, ".".join(map(str, where)), limit)


def _gunzip(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(_GZIP)
    try:
        unpacked = unpacker.decompress(data, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise _invalid("body", "not valid gzip", "gzip_invalid") from error
    if len(unpacked) > MAX_BODY_BYTES:
        raise _too_large()
    if not unpacker.eof:
        raise _invalid("body", "gzip ends too early", "gzip_invalid")
    if unpacker.unused_data:
        # Be it rubbish or a second member: to leave it out would be to take half of what was sent.
        raise _invalid("body", "there is more behind the gzip's end", "gzip_invalid")
    return unpacked


def _too_large() -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the body is over {MAX_BODY_BYTES:,} bytes when unpacked")


def _invalid(location: str, message: str, kind: str) -> InvalidRequestError:
    return InvalidRequestError(f"invalid {location}", [{"loc": [location], "msg": message, "type": kind}])
