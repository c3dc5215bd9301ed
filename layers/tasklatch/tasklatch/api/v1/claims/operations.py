"""Operations for claims and releases in the native contract."""

from http import HTTPStatus
from typing import Final

from tasklatch.api.authorization import Scope
from tasklatch.api.operation import Operation
from tasklatch.api.v1.claims.models import ClaimBody, ClaimResponse, ReleaseBody, ReleaseResponse

_QUEUE: Final = "/v1/queues/{queue}"

CLAIM_TASKS: Final = Operation(
    name="claim_tasks",
    key=f"POST {_QUEUE}/claim",
    summary="Get tasks to work on: each is begun for the worker that gets it",
    scope=Scope.REPORT,
    request=ClaimBody,
    responses={HTTPStatus.OK: ClaimResponse},
)
RELEASE_TASK: Final = Operation(
    name="release_task",
    key=f"POST {_QUEUE}/release",
    summary="Give back an attempt that the worker cannot do; another worker gets the task, and no attempt is spent",
    scope=Scope.REPORT,
    request=ReleaseBody,
    responses={HTTPStatus.OK: ReleaseResponse},
    problems=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
