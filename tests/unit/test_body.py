"""Request bodies: whatever is sent is either understood or refused with its own status, and unpacked within a bound."""

import base64
import gzip
import json
import zlib
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasklatch.api.body import MAX_BODY_BYTES, MAX_PAYLOAD_BYTES, dump_json, parse_json, read_body, validate
from tasklatch.api.v1.reports.models import ReportBody
from tasklatch.domain.errors import InvalidRequestError, PayloadTooLargeError, TasklatchError, UnsupportedEncodingError
from tasklatch.domain.json_text import MAX_NESTING
from tasklatch.domain.status import REPORTABLE

GZIP: Final = {"content-encoding": "gzip"}


def packed(data: bytes) -> dict[str, Any]:
    return {"body": base64.b64encode(data).decode(), "isBase64Encoded": True}


def test_body_comes_as_text_as_base64_or_gzipped() -> None:
    data = '{"a":"ä"}'.encode()
    assert read_body({"body": data.decode(), "isBase64Encoded": False}, {}) == data
    assert read_body(packed(data), {}) == data
    for name in ("gzip", "GZIP", " gzip ", "x-gzip"):
        assert read_body(packed(gzip.compress(data)), {"content-encoding": name}) == data
    assert read_body(packed(data), {"content-encoding": "identity"}) == data


@pytest.mark.parametrize("event", [{}, {"body": None}, {"body": ""}])
def test_no_body_is_an_empty_one(event: dict[str, Any]) -> None:
    assert read_body(event, {}) == b""


BROKEN: Final[dict[str, tuple[dict[str, Any], dict[str, str], type[TasklatchError]]]] = {
    "no base64": ({"body": "!", "isBase64Encoded": True}, {}, InvalidRequestError),
    "base64 with other letters": ({"body": "ää==", "isBase64Encoded": True}, {}, InvalidRequestError),
    "lone surrogate": ({"body": "\ud800"}, {}, InvalidRequestError),
    "no gzip": (packed(b"plain"), GZIP, InvalidRequestError),
    "gzip of nothing at all": (packed(b""), GZIP, InvalidRequestError),
    "truncated gzip": (packed(gzip.compress(b"x" * 1000)[:-5]), GZIP, InvalidRequestError),
    "corrupt gzip": (packed(gzip.compress(b"x" * 1000)[:-8] + b"\0" * 8), GZIP, InvalidRequestError),
    "zlib without gzip": (packed(zlib.compress(b"{}")), GZIP, InvalidRequestError),
    "too large": ({"body": "x" * (MAX_BODY_BYTES + 1)}, {}, PayloadTooLargeError),
    "gzip of too much": (packed(gzip.compress(b"x" * (MAX_BODY_BYTES + 1))), GZIP, PayloadTooLargeError),
    "bomb": (packed(gzip.compress(b"\0" * 200_000_000, 1)), GZIP, PayloadTooLargeError),
    "deflate": (packed(b""), {"content-encoding": "deflate"}, UnsupportedEncodingError),
    "brotli": (packed(b""), {"content-encoding": "br"}, UnsupportedEncodingError),
    "twice": (packed(b""), {"content-encoding": "gzip, gzip"}, UnsupportedEncodingError),
}


@pytest.mark.parametrize(("event", "headers", "error"), BROKEN.values(), ids=BROKEN)
def test_broken_body_is_refused(event: dict[str, Any], headers: dict[str, str], error: type[TasklatchError]) -> None:
    with pytest.raises(error):
        read_body(event, headers)


@pytest.mark.parametrize("packing", [packed, lambda data: packed(gzip.compress(data))], ids=["plain", "gzip"])
def test_body_of_the_greatest_size_passes(packing: Any) -> None:
    data = b"x" * MAX_BODY_BYTES
    event = packing(data)
    headers = GZIP if len(event["body"]) < MAX_BODY_BYTES else {}
    assert read_body(event, headers) == data


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"nul",
        b"NaN",
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b"\xff",
        b'"\x01"',
        b"[" * 100_000,
        b"[" * (MAX_NESTING + 1) + b"]" * (MAX_NESTING + 1),
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b"1" * 10_000,
        b"{}{}",
        b"{'a':1}",
    ],
    ids=range(16),
)
def test_what_is_not_strict_json_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        parse_json(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=10,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    try:
        value = parse_json(data)
    except InvalidRequestError:
        return
    json.dumps(value)


@given(json_values | st.dictionaries(st.sampled_from(sorted(ReportBody.model_fields)), json_values, max_size=4))
def test_any_json_that_is_no_report_is_refused(value: Any) -> None:
    fits = (
        isinstance(value, dict)
        and value.get("status") in list(REPORTABLE)
        and set(value) <= set(ReportBody.model_fields)
    )
    try:
        validate(ReportBody, value)
    except InvalidRequestError:
        return
    assert fits


def test_payload_is_measured_in_bytes_of_json() -> None:
    room = MAX_PAYLOAD_BYTES - len('{"a":""}')
    assert dump_json({"a": "x" * room}, "output") is not None
    assert dump_json({"a": "ä" * (room // 2)}, "output") is not None
    for over in ("x" * (room + 1), "ä" * (room // 2 + 1), '"' * (room // 2 + 1)):
        with pytest.raises(PayloadTooLargeError, match="output"):
            dump_json({"a": over}, "output")


def test_no_payload_is_none_and_an_empty_one_is_kept() -> None:
    assert dump_json(None, "output") is None
    assert dump_json({}, "output") == "{}"


def test_faults_are_named_without_repeating_what_was_sent() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        validate(ReportBody, {"status": "COMPLETED", "attempt": "secret", "token": "secret"}, "statuses", 4)
    assert {(tuple(error["loc"]), error["type"]) for error in caught.value.errors} == {  # type: ignore[arg-type]
        (("body", "statuses", 4, "attempt"), "int_type"),
        (("body", "statuses", 4, "token"), "extra_forbidden"),
    }
    assert "secret" not in json.dumps(caught.value.errors).replace('"token"', "")


def test_list_of_faults_is_bounded() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        validate(ReportBody, {f"field {number}": 1 for number in range(1000)})
    assert len(caught.value.errors) == 20
