"""Items of the table: Python values in DynamoDB's form, and back.

The form is that of boto3's serializer, which is not used: it refuses floats, reads numbers as `Decimal`, which no
caller may see, and takes up to three times as long.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import BOOLEAN, LIST, MAP, NUMBER, STRING, STRING_SET

from tasklatch.dynamodb import keys

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

Item = dict[str, "AttributeValueTypeDef"]
Value = str | int | float | bool | frozenset[str] | Sequence[Any] | Mapping[str, Any]


def primary_key(pk: str, sk: str) -> Item:
    """Return the primary key of an item."""
    return {keys.PK: {STRING: pk}, keys.SK: {STRING: sk}}


def key_of(item: Mapping[str, "AttributeValueTypeDef"]) -> Item:
    """Return the primary key of an item, or of an entry of an index."""
    return {keys.PK: item[keys.PK], keys.SK: item[keys.SK]}


def key_texts(item: Mapping[str, Any]) -> tuple[str, str]:
    """Return the partition key and the sort key of an item."""
    return item[keys.PK][STRING], item[keys.SK][STRING]


def sort_key_of(item: Mapping[str, Any], attribute: str = keys.SK) -> str:
    """Return the sort key of an item, or of an entry of an index."""
    text: str = item[attribute][STRING]
    return text


def to_item(values: Mapping[str, Value | None]) -> Item:
    """Return an item of values by attribute; those that are None are left out."""
    return {name: to_attribute(value) for name, value in values.items() if value is not None}


def to_attribute(value: Value) -> "AttributeValueTypeDef":
    """Return one value in DynamoDB's form."""
    if isinstance(value, str):
        return {STRING: value}
    if isinstance(value, bool):
        return {BOOLEAN: value}
    if isinstance(value, int | float):
        return {NUMBER: str(value)}
    if isinstance(value, Mapping):
        return {MAP: to_item(value)}
    if isinstance(value, frozenset):
        return {STRING_SET: sorted(value)}
    return {LIST: [to_attribute(element) for element in value]}


def from_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an item by attribute."""
    return {name: from_attribute(value) for name, value in item.items()}


def from_attribute(attribute: Mapping[str, Any]) -> Any:
    """Return one value: a number as an int where it is one, else as a float.

    Raises
    ------
    ValueError
        If the attribute has another type than this service writes.
    """
    ((kind, content),) = attribute.items()
    if kind in (STRING, BOOLEAN):
        return content
    if kind == NUMBER:
        return _number(content)
    if kind == MAP:
        return from_item(content)
    if kind == LIST:
        return [from_attribute(element) for element in content]
    if kind == STRING_SET:
        return frozenset(content)
    raise ValueError(f"unexpected type of attribute: {kind}")


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
