"""Requests and responses for Cognite Data Fusion's workflow executions, and for the status updates of their tasks.

Requests accept all fields that the platform's own client sends, and responses have all that it reads. Unknown fields
are ignored, as newer clients may send more.
"""

from dataclasses import replace
from typing import Annotated, Any, Final, Literal, NotRequired, Self

from pydantic import BaseModel, Field, model_validator
from typing_extensions import TypedDict

from tasklatch.api.body import dump_json
from tasklatch.domain.report import MAX_OUTPUT_BYTES, Report, make_report
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.platforms.cognite.definitions.models import WorkflowFilters
from tasklatch.platforms.cognite.definitions.task_models import DefinitionView
from tasklatch.platforms.cognite.models import LENIENT, MAX_PAGE, Cursor, NullsLeftOut, nullable

MAX_INPUT_BYTES: Final = 100 * 1024


class Authentication(BaseModel):
    """The nonce of a session."""

    model_config = LENIENT

    nonce: Annotated[str, Field(min_length=1, max_length=1024)]


class RunBody(BaseModel):
    """A run of a workflow's version. A request that is sent again with the same nonce starts no second run."""

    model_config = LENIENT

    authentication: Authentication
    input: dict[str, Any] | None = None
    metadata: Annotated[
        dict[Annotated[str, Field(max_length=32)], Annotated[str, Field(max_length=255)]] | None,
        Field(max_length=10),
    ] = None

    def input_text(self) -> str | None:
        """Return the input as JSON text to store.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If the input cannot be stored.
        """
        return dump_json(self.input, "input", limit=MAX_INPUT_BYTES)


class WorkflowRetryBody(BaseModel):
    """A retry of an execution; `authentication` is accepted and not used, as the access token is enough."""

    model_config = LENIENT

    authentication: Authentication | None = None


class WorkflowCancelBody(BaseModel):
    """Reason for cancelling an execution."""

    model_config = LENIENT

    reason: Annotated[str, Field(max_length=1024)] | None = None


class TaskUpdateBody(BaseModel):
    """Result of one attempt at a task."""

    model_config = LENIENT

    status: Literal["COMPLETED", "FAILED", "FAILED_WITH_TERMINAL_ERROR"]
    output: dict[str, Any] | None = None

    def report(self, task_id: str, attempt: int) -> Report:
        """Return the report to record in the ledger: its output is merged over the attempt's earlier output.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If its output cannot be stored.
        """
        output = dump_json(self.output, "output", limit=MAX_OUTPUT_BYTES)
        return replace(
            make_report(task_id, TaskStatus(self.status), attempt=attempt, output=output), merges_output=True
        )


class SessionBody(BaseModel):
    """A session to create. The service runs nothing on the caller's behalf, so it stores no secret."""

    model_config = LENIENT

    tokenExchange: bool | None = None
    oneshotTokenExchange: bool | None = None
    clientId: Annotated[str, Field(max_length=255)] | None = None
    clientSecret: str | None = None

    @property
    def kind(self) -> str:
        """The platform's name for such a session."""
        if self.clientId is not None:
            return "CLIENT_CREDENTIALS"
        return "ONESHOT_TOKEN_EXCHANGE" if self.oneshotTokenExchange else "TOKEN_EXCHANGE"


class SessionsBody(BaseModel):
    """Sessions to create."""

    model_config = LENIENT

    items: Annotated[list[SessionBody], Field(min_length=1, max_length=10)]


Statuses = Annotated[list[Annotated[ExecutionStatus, Field(strict=False)]], Field(json_schema_extra=nullable)]


class WorkflowExecutionsFilter(NullsLeftOut):
    """Filter of a list of executions; times are milliseconds since the epoch."""

    workflowFilters: WorkflowFilters = Field(default_factory=list)
    createdTimeStart: Annotated[int, Field(ge=0)] | None = None
    createdTimeEnd: Annotated[int, Field(ge=0)] | None = None
    status: Statuses = Field(default_factory=list)

    @model_validator(mode="after")
    def _check_time_range(self) -> Self:
        if (
            self.createdTimeStart is not None
            and self.createdTimeEnd is not None
            and self.createdTimeStart > self.createdTimeEnd
        ):
            raise ValueError("createdTimeStart is later than createdTimeEnd")
        return self


class WorkflowExecutionsListBody(NullsLeftOut):
    """Filter and page of a list of executions, newest first."""

    filter: WorkflowExecutionsFilter | None = None
    limit: Annotated[int, Field(ge=1, le=1000, json_schema_extra=nullable)] = 25
    cursor: Cursor | None = None

    @property
    def criteria(self) -> WorkflowExecutionsFilter:
        """The filter; an empty one if there is none."""
        return self.filter or WorkflowExecutionsFilter()

    @property
    def page(self) -> int:
        """Maximum number of executions in one response."""
        return min(self.limit, MAX_PAGE)


class WorkflowExecutionView(TypedDict):
    """A workflow execution; times are milliseconds since the epoch."""

    id: str
    engineExecutionId: str
    workflowExternalId: str
    version: str
    status: ExecutionStatus
    createdTime: int
    startTime: NotRequired[int]
    endTime: NotRequired[int]
    reasonForIncompletion: NotRequired[str]
    metadata: dict[str, str]


class WorkflowExecutionListView(TypedDict):
    """A page of executions, newest first."""

    items: list[WorkflowExecutionView]
    nextCursor: NotRequired[str]


class TaskExecutionView(TypedDict):
    """One attempt at a task; times are milliseconds since the epoch."""

    id: str
    externalId: str
    status: TaskStatus
    taskType: str
    input: dict[str, Any]
    output: dict[str, Any]
    parentTaskExternalId: str | None
    startTime: NotRequired[int]
    endTime: NotRequired[int]
    reasonForIncompletion: NotRequired[str]


class WorkflowExecutionDetailView(WorkflowExecutionView):
    """A workflow execution with its definition and the tasks that were scheduled, in the definition's order.

    `omittedPayloads` lists tasks that have their input from the definition and no output, as all payloads together
    would be too large for one response.
    """

    workflowDefinition: DefinitionView
    executedTasks: list[TaskExecutionView]
    input: NotRequired[dict[str, Any]]
    omittedPayloads: NotRequired[list[str]]


class SessionView(TypedDict):
    """A session; its nonce is for the next run."""

    id: int
    status: Literal["READY"]
    nonce: str
    type: str
    clientId: NotRequired[str]


class SessionListView(TypedDict):
    """The created sessions, in order."""

    items: list[SessionView]
