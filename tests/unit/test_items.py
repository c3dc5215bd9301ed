"""The codec of items, beside boto3's serializer, whose form it has."""

from decimal import Decimal
from typing import Any, Final

import pytest
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from hypothesis import given
from hypothesis import strategies as st

from tasklatch.domain.status import TaskStatus
from tasklatch.dynamodb.items import from_attribute, from_item, primary_key, to_attribute, to_item

# DynamoDB holds 38 digits
WHOLE: Final = st.integers(min_value=-(10**38) + 1, max_value=10**38 - 1)
LEAVES: Final = st.text() | st.booleans() | WHOLE
VALUES: Final = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
EXACT: Final = st.floats(allow_nan=False, allow_infinity=False)


@given(VALUES)
def test_form_is_that_of_boto3(value: Any) -> None:
    written = to_attribute(value)
    assert written == TypeSerializer().serialize(value)
    assert from_attribute(written) == TypeDeserializer().deserialize(written) == value


@given(st.frozensets(st.text(), min_size=1))
def test_set_of_texts_has_the_form_of_boto3(value: frozenset[str]) -> None:
    written = to_attribute(value)
    assert sorted(written["SS"]) == sorted(TypeSerializer().serialize(value)["SS"])
    assert from_attribute(written) == TypeDeserializer().deserialize(written) == value


@given(VALUES)
def test_value_comes_back_with_its_types(value: Any) -> None:
    result = from_attribute(to_attribute(value))
    assert repr(result) == repr(value), "an int stays an int, and a bool a bool"


@given(EXACT)
def test_decimals_come_back_as_they_were(value: float) -> None:
    result = from_attribute(to_attribute(value))
    assert (result, type(result)) == (value, float)


@pytest.mark.parametrize(
    ("text", "expected"), [("7", 7), ("-0", 0), ("1.5", 1.5), ("1E+2", 100.0), ("9" * 38, int("9" * 38))]
)
def test_number_is_exact_and_never_a_decimal(text: str, expected: float) -> None:
    result = from_attribute({"N": text})
    assert result == expected
    assert not isinstance(result, Decimal)


def test_words_of_an_enumeration_are_texts() -> None:
    assert to_attribute(TaskStatus.FAILED) == {"S": "FAILED"}


def test_what_is_none_is_left_out() -> None:
    assert to_item({"a": "x", "b": None, "c": False, "d": 0}) == {
        "a": {"S": "x"},
        "c": {"BOOL": False},
        "d": {"N": "0"},
    }


def test_key_has_both_parts() -> None:
    assert from_item(primary_key("EXEC#a", "TASK#b")) == {"pk": "EXEC#a", "sk": "TASK#b"}


@pytest.mark.parametrize("attribute", [{"NS": ["1"]}, {"B": b"a"}, {"NULL": True}])
def test_type_that_is_never_written_is_refused(attribute: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="unexpected type"):
        from_attribute(attribute)
