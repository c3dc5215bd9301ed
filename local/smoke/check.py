"""A check of a deployed stack, and its possible outcomes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local.smoke.session import SmokeSession


class CheckFailedError(Exception):
    """The stack does not do what the check expects; the text says what it does instead."""


class CheckSkippedError(Exception):
    """The check cannot be made here; the text says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One promise of a stack, checked from outside.

    Attributes
    ----------
    name
        Short name, as it is printed.
    run
        Function that checks it. It returns a detail to print, and raises if the promise does not hold.
    hint
        Part of the stack to look at after a failure.
    """

    name: str
    run: "Callable[[SmokeSession], str]"
    hint: str


def expect(holds: object, text: str) -> None:
    """Fail the check with a text unless a condition holds.

    Raises
    ------
    CheckFailedError
        If the condition is false.
    """
    if not holds:
        raise CheckFailedError(text)
