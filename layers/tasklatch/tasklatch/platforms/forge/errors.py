"""Error responses of Forge's contract."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Literal, NotRequired

from typing_extensions import TypedDict

from tasklatch.api.errors import ErrorFormat, Problem, summarize_error
from tasklatch.api.messages import JSON
from tasklatch.domain.errors import AttemptNotOpenError, NotFoundError, TasklatchError


class Refusal(TypedDict):
    """Response of the platform to a rejected request: ``error`` is for programs to branch on."""

    status: Literal["REJECTED"]
    message: str
    error: str
    originalError: NotRequired[Problem]


_NOT_OPEN: Final = "Task is not open"
_NOT_FOUND: Final[Mapping[str, str]] = {"execution": "Scan not found", "task": "Task not found"}


def _to_refusal(error: TasklatchError, problem: Problem) -> Refusal:
    if isinstance(error, NotFoundError):
        message = _NOT_FOUND[error.kind]
    else:
        message = _NOT_OPEN if isinstance(error, AttemptNotOpenError) else summarize_error(error, problem)
    return {"status": "REJECTED", "message": message, "error": message, "originalError": problem}


ERROR_FORMAT: Final = ErrorFormat(JSON, Refusal, _to_refusal, {HTTPStatus.UNPROCESSABLE_ENTITY: HTTPStatus.BAD_REQUEST})
