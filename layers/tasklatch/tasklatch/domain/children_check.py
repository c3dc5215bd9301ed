"""Check of the definitions of children: they fit together, and each refers only to what has ended before it starts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasklatch.domain.children import Contract
from tasklatch.domain.errors import InvalidRequestError
from tasklatch.domain.reference_check import check_references
from tasklatch.domain.task_definition import TaskDefinition, check_definitions

Translators = Mapping[Contract, Callable[[Mapping[str, Any]], list[TaskDefinition]]]
"""For each contract, the function that returns the definitions of the children in their parent's input."""


def check_children(
    definitions: Sequence[TaskDefinition], parents_dependencies: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Check the definitions of children, and return the names that each refers to besides its own dependencies.

    Children wait for each other alone: a task outside could wait for their parent. Their inputs can also refer to what
    their parent has waited for.

    Parameters
    ----------
    parents_dependencies
        The tasks in their parent's ``dependsOn``.

    Raises
    ------
    InvalidRequestError
        If the tasks do not fit together.
    """
    check_definitions(definitions)
    return check_references(definitions, parents_dependencies, terminal=parents_dependencies)


def check_declared(
    parents: Sequence[tuple[int, TaskDefinition, Sequence[TaskDefinition]]], names: Sequence[str], *path: str
) -> None:
    """Check the children that a request declares.

    Parameters
    ----------
    parents
        Of each parent: its position in the request, its definition, and those of its children.
    names
        Ids of all tasks of the request but the children.
    path
        Path from a parent to its children, for the errors.

    Raises
    ------
    InvalidRequestError
        If the children of a parent do not fit together, or one has the id of another task of the request.
    """
    taken = set(names)
    for index, parent, children in parents:
        path_to_list = ["body", "tasks", index, *path]
        try:
            check_children(children, parent.depends_on)
        except InvalidRequestError as error:
            errors = [{**entry, "loc": [*path_to_list, *_within(entry)]} for entry in error.errors]
            raise InvalidRequestError(str(error), errors) from error
        for position, child in enumerate(children):
            if child.task_id in taken:
                entry: dict[str, object] = {
                    "loc": [*path_to_list, position],
                    "msg": f"another task has the id {child.task_id!r}",
                    "type": "duplicate_task_id",
                }
                raise InvalidRequestError("invalid task definitions", [entry])
            taken.add(child.task_id)


def _within(entry: Mapping[str, Any]) -> Sequence[Any]:
    """Return the path of an error from the list of tasks on."""
    path: Sequence[Any] = entry["loc"]
    return path[2:]
