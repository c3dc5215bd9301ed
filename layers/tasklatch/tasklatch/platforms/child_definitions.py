"""Definitions of children in the form of each contract; a contract's models are loaded when they are needed."""

from collections.abc import Mapping
from typing import Any, Final

from tasklatch.domain.children import Contract
from tasklatch.domain.children_check import Translators
from tasklatch.domain.task_definition import TaskDefinition


def _native(content: Mapping[str, Any]) -> list[TaskDefinition]:
    from tasklatch.api.v1.executions.children import child_definitions

    return child_definitions(content)


def _cognite(content: Mapping[str, Any]) -> list[TaskDefinition]:
    from tasklatch.platforms.cognite.definitions.children import child_definitions

    return child_definitions(content)


TRANSLATORS: Final[Translators] = {Contract.NATIVE: _native, Contract.COGNITE: _cognite}
