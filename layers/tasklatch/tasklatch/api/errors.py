"""The one place where what went wrong becomes HTTP: problem details as in RFC 9457, or a contract's own words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, NotRequired

from typing_extensions import TypedDict

from tasklatch.domain.errors import (
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
    AttemptNotOpenError: HTTPStatus.CONFLICT,
    ConflictError: HTTPStatus.CONFLICT,
    IdempotencyKeyReusedError: HTTPStatus.CONFLICT,
    DuplicateNameError: HTTPStatus.CONFLICT,
    PayloadTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedEncodingError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    IdNotInPathError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ServiceBusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    UnexpectedError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""What each error is to an HTTP client."""

_NAME: Final[dict[type[TasklatchError], str]] = {
    UnauthorizedError: "unauthorized",
    ForbiddenError: "forbidden",
    NotFoundError: "not-found",
    UnknownTasksError: "unknown-tasks",
    AttemptNotOpenError: "attempt-not-open",
    ConflictError: "conflict",
    IdempotencyKeyReusedError: "idempotency-key-reused",
    DuplicateNameError: "duplicated",
    PayloadTooLargeError: "too-large",
    UnsupportedEncodingError: "unsupported-encoding",
    InvalidRequestError: "invalid-request",
    IdNotInPathError: "id-not-in-path",
    ServiceBusyError: "busy",
    UnexpectedError: "internal-error",
}


class FieldError(TypedDict):
    """One thing that is wrong in a request, and where."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(TypedDict):
    """Problem details: ``type`` is a name to compare with, ``detail`` is for people."""

    type: str
    title: str
    status: int
    detail: str
    errors: NotRequired[list[FieldError]]
    request_id: str


def to_problem_details(error: TasklatchError, correlation_id: str, status: HTTPStatus | None = None) -> Problem:
    """Word an error as problem details.

    Parameters
    ----------
    status
        What it is to this client, where that is not what it is to others.
    """
    status = status or STATUS[type(error)]
    problem: Problem = {
        "type": f"urn:tasklatch:problem:{_NAME[type(error)]}",
        "title": status.phrase,
        "status": status.value,
        "detail": str(error),
        "request_id": correlation_id,
    }
    if isinstance(error, InvalidRequestError) and error.errors:
        problem["errors"] = error.errors  # type: ignore[typeddict-item]
    return problem


def summarize_error(error: TasklatchError, problem: Problem) -> str:
    """Word an error in one line, for contracts whose errors have no more: each fault with its place, or what it is."""
    lines = (
        f"{'.'.join(map(str, entry['loc'][1:] or entry['loc']))}: {entry['msg']}" for entry in problem.get("errors", [])
    )
    return "; ".join(lines) or str(error)


@dataclass(frozen=True, slots=True)
class ErrorFormat:
    """How one contract tells its clients what went wrong. What can go wrong is the same in all of them.

    Attributes
    ----------
    media_type, body
        Of an answer; the body's type is for the API description.
    word
        Makes the body of an error and its problem details.
    instead
        The statuses that this contract knows by another.
    """

    media_type: str
    body: Any
    render: Callable[[TasklatchError, Problem], Any]
    status_map: Mapping[HTTPStatus, HTTPStatus] = field(default_factory=dict)

    def status(self, usual: HTTPStatus) -> HTTPStatus:
        """What a status is in this contract."""
        return self.status_map.get(usual, usual)


PROBLEM_DETAILS: Final = ErrorFormat(MEDIA_TYPE, Problem, lambda _error, problem: problem)
"""The native contract's own."""
