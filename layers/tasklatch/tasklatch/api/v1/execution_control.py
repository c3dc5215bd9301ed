"""Operations on a whole execution in the native contract: cancel, retry, watch."""

from http import HTTPStatus
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from tasklatch.api.authorization import Scope
from tasklatch.api.operation import Operation
from tasklatch.api.v1.executions.models import ExecutionView


class CancelBody(BaseModel):
    """Reason for cancelling an execution."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reason: Annotated[str, Field(min_length=1, max_length=1024)] | None = None


class TicketView(TypedDict):
    """A ticket to watch one execution: connect to `url` before `validUntil`, once."""

    ticket: str
    url: str
    validUntil: str


_EXECUTION: Final = "/v1/executions/{executionId}"
_PROBLEMS: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)

CANCEL_EXECUTION: Final = Operation(
    name="cancel_execution",
    key=f"POST {_EXECUTION}/cancel",
    summary="Terminate a running execution; its open tasks are cancelled",
    scope=Scope.MANAGE,
    request=CancelBody,
    responses={HTTPStatus.OK: ExecutionView},
    problems=_PROBLEMS,
)
RETRY_EXECUTION: Final = Operation(
    name="retry_execution",
    key=f"POST {_EXECUTION}/retry",
    summary="Give what failed or was cancelled one more attempt each; 202 if a large execution takes longer",
    scope=Scope.MANAGE,
    responses={HTTPStatus.OK: ExecutionView, HTTPStatus.ACCEPTED: ExecutionView},
    problems=_PROBLEMS,
)
WATCH_EXECUTION: Final = Operation(
    name="watch_execution",
    key=f"POST {_EXECUTION}/watch",
    summary="Get a ticket to watch an execution over a WebSocket",
    scope=Scope.READ,
    responses={HTTPStatus.OK: TicketView},
    problems=(HTTPStatus.NOT_FOUND,),
)
