"""Definitions of the children that a task brings, in the form of Cognite's workflows."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from tasklatch.api.body import validate
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.platforms.cognite.definitions.task_models import MAX_TASKS, ChildTaskBody
from tasklatch.platforms.cognite.models import NullsLeftOut


class ChildrenBody(NullsLeftOut):
    """Tasks of a dynamic task, as its reference gave them, or of a subworkflow."""

    tasks: Annotated[list[ChildTaskBody], Field(max_length=MAX_TASKS)]


def child_definitions(content: Mapping[str, Any]) -> list[TaskDefinition]:
    """Return the definitions of the children in their parent's input.

    Raises
    ------
    InvalidRequestError, PayloadTooLargeError
        If the input has no list of valid tasks.
    """
    [(part, value)] = [(name, content[name]) for name in ("dynamic", "subworkflow") if name in content]
    children = validate(ChildrenBody, value, part).tasks
    return [child.definition(part, "tasks", index) for index, child in enumerate(children)]
