"""Parts that all routes of the Cognite contract share: base path, formats of names, error responses."""

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final, NotRequired

from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from tasklatch.api.app import JSON, Operation
from tasklatch.api.errors import ErrorFormat, Problem, summarize_error
from tasklatch.api.ids import NewTaskId, TaskId
from tasklatch.domain.addressing import fits_path
from tasklatch.domain.errors import DuplicateNameError, NotFoundError, TasklatchError

_PROJECT_PARAMETER: Final = "project"
PROJECT: Final = f"/api/v1/projects/{{{_PROJECT_PARAMETER}}}"
MAX_PAGE: Final = 100

LENIENT: Final = ConfigDict(extra="ignore", strict=True, frozen=True)


def _check_whitespace(value: str) -> str:
    if value != value.strip():
        raise ValueError("must not begin or end with white space")
    return value


def _check_path_safe(value: str) -> str:
    if not fits_path(value):
        raise ValueError("must not hold any of % / \\ ? ; nor be '.' or '..': it is addressed in paths alone")
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


class ErrorBody(TypedDict):
    """An error; `missing` and `duplicated` list names that do not exist, or that the request repeats."""

    code: int
    message: str
    missing: NotRequired[list[dict[str, str]]]
    duplicated: NotRequired[list[dict[str, str]]]


class ErrorEnvelope(TypedDict):
    """Error response of the platform."""

    error: ErrorBody


_LISTED_AS_MISSING: Final = ("workflow", "workflow version")


def _to_error_envelope(error: TasklatchError, problem: Problem) -> ErrorEnvelope:
    body: ErrorBody = {"code": problem["status"], "message": summarize_error(error, problem)}
    if isinstance(error, NotFoundError) and error.kind in _LISTED_AS_MISSING:
        body["missing"] = _external_ids(error.names)
    if isinstance(error, DuplicateNameError):
        body["duplicated"] = _external_ids(error.names)
    return {"error": body}


def _external_ids(names: Any) -> list[dict[str, str]]:
    return [{"externalId": name} for name in names]


_INSTEAD: Final[Mapping[HTTPStatus, HTTPStatus]] = {HTTPStatus.UNPROCESSABLE_ENTITY: HTTPStatus.BAD_REQUEST}

_ERROR_FORMAT: Final = ErrorFormat(JSON, ErrorEnvelope, _to_error_envelope, _INSTEAD)
UNKNOWN_IS_BAD_REQUEST: Final = ErrorFormat(
    JSON, ErrorEnvelope, _to_error_envelope, {**_INSTEAD, HTTPStatus.NOT_FOUND: HTTPStatus.BAD_REQUEST}
)
"""The platform's client expects a 400 for an execution that does not exist."""

project_operation: Final = partial(Operation, error_format=_ERROR_FORMAT, tenant_parameter=_PROJECT_PARAMETER)
"""Constructor of a project's operation; the project is the tenant."""
