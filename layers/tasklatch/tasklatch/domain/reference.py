"""References in inputs: ``${task.output.key}`` stands for a value from another task's input or output.

A reference may name any task, even one with dots or braces in its name, because it is matched against the names in its
scope: the tasks that its own task waits for. Text that matches none of them is not a reference.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final, NamedTuple

REFERENCE_PREFIX: Final = "${"
WORKFLOW_NAME: Final = "workflow"
"""Name of the execution's own input in a reference: ``${workflow.input}``."""

_LONGEST_NAME: Final = 255
_LONGEST_PATH: Final = 2_000
_PART: Final = re.compile(r"\.(?:input|output)(?=[.}])")
_REST: Final = re.compile(r"\.(?P<part>input|output)(?P<path>(?:\.[^{}.]+)*)\}")

_STEP: Final = re.compile(r"\A.+?(?=(?:\[\d{1,9}\])*\Z)|\[\d{1,9}\]", re.DOTALL)
"""A key, then the list indexes after it."""


class Reference(NamedTuple):
    """Placeholder in an input for a value of another task."""

    name: str
    part: str
    path: tuple[str, ...]


class Reading(NamedTuple):
    """One way to read a reference, and the index of its end in the text."""

    reference: Reference
    end: int


def find_references(text: str, scope: Collection[str]) -> Iterator[tuple[int, list[Reading]]]:
    """Yield each reference in a text: the index of its start, and its readings, the one with the longest name last.

    Parameters
    ----------
    scope
        The names that a reference may have.
    """
    start = text.find(REFERENCE_PREFIX)
    while start >= 0:
        readings = list(_readings(text, start, scope))
        if readings:
            yield start, readings
        start = text.find(REFERENCE_PREFIX, readings[-1].end if readings else start + 1)


def possible_references(text: str) -> Iterator[tuple[int, list[Reading]]]:
    """Yield the start and readings of every possible reference to a task of any name, overlapping ones included."""
    start = text.find(REFERENCE_PREFIX)
    while start >= 0:
        yield start, list(_readings(text, start, None))
        start = text.find(REFERENCE_PREFIX, start + 1)


def iterate_texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value, except the keys of objects."""
    waiting: list[Any] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict | list):
            waiting += item.values() if isinstance(item, dict) else item


def resolve_references(value: Any, scope: Collection[str], look_up: Callable[[Reference], Any]) -> Any:
    """Return an input with its references replaced by their values.

    A text that is exactly one reference becomes the value itself, of any type. A reference inside a longer text becomes
    text; a value that is not text becomes JSON.

    Parameters
    ----------
    scope
        The names that a reference may have; if several match, the longest applies.
    look_up
        Returns the value of a reference; raises `LookupError` if there is none, and the reference stays as text.
    """
    if isinstance(value, dict):
        return {key: resolve_references(item, scope, look_up) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve_references(item, scope, look_up) for item in value]
    return _resolve_text(value, scope, look_up) if isinstance(value, str) else value


def get_path(value: Any, path: Iterable[str]) -> Any:
    """Return the value at a path of keys and list indexes (``items[0]``); None if it does not exist, as in JSON."""
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
