"""Formats of names that all models of Cognite's contract share."""

from typing import Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field

from tasklatch.api.ids import NewTaskId, TaskId
from tasklatch.domain.addressing import fits_path

MAX_PAGE: Final = 100

LENIENT: Final = ConfigDict(extra="ignore", strict=True, frozen=True)


def _check_whitespace(value: str) -> str:
    if value != value.strip():
        raise ValueError("must not begin or end with white space")
    return value


def _check_path_safe(value: str) -> str:
    if not fits_path(value):
        raise ValueError("must not contain % / \\ ? or ;, nor be '.' or '..': it is used in paths only")
    return value


def _check_not_reserved(value: str) -> str:
    if value == "workflow" or value.startswith("__"):
        raise ValueError("'workflow' and names that begin with '__' are reserved")
    return value


ExternalId = Annotated[TaskId, AfterValidator(_check_whitespace)]
PathId = Annotated[ExternalId, AfterValidator(_check_path_safe)]
"""Name of a workflow or a version: both are used in paths."""

TaskExternalId = Annotated[NewTaskId, AfterValidator(_check_whitespace), AfterValidator(_check_not_reserved)]
Cursor = Annotated[str, Field(max_length=2048)]
