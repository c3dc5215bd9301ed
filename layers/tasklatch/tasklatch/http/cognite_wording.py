"""What all routes of the Cognite contract share: their base, what names can look like, and how errors are told."""

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final, NotRequired

from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from tasklatch.domain.addressing import fits_path
from tasklatch.domain.errors import DuplicatedError, NotFoundError, TasklatchError
from tasklatch.http.names import NewTaskId, TaskId
from tasklatch.http.problem import Problem, Wording, told_in_a_line
from tasklatch.http.routes import JSON, Operation

_PROJECT_PARAMETER: Final = "project"
PROJECT: Final = f"/api/v1/projects/{{{_PROJECT_PARAMETER}}}"
MAX_PAGE: Final = 100

LENIENT: Final = ConfigDict(extra="ignore", strict=True, frozen=True)


def _without_edges(value: str) -> str:
    if value != value.strip():
        raise ValueError("must not begin or end with white space")
    return value


def _can_stand_in_a_path(value: str) -> str:
    if not fits_path(value):
        raise ValueError("must not hold any of % / \\ ? ; nor be '.' or '..': it is addressed in paths alone")
    return value


def _is_not_reserved(value: str) -> str:
    if value == "workflow" or value.startswith("__"):
        raise ValueError("'workflow' and names that begin with '__' are reserved")
    return value


ExternalId = Annotated[TaskId, AfterValidator(_without_edges)]
PathId = Annotated[ExternalId, AfterValidator(_can_stand_in_a_path)]
"""The name of a workflow or a version, which stand in paths."""

TaskExternalId = Annotated[NewTaskId, AfterValidator(_without_edges), AfterValidator(_is_not_reserved)]
Cursor = Annotated[str, Field(max_length=2048)]


class ErrorBody(TypedDict):
    """What went wrong; `missing` and `duplicated` name what is not there, or is there twice."""

    code: int
    message: str
    missing: NotRequired[list[dict[str, str]]]
    duplicated: NotRequired[list[dict[str, str]]]


class ErrorEnvelope(TypedDict):
    """The platform's answer to what it has not taken."""

    error: ErrorBody


_LISTED_AS_MISSING: Final = ("workflow", "workflow version")


def _refused(error: TasklatchError, problem: Problem) -> ErrorEnvelope:
    body: ErrorBody = {"code": problem["status"], "message": told_in_a_line(error, problem)}
    if isinstance(error, NotFoundError) and error.kind in _LISTED_AS_MISSING:
        body["missing"] = _named(error.names)
    if isinstance(error, DuplicatedError):
        body["duplicated"] = _named(error.names)
    return {"error": body}


def _named(names: Any) -> list[dict[str, str]]:
    return [{"externalId": name} for name in names]


_INSTEAD: Final[Mapping[HTTPStatus, HTTPStatus]] = {HTTPStatus.UNPROCESSABLE_ENTITY: HTTPStatus.BAD_REQUEST}

_WORDING: Final = Wording(JSON, ErrorEnvelope, _refused, _INSTEAD)
UNKNOWN_IS_BAD_REQUEST: Final = Wording(
    JSON, ErrorEnvelope, _refused, {**_INSTEAD, HTTPStatus.NOT_FOUND: HTTPStatus.BAD_REQUEST}
)
"""The platform's client takes a 400 as its word that there is no such execution."""

project_operation: Final = partial(Operation, wording=_WORDING, tenant_parameter=_PROJECT_PARAMETER)
"""An operation of a project, which is its tenant."""
