"""Error responses of Cognite's contract."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, NotRequired

from typing_extensions import TypedDict

from tasklatch.api.errors import ErrorFormat, Problem, summarize_error
from tasklatch.api.messages import JSON
from tasklatch.domain.errors import DuplicateNameError, NotFoundError, TasklatchError


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
        body["message"] = f"The following {error.kind}s were not found: {', '.join(map(repr, error.names))}"
        body["missing"] = _external_ids(error.names)
    if isinstance(error, DuplicateNameError):
        body["duplicated"] = _external_ids(error.names)
    return {"error": body}


def _external_ids(names: Any) -> list[dict[str, str]]:
    return [{"externalId": name} for name in names]


_REPLACED_STATUSES: Final[Mapping[HTTPStatus, HTTPStatus]] = {HTTPStatus.UNPROCESSABLE_ENTITY: HTTPStatus.BAD_REQUEST}

ERROR_FORMAT: Final = ErrorFormat(JSON, ErrorEnvelope, _to_error_envelope, _REPLACED_STATUSES)
UNKNOWN_IS_BAD_REQUEST: Final = ErrorFormat(
    JSON, ErrorEnvelope, _to_error_envelope, {**_REPLACED_STATUSES, HTTPStatus.NOT_FOUND: HTTPStatus.BAD_REQUEST}
)
"""The platform's client expects a 400 for an execution that does not exist."""


def missing_as(message: str) -> ErrorFormat:
    """Return the contract's format with the platform's own message for what does not exist."""

    def render(error: TasklatchError, problem: Problem) -> ErrorEnvelope:
        envelope = _to_error_envelope(error, problem)
        if isinstance(error, NotFoundError) and error.kind not in _LISTED_AS_MISSING:
            envelope["error"]["message"] = message
        return envelope

    return ErrorFormat(JSON, ErrorEnvelope, render, _REPLACED_STATUSES)
