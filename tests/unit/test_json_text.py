"""JSON that every parser reads alike: repeated keys, encodings, numbers, depth."""

import json
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasklatch.domain.errors import PayloadTooLargeError
from tasklatch.domain.json_text import MAX_NESTING, InvalidJsonError, dump_payload, is_too_deep, parse

REPEATED: Final = {
    b'{"a": 1, "a": 1}': ("a",),
    b'{"a": {"b": 1, "c": [0, {"d": 1, "\\u0064": 2}]}}': ("a", "c", 1, "d"),
    b'[{}, {"a": {}}, {"": 1, "": 2}]': (2, ""),
    b'{"a": 1, "b": {"x": 1, "x": 2}, "a": 3}': ("a",),
}


@pytest.mark.parametrize(("text", "path"), REPEATED.items(), ids=range(len(REPEATED)))
def test_repeated_key_is_refused_with_its_place(text: bytes, path: tuple[str | int, ...]) -> None:
    with pytest.raises(InvalidJsonError) as caught:
        parse(text)
    assert (caught.value.kind, caught.value.path) == ("repeated_key", path)


def test_keys_that_only_look_alike_are_not_repeated() -> None:
    assert parse('{"a": 1, "A": 2, "á": 3, "a\u0301": 4, "b": {"a": 5}}'.encode()) == {
        "a": 1,
        "A": 2,
        "á": 3,
        "a\u0301": 4,
        "b": {"a": 5},
    }


KEPT: Final = {
    "0": "0",
    "-1": "-1",
    "1.0": "1.0",
    "1": "1",
    "-0": "-0.0",
    "-0.0": "-0.0",
    "1e2": "100.0",
    "1E+2": "100.0",
    "0.1": "0.1",
    "1.50": "1.5",
    "0.10000000000000001": "0.1",
    "0.1000000000000000055511151231257827": "0.1",
    "9007199254740993": "9007199254740993",
    "9" * 4_300: "9" * 4_300,
    "1.7976931348623157e308": "1.7976931348623157e+308",
    "5e-324": "5e-324",
    "1e22": "1e+22",
}
"""What is sent, and what comes back: the same integer, or the same double."""

REFUSED: Final = (
    "1E400",
    "-1e400",
    "1e-400",
    "9007199254740993.0",
    "0.12345678901234567890",
    "12345678901234567890.12",
    "1e99999999999999999999",
    "9" * 4_301,
    "0." + "1" * 5_000,
    "NaN",
    "Infinity",
    "-Infinity",
)


@pytest.mark.parametrize(("sent", "stored"), KEPT.items(), ids=[name[:30] for name in KEPT])
def test_number_comes_back_as_the_number_that_was_sent(sent: str, stored: str) -> None:
    text = dump_payload(parse(f'{{"n": [{sent}]}}'.encode()), "it", 10_000)
    assert text == f'{{"n":[{stored}]}}'
    assert dump_payload(json.loads(text), "it", 10_000) == text, "however often it is read and written"


@pytest.mark.parametrize("sent", REFUSED, ids=[name[:30] for name in REFUSED])
def test_number_that_would_not_come_back_is_refused(sent: str) -> None:
    with pytest.raises(InvalidJsonError) as caught:
        parse(f'{{"n": [{sent}]}}'.encode())
    assert caught.value.kind == "number"


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(17, 40))
def test_every_double_is_taken_however_long_it_is_written(value: float, digits: int) -> None:
    for text in (repr(value), f"{value:.{digits - 1}e}", str(Decimal(value))):
        assert parse(text.encode()) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_decimal_of_up_to_fifteen_digits_comes_back_with_its_value(value: Decimal) -> None:
    assert Decimal(json.dumps(parse(f"{value:f}".encode()))) == value


ENCODINGS: Final = {
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "UTF-16, big end first": "{}".encode("utf-16-be"),
    "UTF-32": "{}".encode("utf-32-le"),
    "Latin-1": '"ä"'.encode("latin-1"),
    "surrogate in UTF-8": b'"\xed\xa0\x80"',
    "overlong": b'"\xc0\xaf"',
    "cut": "ä".encode()[:1],
}


@pytest.mark.parametrize("data", ENCODINGS.values(), ids=ENCODINGS)
def test_text_that_is_not_utf_8_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidJsonError) as caught:
        parse(data)
    assert caught.value.kind == "encoding"


@pytest.mark.parametrize(
    "data",
    [b"", b" ", b"01", b"-", b"+1", b".5", b"1.", b"0x1", b"{}{}", b"[1,]", b'{"a":1,}', b"[1 2]", b"'a'", b"{a:1}"],
)
def test_what_is_almost_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidJsonError):
        parse(data)


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\udc00\\ud800"', '{"\\uDBFF": 1}'])
def test_half_of_a_surrogate_pair_is_refused_and_a_whole_one_taken(text: str) -> None:
    with pytest.raises(InvalidJsonError):
        parse(text.encode())
    assert parse(b'"\\ud83d\\ude00 \\\\ud800"') == "\U0001f600 \\ud800"


def nested(levels: int, kind: str = "[") -> bytes:
    opening, closing = (b"[", b"]") if kind == "[" else (b'{"a":', b"}")
    return opening * (levels - 1) + (b"[]" if kind == "[" else b"{}") + closing * (levels - 1)


@pytest.mark.parametrize("kind", ["[", "{"])
def test_depth_is_bounded(kind: str) -> None:
    value = parse(nested(MAX_NESTING, kind))
    assert not is_too_deep(value)
    for levels in (MAX_NESTING + 1, 900, 200_000):
        with pytest.raises(InvalidJsonError) as caught:
            parse(nested(levels, kind))
        assert caught.value.kind == "too_deep"


def test_depth_is_looked_at_without_recursion() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    assert is_too_deep(value)
    with pytest.raises(PayloadTooLargeError, match="60 levels"):
        dump_payload({"a": value}, "it", 10_000)


def test_brackets_in_texts_are_no_depth() -> None:
    assert parse(json.dumps({"a": "[{" * 1_000}).encode()) == {"a": "[{" * 1_000}


def test_repeated_key_in_a_deep_text_ends_in_an_error_of_ours() -> None:
    with pytest.raises(InvalidJsonError):
        parse(b'{"a":1,"a":' + nested(200_000) + b"}")


@given(st.binary(max_size=100))
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    try:
        value = parse(data)
    except InvalidJsonError:
        return
    json.dumps(value)
