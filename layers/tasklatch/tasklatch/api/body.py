"""Request bodies: decoded up to a size limit, parsed as strict JSON, validated against a model."""

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
"""Limit after decoding. Lambda's own limit is 6 MB for a request, base64 included."""

MAX_PAYLOAD_BYTES: Final = 100 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_LONGEST_STEP: Final = 255
"""Characters of one part of an error's `loc`: the length of the longest valid name."""

_CHARSET: Final = re.compile(r"charset\s*=\s*\"?([^\s;,\"]+)", re.IGNORECASE)
_UTF_8: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


M = TypeVar("M", bound=BaseModel)


def read_body(event: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
    """Return the decoded body of an API Gateway event.

    Raises
    ------
    InvalidRequestError
        If the body is not valid in its encoding.
    PayloadTooLargeError
        If the decoded body is over `MAX_BODY_BYTES`.
    UnsupportedEncodingError
        If the content encoding is not gzip, or the charset is not UTF-8.
    """
    charset = _CHARSET.search(headers.get("content-type", ""))
    if charset and charset[1].lower() not in _UTF_8:
        raise UnsupportedEncodingError(f"charset {charset[1][:40]!r} is not supported: JSON is UTF-8")
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
        If the data is not such JSON; the error has the location in the body.
    """
    try:
        return json_text.parse(data)
    except json_text.InvalidJsonError as error:
        path = map(_cut, error.path[: json_text.MAX_NESTING])
        field_error: dict[str, object] = {"loc": ["body", *path], "msg": str(error), "type": error.kind}
        raise InvalidRequestError("invalid JSON in the request body", [field_error]) from error


def validate(model: type[M], value: Any, *where: str | int) -> M:
    """Validate a parsed body against a model.

    Parameters
    ----------
    where
        Path to the value in the body, for the errors.

    Raises
    ------
    InvalidRequestError
        If the value does not match; the errors do not repeat the input.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidRequestError("invalid request body", field_errors(error, "body", *where)) from error


def field_errors(error: ValidationError, *where: str | int) -> list[dict[str, object]]:
    """Return pydantic's errors without the input, which may be large or secret; names of unknown fields are cut."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        {"loc": [*where, *map(_cut, entry["loc"])], "msg": entry["msg"], "type": entry["type"]}
        for entry in errors[:MAX_REPORTED_ERRORS]
    ]


def _cut(step: str | int) -> str | int:
    return step[:_LONGEST_STEP] if isinstance(step, str) else step


def dump_json(value: Mapping[str, Any] | None, *where: str | int, limit: int = MAX_PAYLOAD_BYTES) -> str | None:
    """Return a payload, such as an input or output, as JSON text to store.

    Parameters
    ----------
    where
        Path to the payload in the body, for the errors.
    limit
        Limit of the text in bytes.

    Raises
    ------
    PayloadTooLargeError
        If the text is over the limit, or the payload is nested too deep.
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
        raise _invalid("body", "incomplete gzip stream", "gzip_invalid")
    if unpacker.unused_data:
        # Garbage or a second gzip member: to ignore it would be to accept only part of the request.
        raise _invalid("body", "data after the end of the gzip stream", "gzip_invalid")
    return unpacked


def _too_large() -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the body is over {MAX_BODY_BYTES:,} bytes after decompression")


def _invalid(location: str, message: str, kind: str) -> InvalidRequestError:
    return InvalidRequestError(f"invalid {location}", [{"loc": [location], "msg": message, "type": kind}])
