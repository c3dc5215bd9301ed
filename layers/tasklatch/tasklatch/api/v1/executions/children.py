"""Definitions of the children that a task brings, in the form of the native contract."""

from collections.abc import Mapping
from typing import Any

from tasklatch.api.body import validate
from tasklatch.api.v1.executions.task_models import ChildrenBody
from tasklatch.domain.task_definition import TaskDefinition


def child_definitions(content: Mapping[str, Any]) -> list[TaskDefinition]:
    """Return the definitions of the children in their parent's input.

    Raises
    ------
    InvalidRequestError, PayloadTooLargeError
        If the input has no list of valid tasks.
    """
    children = validate(ChildrenBody, content).children
    return [child.definition("children", index) for index, child in enumerate(children)]
