"""The one place that maps domain errors to HTTP: as problem details (RFC 9457), or in a contract's own format."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, NamedTuple, NotRequired

from typing_extensions import TypedDict

from tasklatch.domain.errors import (
    AttemptIdRequiredError,
    AttemptNotOpenError,
    ConflictError,
    DuplicateNameError,
    ForbiddenError,
    IdempotencyKeyReusedError,
    IdNotInPathError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    ServiceBusyError,
    TasklatchError,
    TooManyWatchersError,
    UnauthorizedError,
    UnexpectedError,
    UnknownTasksError,
    UnsupportedEncodingError,
)

MEDIA_TYPE: Final = "application/problem+json"

STATUS: Final[dict[type[TasklatchError], HTTPStatus]] = {
    UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    NotFoundError: HTTPStatus.NOT_FOUND,
    UnknownTasksError: HTTPStatus.BAD_REQUEST,
    AttemptIdRequiredError: HTTPStatus.FORBIDDEN,
    AttemptNotOpenError: HTTPStatus.CONFLICT,
    ConflictError: HTTPStatus.CONFLICT,
    IdempotencyKeyReusedError: HTTPStatus.CONFLICT,
    DuplicateNameError: HTTPStatus.CONFLICT,
    PayloadTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedEncodingError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    IdNotInPathError: HTTPStatus.UNPROCESSABLE_ENTITY,
    TooManyWatchersError: HTTPStatus.TOO_MANY_REQUESTS,
    ServiceBusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    UnexpectedError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""HTTP status of each error; an `ErrorFormat` can replace it."""

_PROBLEM_NAMES: Final[dict[type[TasklatchError], str]] = {
    UnauthorizedError: "unauthorized",
    ForbiddenError: "forbidden",
    NotFoundError: "not-found",
    UnknownTasksError: "unknown-tasks",
    AttemptIdRequiredError: "attempt-id-required",
    AttemptNotOpenError: "attempt-not-open",
    ConflictError: "conflict",
    IdempotencyKeyReusedError: "idempotency-key-reused",
    DuplicateNameError: "duplicated",
    PayloadTooLargeError: "too-large",
    UnsupportedEncodingError: "unsupported-encoding",
    InvalidRequestError: "invalid-request",
    IdNotInPathError: "id-not-in-path",
    TooManyWatchersError: "too-many-watchers",
    ServiceBusyError: "busy",
    UnexpectedError: "internal-error",
}


class FieldError(TypedDict):
    """One error in a request: its location, a message and a type."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(TypedDict):
    """Problem details (RFC 9457): ``type`` is for programs, ``detail`` is for people."""

    type: str
    title: str
    status: int
    detail: str
    errors: NotRequired[list[FieldError]]
    request_id: str


def to_problem_details(error: TasklatchError, correlation_id: str, status: HTTPStatus | None = None) -> Problem:
    """Return an error as problem details.

    Parameters
    ----------
    status
        Status of the error in this contract; None for the usual one (`STATUS`).
    """
    status = status or STATUS[type(error)]
    problem: Problem = {
        "type": f"urn:tasklatch:problem:{_PROBLEM_NAMES[type(error)]}",
        "title": status.phrase,
        "status": status.value,
        "detail": str(error),
        "request_id": correlation_id,
    }
    if isinstance(error, InvalidRequestError) and error.errors:
        problem["errors"] = error.errors  # type: ignore[typeddict-item]
    return problem


def summarize_error(error: TasklatchError, problem: Problem) -> str:
    """Return an error in one line, for contracts without a list of errors: each field with its error, or a message."""
    lines = (
        f"{'.'.join(map(str, entry['loc'][1:] or entry['loc']))}: {entry['msg']}" for entry in problem.get("errors", [])
    )
    return "; ".join(lines) or str(error)


class ErrorFormat(NamedTuple):
    """Format of one contract's error responses; the errors are the same in all contracts.

    Attributes
    ----------
    media_type, body
        Media type of an error response, and type of its body; the type is for the API description.
    render
        Returns the body for an error and its problem details.
    status_map
        Statuses that this contract replaces.
    """

    media_type: str
    body: Any
    render: Callable[[TasklatchError, Problem], Any]
    status_map: Mapping[HTTPStatus, HTTPStatus] = MappingProxyType({})

    def status(self, usual: HTTPStatus) -> HTTPStatus:
        """Return this contract's status for a usual one."""
        return self.status_map.get(usual, usual)


PROBLEM_DETAILS: Final = ErrorFormat(MEDIA_TYPE, Problem, lambda _error, problem: problem)
"""Error format of the native contract."""
