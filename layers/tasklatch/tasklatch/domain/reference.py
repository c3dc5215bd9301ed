"""References in inputs: ``${task.output.key}`` stands for what another task was given, or gave.

Any task can be named, also one whose name holds dots or braces: a reference is read with the names in mind that it can
be of. Those are the tasks that its own task waits for; what names none of them is text.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final, NamedTuple

REFERENCE_PREFIX: Final = "${"
WORKFLOW_NAME: Final = "workflow"
"""In a reference, the execution's own input: ``${workflow.input}``."""

_LONGEST_NAME: Final = 255
_LONGEST_PATH: Final = 2_000
_PART: Final = re.compile(r"\.(?:input|output)(?=[.}])")
_REST: Final = re.compile(r"\.(?P<part>input|output)(?P<path>(?:\.[^{}.]+)*)\}")

_STEP: Final = re.compile(r"\A.+?(?=(?:\[\d{1,9}\])*\Z)|\[\d{1,9}\]", re.DOTALL)
"""A key, then the places behind it."""


class Reference(NamedTuple):
    """A place in an input where something of another task belongs."""

    name: str
    part: str
    path: tuple[str, ...]


class Reading(NamedTuple):
    """One way to read a reference, and where it then ends in its text."""

    reference: Reference
    end: int


def find_references(text: str, scope: Collection[str]) -> Iterator[tuple[int, list[Reading]]]:
    """Find the references in a text: where each begins, and the ways to read it, the one with the longest name last.

    Parameters
    ----------
    scope
        The names that a reference can be of.
    """
    start = text.find(REFERENCE_PREFIX)
    while start >= 0:
        readings = list(_readings(text, start, scope))
        if readings:
            yield start, readings
        start = text.find(REFERENCE_PREFIX, readings[-1].end if readings else start + 1)


def possible_references(text: str) -> Iterator[tuple[int, list[Reading]]]:
    """Find whatever could be a reference to a task of some name, also where two of them overlap."""
    start = text.find(REFERENCE_PREFIX)
    while start >= 0:
        yield start, list(_readings(text, start, None))
        start = text.find(REFERENCE_PREFIX, start + 1)


def iterate_texts(value: Any) -> Iterator[str]:
    """Give the texts in a value, but for the keys of objects."""
    waiting: list[Any] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict | list):
            waiting += item.values() if isinstance(item, dict) else item


def resolve_references(value: Any, scope: Collection[str], look_up: Callable[[Reference], Any]) -> Any:
    """Put what an input refers to in its place.

    A text that is one reference becomes what it refers to, whatever its type; a reference inside a longer text becomes
    text, JSON where it is none.

    Parameters
    ----------
    scope
        The names that a reference can be of; where several fit, the longest is meant.
    look_up
        Gives what a reference stands for; raises `LookupError` for one that stands for nothing, which is left as it is.
    """
    if isinstance(value, dict):
        return {key: resolve_references(item, scope, look_up) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve_references(item, scope, look_up) for item in value]
    return _resolve_text(value, scope, look_up) if isinstance(value, str) else value


def get_path(value: Any, path: Iterable[str]) -> Any:
    """Go down into a payload, by keys and places in lists (``items[0]``); what is not there is None, as in JSON."""
    for step in path:
        key, *indexes = _STEP.findall(step)
        value = value.get(key) if isinstance(value, dict) else None
        for index in indexes:
            value = _at(value, int(index[1:-1]))
    return value


def _at(value: Any, index: int) -> Any:
    return value[index] if isinstance(value, list) and index < len(value) else None


def _resolve_text(text: str, scope: Collection[str], look_up: Callable[[Reference], Any]) -> Any:
    parts: list[str] = []
    done = 0
    for start, readings in find_references(text, scope):
        reference, end = readings[-1]
        try:
            value = look_up(reference)
        except LookupError:
            continue
        if (start, end) == (0, len(text)):
            return value
        parts += (text[done:start], value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        done = end
    return "".join((*parts, text[done:]))


def _readings(text: str, start: int, scope: Collection[str] | None) -> Iterator[Reading]:
    begin = start + len(REFERENCE_PREFIX)
    last = begin + _LONGEST_NAME
    for part in _PART.finditer(text, begin + 1, last + len(".output.")):
        name = text[begin : part.start()]
        if part.start() > last or (scope is not None and name not in scope):
            continue
        rest = _REST.match(text, part.start(), part.start() + _LONGEST_PATH)
        if rest is not None:
            yield Reading(Reference(name, rest["part"], tuple(rest["path"].split(".")[1:])), rest.end())
