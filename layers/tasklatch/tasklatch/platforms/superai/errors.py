"""Error responses of SuperAI's contract."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NotRequired

from typing_extensions import TypedDict

from tasklatch.api.errors import ErrorFormat, FieldError, Problem
from tasklatch.api.messages import JSON
from tasklatch.domain.errors import AttemptNotOpenError, NotFoundError, TasklatchError, UnknownTasksError


class ErrorDetail(TypedDict):
    """An error: `code` is for programs, `message` is for people."""

    message: str
    code: str
    details: NotRequired[list[FieldError] | dict[str, list[str]]]


class FlowErrorEnvelope(TypedDict):
    """Error response of the platform; with status 422, `detail` lists the errors in the request."""

    error: ErrorDetail
    request_id: str
    detail: NotRequired[list[FieldError]]


_CODE: Final[Mapping[int, str]] = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.CONFLICT: "conflict",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "bad_request",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "bad_request",
    HTTPStatus.UNPROCESSABLE_ENTITY: "validation_error",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "internal_error",
}


def _to_error_envelope(error: TasklatchError, problem: Problem) -> FlowErrorEnvelope:
    message = "Flow execution not found" if isinstance(error, NotFoundError) else str(error)
    detail: ErrorDetail = {"message": message, "code": _CODE[problem["status"]]}
    envelope: FlowErrorEnvelope = {"error": detail, "request_id": problem["request_id"]}
    if isinstance(error, UnknownTasksError):
        detail["details"] = {"unknown_task_names": list(error.names)}
    if isinstance(error, AttemptNotOpenError):
        detail["details"] = {"task_names_not_open": list(error.names)}
    if problem["status"] == HTTPStatus.UNPROCESSABLE_ENTITY:
        envelope["detail"] = detail["details"] = problem.get("errors", [])
    return envelope


ERROR_FORMAT: Final = ErrorFormat(JSON, FlowErrorEnvelope, _to_error_envelope)
