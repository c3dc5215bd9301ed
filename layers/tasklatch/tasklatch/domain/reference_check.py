"""Check of the references in new tasks' inputs: each must name exactly one task, which its task waits for."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Final

from tasklatch.domain.errors import MAX_REPORTED_ERRORS, InvalidRequestError
from tasklatch.domain.reference import (
    REFERENCE_PREFIX,
    WORKFLOW_NAME,
    Reading,
    find_references,
    iterate_texts,
    possible_references,
)
from tasklatch.domain.task_definition import TaskDefinition

MAX_POSSIBLE_NAMES: Final = 500
"""Limit on the task names that are looked up for all tasks of one request."""

_MAX_NAMES_BYTES: Final = 100_000
"""The names are stored in one item with the input."""


def has_references(definition: TaskDefinition) -> bool:
    """Return True if a task's input may contain references.

    An input in its platform's own form has none; those in the definitions of children are the children's.
    """
    if definition.children is not None and definition.children.is_declared:
        return False
    return definition.input is not None and not definition.includes_attempt_id and REFERENCE_PREFIX in definition.input


def possible_names(definitions: Sequence[TaskDefinition]) -> set[str]:
    """Return the names that inputs could refer to, except those of the tasks themselves and of their dependencies.

    Raises
    ------
    InvalidRequestError
        If there are more than `MAX_POSSIBLE_NAMES`.
    """
    task_names = {name for definition in definitions for name in (definition.task_id, *definition.depends_on)}
    names: set[str] = set()
    for index, definition in enumerate(definitions):
        for _, readings in _possible(definition):
            names.update(reading.reference.name for reading in readings)
        names -= task_names
        if len(names) > MAX_POSSIBLE_NAMES:
            message = f"more than {MAX_POSSIBLE_NAMES} names in references are in no dependsOn of the request"
            raise InvalidRequestError("invalid task definitions", [_error_entry(index, message, "too_many_references")])
    return names


def check_references(
    definitions: Sequence[TaskDefinition],
    existing: Collection[str] = (),
    *,
    terminal: Collection[str] = (),
    started: Collection[str] = (),
) -> dict[str, tuple[str, ...]]:
    """Check the references of new tasks, and return the names that each task refers to besides its own dependencies.

    Parameters
    ----------
    existing
        Ids of the tasks that the execution already has.
    terminal
        Ids of those that are terminal: they may be referenced without a dependency on them.
    started
        Ids of those that have started: they were checked when they were added, and already have their input.

    Raises
    ------
    InvalidRequestError
        If a reference names a task that its task does not wait for, or matches more than one that it waits for, or if
        a task refers to too many others.
    """
    graph = {definition.task_id: definition.depends_on for definition in definitions}
    checked = [
        _TaskInput(index, definition, _ancestors(definition.task_id, graph) | set(terminal))
        for index, definition in enumerate(definitions)
        if definition.task_id not in started and has_references(definition)
    ]
    task_ids = graph.keys() | set(existing)
    errors = list(islice(chain.from_iterable(item.errors(task_ids) for item in checked), MAX_REPORTED_ERRORS))
    if errors:
        raise InvalidRequestError("invalid task definitions", errors)
    return {item.definition.task_id: tuple(sorted(item.indirect_names)) for item in checked}


@dataclass(frozen=True)
class _TaskInput:
    """Input of a new task that may contain references.

    Attributes
    ----------
    index
        Position of the task in the request.
    awaited
        Ids of the tasks that the task waits for, directly or through others, and of terminal ones.
    """

    index: int
    definition: TaskDefinition
    awaited: AbstractSet[str]

    @cached_property
    def texts(self) -> list[str]:
        """Texts in the input that can contain references."""
        return list(iterate_texts(json.loads(self.definition.input or "null")))

    @cached_property
    def indirect_names(self) -> AbstractSet[str]:
        """Names of awaited tasks that the input refers to, except the task's own dependencies."""
        references = (item for text in self.texts for item in find_references(text, self.awaited | {WORKFLOW_NAME}))
        names = {readings[-1].reference.name for _, readings in references}
        return (names & self.awaited) - set(self.definition.depends_on)

    def errors(self, task_ids: AbstractSet[str]) -> Iterator[dict[str, object]]:
        """Yield the errors of the input's references.

        Parameters
        ----------
        task_ids
            Ids of all tasks of the execution.
        """
        others = task_ids - self.awaited
        for text in self.texts:
            references = list(find_references(text, self.awaited | {WORKFLOW_NAME}))
            for _, readings in references:
                if len(readings) > 1:
                    names = " or ".join(repr(reading.reference.name) for reading in readings)
                    yield _error_entry(self.index, f"a reference could be to task {names}", "ambiguous_reference")
            spans = [(start, readings[-1].end) for start, readings in references]
            for name in _names_outside(text, spans, others):
                message = f"refers to task {name!r}, which it does not wait for: add it to dependsOn"
                yield _error_entry(self.index, message, "reference_not_awaited")
        if sum(len(name.encode()) for name in self.indirect_names) > _MAX_NAMES_BYTES:
            message = "refers to too many tasks that its dependsOn does not name"
            yield _error_entry(self.index, message, "too_many_references")


def _names_outside(text: str, spans: Sequence[tuple[int, int]], names: AbstractSet[str]) -> Iterator[str]:
    """Yield the longest of `names` in each possible reference that does not start inside one of the spans."""
    for start, readings in possible_references(text):
        candidates = [reading.reference.name for reading in readings if reading.reference.name in names]
        if candidates and not any(begin <= start < end for begin, end in spans):
            yield candidates[-1]


def _possible(definition: TaskDefinition) -> Iterator[tuple[int, list[Reading]]]:
    if has_references(definition):
        for text in iterate_texts(json.loads(definition.input or "null")):
            yield from possible_references(text)


def _ancestors(task_id: str, graph: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the tasks that a task waits for, directly or through others, as far as the request defines them."""
    visited: set[str] = set()
    waiting = list(graph[task_id])
    while waiting:
        name = waiting.pop()
        if name not in visited:
            visited.add(name)
            waiting += graph.get(name, ())
    return visited


def _error_entry(index: int, message: str, kind: str) -> dict[str, object]:
    return {"loc": ["body", "tasks", index, "input"], "msg": message, "type": kind}
