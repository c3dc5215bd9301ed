"""Requests and responses for claims and releases in the native contract."""

from typing import Annotated, Any, Final, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from tasklatch.api.ids import ExecutionId, TaskId
from tasklatch.api.v1.reports.models import AttemptBody
from tasklatch.api.v1.views import ReportedTaskView
from tasklatch.domain.claim import MAX_CLAIMED, MAX_WAIT_SECONDS
from tasklatch.domain.errors import InvalidRequestError
from tasklatch.domain.report import Verdict

# A model is built when it is first used: a cold start needs one of them
_STRICT: Final = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class ClaimBody(BaseModel):
    """Request for up to `max` tasks of a queue; asked again with the same `claimId`, for the same tasks."""

    model_config = _STRICT

    max: Annotated[int, Field(ge=1, le=MAX_CLAIMED)] = 1
    waitSeconds: Annotated[int, Field(ge=0, le=MAX_WAIT_SECONDS)] = 0
    claimId: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class ReleaseBody(AttemptBody):
    """An attempt that its worker gives back; `attempt` or `taskExecutionId` names it."""

    executionId: ExecutionId
    taskId: TaskId

    def released_attempt(self, tenant: str) -> int:
        """Return the attempt that the body names.

        Raises
        ------
        InvalidRequestError
            If it names none: the current one may be another worker's by then.
        AttemptIdRequiredError, AttemptNotOpenError
            As `AttemptBody.resolve_attempt`.
        """
        attempt = self.resolve_attempt(tenant, self.executionId, self.taskId)
        if attempt is None:
            message = "attempt or taskExecutionId is needed"
            raise InvalidRequestError(message, [{"loc": ["body", "attempt"], "msg": message, "type": "missing"}])
        return attempt


class ClaimedTaskView(TypedDict):
    """A task that was begun for the worker; it reports on it with the taskExecutionId.

    At the `deadline` (RFC 3339, UTC) the attempt is given up, unless a heartbeat or a report moves it.
    """

    executionId: str
    taskId: str
    attempt: int
    taskExecutionId: str
    input: dict[str, Any]
    queue: str
    deadline: NotRequired[str]
    heartbeatSeconds: NotRequired[int]


class ClaimResponse(TypedDict):
    """The tasks that were begun; where there are none, the seconds after which to ask again."""

    items: list[ClaimedTaskView]
    askAgainSeconds: NotRequired[int]


class ReleaseResponse(TypedDict):
    """The verdict on a release, and the task after it."""

    verdict: Verdict
    task: ReportedTaskView
