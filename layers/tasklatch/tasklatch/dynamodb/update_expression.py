"""Update expressions of UpdateItem. Their text is rendered once for each shape; a request only brings its values."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import to_attribute

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

Values = Mapping[str, "AttributeValueTypeDef"]
Condition = tuple[str, str, "AttributeValueTypeDef"]
"""Attribute, comparison, value; conditions with the comparison ``IN`` on one attribute are one list."""

RESERVED_WORDS: Final = frozenset({"definition", "group", "name", "status"})
"""The attributes of the table that DynamoDB takes in an expression only through a placeholder."""

_ONE: Final = to_attribute(1)


class ItemUpdate(NamedTuple):
    """Changes to an item, and the conditions on which they are made.

    Attributes
    ----------
    assigned
        The attributes to set.
    initial
        The attributes to set only if the item does not have them.
    removed
        The attributes to remove.
    conditions
        The conditions, all of which must hold.
    absent
        The attributes that the item must not have.
    must_exist
        False if the item is created where it does not exist.
    is_new_version
        True if the item's version is increased by one.
    """

    assigned: Values
    initial: Values = MappingProxyType({})
    removed: Sequence[str] = ()
    conditions: Sequence[Condition] = ()
    absent: Sequence[str] = ()
    must_exist: bool = True
    is_new_version: bool = False

    def expressions(self) -> dict[str, Any]:
        """Return the expressions of UpdateItem, with their names and values."""
        compared = tuple((attribute, comparison) for attribute, comparison, _ in self.conditions)
        shape = (tuple(self.assigned), tuple(self.initial), tuple(self.removed), compared, tuple(self.absent))
        text = _render(*shape, self.must_exist, self.is_new_version)
        values = [*self.assigned.values(), *self.initial.values(), *(value for _, _, value in self.conditions)]
        if self.is_new_version:
            values.append(_ONE)
        expressions: dict[str, Any] = {"UpdateExpression": text.update}
        if text.condition:
            expressions["ConditionExpression"] = text.condition
        if text.names:
            expressions["ExpressionAttributeNames"] = dict(text.names)
        if values:
            expressions["ExpressionAttributeValues"] = dict(zip(text.placeholders, values, strict=True))
        return expressions


class _Text(NamedTuple):
    update: str
    condition: str
    names: dict[str, str]
    placeholders: tuple[str, ...]


@lru_cache(maxsize=256)
def _render(
    assigned: tuple[str, ...],
    initial: tuple[str, ...],
    removed: tuple[str, ...],
    compared: tuple[tuple[str, str], ...],
    absent: tuple[str, ...],
    must_exist: bool,  # noqa: FBT001 - it is called in one place
    is_new_version: bool,  # noqa: FBT001
) -> _Text:
    count = len(assigned) + len(initial) + len(compared) + is_new_version
    placeholders = tuple(f":v{index}" for index in range(count))
    following = iter(placeholders)
    sets = [f"{_name(attribute)} = {next(following)}" for attribute in assigned]
    sets += [f"{_name(name)} = if_not_exists({_name(name)}, {next(following)})" for name in initial]
    terms = [f"attribute_exists({keys.PK})"] if must_exist else []
    terms += [f"attribute_not_exists({_name(attribute)})" for attribute in absent]
    terms += _conditions([(attribute, comparison, next(following)) for attribute, comparison in compared])
    if is_new_version:
        sets.append(f"version = version + {next(following)}")
    clauses = [f"SET {', '.join(sets)}"] if sets else []
    if removed:
        clauses.append(f"REMOVE {', '.join(map(_name, removed))}")
    attributes = {*assigned, *initial, *removed, *absent, *(attribute for attribute, _ in compared)}
    names = {f"#{attribute}": attribute for attribute in sorted(attributes & RESERVED_WORDS)}
    return _Text(" ".join(clauses), " AND ".join(terms), names, placeholders)


def _conditions(compared: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return the terms of a condition; those that compare one attribute with `IN` become one."""
    terms: dict[tuple[str, str], list[str]] = {}
    for attribute, comparison, placeholder in compared:
        terms.setdefault((attribute, comparison), []).append(placeholder)
    return [
        f"{_name(attribute)} IN ({', '.join(operands)})"
        if comparison == "IN"
        else " AND ".join(f"{_name(attribute)} {comparison} {operand}" for operand in operands)
        for (attribute, comparison), operands in terms.items()
    ]


def _name(attribute: str) -> str:
    return f"#{attribute}" if attribute in RESERVED_WORDS else attribute
