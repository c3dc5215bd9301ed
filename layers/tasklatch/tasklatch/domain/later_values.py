"""Values of enumerations that a later version of the service stored: they are shown, and decide nothing here."""

from enum import StrEnum
from typing import TypeVar

E = TypeVar("E", bound=StrEnum)


def read_value(kind: type[E], text: str) -> E:
    """Return the member for a stored value; for one that this version does not know, a value that is no member.

    Such a value shows its text and differs from every member. So what a later version stored can be listed, and a
    release can be rolled back.
    """
    try:
        return kind(text)
    except ValueError:
        value = str.__new__(kind, text)
        value._name_ = value._value_ = text
        return value


def is_known(value: StrEnum) -> bool:
    """Return True if a value that was read is a member of its enumeration."""
    return value in tuple(type(value))
