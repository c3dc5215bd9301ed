"""Check of the references in new tasks' inputs: each must name exactly one task, which its task waits for."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Final

from tasklatch.domain.errors import MAX_REPORTED_ERRORS, InvalidRequestError
from tasklatch.domain.execution import TaskDefinition
from tasklatch.domain.reference import (
    REFERENCE_PREFIX,
    WORKFLOW_NAME,
    Reading,
    find_references,
    iterate_texts,
    possible_references,
)

MAX_POSSIBLE_NAMES: Final = 500
"""Limit on the task names that are looked up for all tasks of one request."""

_MAX_NAMES_BYTES: Final = 100_000
"""The names are stored in one item with the input."""


def has_references(definition: TaskDefinition) -> bool:
    """Return True if a task's input may contain references; an input in its platform's own form has none."""
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
            message = f"more than {MAX_POSSIBLE_NAMES} names are referred to that no dependsOn of the request names"
            raise _error_response([_error_entry(index, message, "too_many_references")])
    return names


def check_references(
    definitions: Sequence[TaskDefinition],
    existing: Collection[str] = (),
    *,
    terminal: Collection[str] = (),
    started: Collection[str] = (),
) -> dict[str, tuple[str, ...]]:
    """Check the references of new tasks.

    Parameters
    ----------
    existing
        Ids of the tasks that the execution already has.
    terminal
        Ids of those that are terminal: they may be referenced without a dependency on them.
    started
        Ids of those that have started: they were checked when they were added, and already have their input.

    Returns
    -------
    dict
        By task, the names that it refers to in addition to its own dependencies.

    Raises
    ------
    InvalidRequestError
        If a reference names a task that its task does not wait for, or matches more than one that it waits for, or if
        a task refers to too many others.
    """
    known_ids = {definition.task_id for definition in definitions} | set(existing)
    graph = {definition.task_id: definition.depends_on for definition in definitions}
    errors: list[dict[str, object]] = []
    beyond: dict[str, tuple[str, ...]] = {}
    for index, definition in enumerate(definitions):
        if definition.task_id in started or not has_references(definition):
            continue
        awaited = _ancestors(definition.task_id, graph) | set(terminal)
        errors += islice(_faults(index, definition, awaited, known_ids), MAX_REPORTED_ERRORS)
        names = (_names(definition, awaited) & awaited) - set(definition.depends_on)
        if sum(len(name.encode()) for name in names) > _MAX_NAMES_BYTES:
            errors.append(
                _error_entry(index, "refers to too many tasks that it does not name itself", "too_many_references")
            )
        beyond[definition.task_id] = tuple(sorted(names))
        if len(errors) >= MAX_REPORTED_ERRORS:
            break
    if errors:
        raise _error_response(errors[:MAX_REPORTED_ERRORS])
    return beyond


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


def _names(definition: TaskDefinition, awaited: AbstractSet[str]) -> set[str]:
    scope = awaited | {WORKFLOW_NAME}
    return {
        readings[-1].reference.name
        for text in iterate_texts(json.loads(definition.input or "null"))
        for _, readings in find_references(text, scope)
    }


def _faults(
    index: int, definition: TaskDefinition, awaited: AbstractSet[str], known_ids: AbstractSet[str]
) -> Iterator[dict[str, object]]:
    scope = awaited | {WORKFLOW_NAME}
    for text in iterate_texts(json.loads(definition.input or "null")):
        visited = list(find_references(text, scope))
        for _, readings in visited:
            if len(readings) > 1:
                names = " or ".join(repr(reading.reference.name) for reading in readings)
                yield _error_entry(index, f"a reference could be to task {names}", "ambiguous_reference")
        covered = [(start, readings[-1].end) for start, readings in visited]
        for start, readings in possible_references(text):
            names_known = [
                reading.reference.name for reading in readings if reading.reference.name in known_ids - awaited
            ]
            if names_known and not any(begin <= start < end for begin, end in covered):
                message = f"refers to task {names_known[-1]!r}, which it does not wait for: add it to dependsOn"
                yield _error_entry(index, message, "reference_not_awaited")


def _error_entry(index: int, message: str, kind: str) -> dict[str, object]:
    return {"loc": ["body", "tasks", index, "input"], "msg": message, "type": kind}


def _error_response(errors: list[dict[str, object]]) -> InvalidRequestError:
    return InvalidRequestError("invalid task definitions", errors)
