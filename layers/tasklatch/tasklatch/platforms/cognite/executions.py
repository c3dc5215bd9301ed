"""Cognite Data Fusion's workflow executions, and the status updates of their tasks.

An execution is a run of a workflow's version; a task's id is the id of its attempt. Requests accept all fields that the
platform's own client sends, and responses have all that it reads; unknown fields are ignored, as newer clients may send
more.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, NotRequired, Self, cast
from uuid import UUID, uuid5

from pydantic import BaseModel, Field, model_validator
from typing_extensions import TypedDict

from tasklatch.api.authorization import Scope
from tasklatch.api.body import dump_json
from tasklatch.domain.attempt_id import task_execution_id
from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.execution import Execution, ExecutionFilter
from tasklatch.domain.history import HistoryEntry
from tasklatch.domain.report import MAX_OUTPUT_BYTES, Report, make_report
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import FAILURES, ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task, TaskDetail
from tasklatch.platforms.cognite.definitions import DefinitionView, WorkflowFilter, definition_view
from tasklatch.platforms.cognite.errors import (
    LENIENT,
    MAX_PAGE,
    PROJECT,
    UNKNOWN_IS_BAD_REQUEST,
    Cursor,
    project_operation,
)

MAX_INPUT_BYTES: Final = 100 * 1024
MAX_DETAIL_BYTES: Final = 4 * 1024 * 1024
"""Limit of inputs and outputs in one response: Lambda's holds 6 MB, and the definition needs room too."""

_GROUP: Final = "workflow:"
_NAMESPACE: Final = UUID("2f1c9a77-54a5-4f1b-9d58-6b1d0d1f0a63")
_OTHER_KIND: Final = "native"
"""Type of a task that another contract added: the platform's client accepts any text."""


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


class WorkflowExecutionsFilter(BaseModel):
    """Filter of a list of executions; times are milliseconds since the epoch."""

    model_config = LENIENT

    workflowFilters: Annotated[list[WorkflowFilter], Field(max_length=MAX_PAGE)] = []
    createdTimeStart: Annotated[int, Field(ge=0)] | None = None
    createdTimeEnd: Annotated[int, Field(ge=0)] | None = None
    status: list[Annotated[ExecutionStatus, Field(strict=False)]] = []

    @model_validator(mode="after")
    def _check_time_range(self) -> Self:
        if (
            self.createdTimeStart is not None
            and self.createdTimeEnd is not None
            and self.createdTimeStart > self.createdTimeEnd
        ):
            raise ValueError("createdTimeStart is later than createdTimeEnd")
        return self


class WorkflowExecutionsListBody(BaseModel):
    """Filter and page of a list of executions, newest first."""

    model_config = LENIENT

    filter: WorkflowExecutionsFilter = WorkflowExecutionsFilter()
    limit: Annotated[int, Field(ge=1, le=1000)] = 25
    cursor: Cursor | None = None

    @property
    def page(self) -> int:
        """Maximum number of executions in one response."""
        return min(self.limit, MAX_PAGE)

    def to_filter(self) -> ExecutionFilter:
        """Return the filter of the list, which has only runs of workflows."""
        return ExecutionFilter(
            statuses=frozenset(self.filter.status),
            group_versions=tuple(
                (workflow_group(workflow_filter.externalId), workflow_filter.version)
                for workflow_filter in self.filter.workflowFilters
            ),
            group_prefix=_GROUP,
        )


class WorkflowExecutionView(TypedDict):
    """A workflow execution; times are milliseconds since the epoch."""

    id: str
    workflowExternalId: str
    version: str
    status: ExecutionStatus
    createdTime: int
    startTime: int
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


@dataclass(frozen=True, slots=True)
class AttemptState:
    """State or result of one attempt at a task; times are milliseconds since the epoch."""

    attempt: int
    status: TaskStatus
    started_at: int | None
    ended_at: int | None
    why: str | None
    output: str | None


def workflow_group(workflow_external_id: str) -> str:
    """Return the group of a workflow's executions."""
    return f"{_GROUP}{workflow_external_id}"


def run_id(tenant: str, workflow_external_id: str, version: str, nonce: str) -> str:
    """Return the id of the execution that a run starts: the same for the same nonce."""
    return str(uuid5(_NAMESPACE, f"{tenant}\0{workflow_external_id}\0{version}\0{nonce}"))


def check_is_run(execution: Execution) -> Execution:
    """Check that an execution is a run of a workflow, and return it.

    Raises
    ------
    NotFoundError
        If it is not: this contract cannot show it.
    """
    if execution.group_version is None or not (execution.group or "").startswith(_GROUP):
        raise NotFoundError("execution", execution.execution_id)
    return execution


def workflow_execution_view(execution: Execution) -> WorkflowExecutionView:
    """Return the view of an execution."""
    view: WorkflowExecutionView = {
        "id": execution.execution_id,
        "workflowExternalId": (execution.group or "").removeprefix(_GROUP),
        "version": execution.group_version or "",
        "status": execution.status,
        "createdTime": execution.created_at,
        "startTime": execution.created_at,
        "metadata": json.loads(execution.metadata) if execution.metadata else {},
    }
    if execution.ended_at is not None:
        view["endTime"] = execution.ended_at
    if execution.reason is not None:
        view["reasonForIncompletion"] = execution.reason
    return view


def workflow_execution_detail_view(
    execution: Execution, definition: str | None, execution_input: str | None, details: Iterable[TaskDetail]
) -> WorkflowExecutionDetailView:
    """Return the view of an execution with its definition, its input and its tasks.

    Parameters
    ----------
    definition, execution_input
        Definition and input of the run as JSON texts.
    """
    shown = definition_view(definition or '{"tasks":[]}')
    parameters = {task["externalId"]: task["parameters"] for task in shown["tasks"]}
    order = {external_id: index for index, external_id in enumerate(parameters)}
    executed = [detail for detail in details if detail.task.status is not TaskStatus.PENDING]
    executed.sort(key=lambda task_detail: (order.get(task_detail.task.task_id, len(order)), task_detail.task.task_id))
    room, omitted, tasks = MAX_DETAIL_BYTES, [], []
    for task_with_details in executed:
        room -= len((task_with_details.input or "").encode()) + len((task_with_details.output or "").encode())
        fits = room >= 0
        if not fits:
            omitted.append(task_with_details.task.task_id)
        whole = (
            task_with_details
            if fits
            else replace(
                task_with_details, input=json.dumps(parameters.get(task_with_details.task.task_id, {})), output=None
            )
        )
        tasks.append(workflow_task_view(whole, current_attempt_state(whole)))
    view = cast(
        "WorkflowExecutionDetailView",
        {**workflow_execution_view(execution), "workflowDefinition": shown, "executedTasks": tasks},
    )
    if execution_input is not None:
        view["input"] = json.loads(execution_input)
    if omitted:
        view["omittedPayloads"] = omitted
    return view


def is_earlier_attempt(task: Task, attempt: int) -> bool:
    """Return True if only the history has the result of an attempt; a success stands for every attempt."""
    return attempt != task.attempt and task.status is not TaskStatus.COMPLETED


def current_attempt_state(detail: TaskDetail, attempt: int | None = None) -> AttemptState:
    """Return the state of a task as that of `attempt`, by default the current one."""
    task = detail.task
    began_at = task.started_at or task.scheduled_at
    return AttemptState(
        attempt or task.attempt, task.status, began_at, task.ended_at, _incompletion_reason(task), detail.output
    )


def earlier_attempt_state(
    attempt: int, entry: HistoryEntry | None, output: str | None, reported_status: str
) -> AttemptState:
    """Return the result of an earlier attempt.

    Parameters
    ----------
    entry
        The attempt's last change in the history; None if it is not written yet.
    reported_status
        Status that the worker reports, used if there is no entry.
    """
    if entry is None:
        status = TaskStatus(reported_status) if reported_status in FAILURES else TaskStatus.FAILED
        return AttemptState(attempt, status, None, None, None, None)
    return AttemptState(attempt, entry.status, None, entry.at, entry.message, output)


def workflow_task_view(detail: TaskDetail, state: AttemptState) -> TaskExecutionView:
    """Return the view of one attempt at a task."""
    task = detail.task
    view: TaskExecutionView = {
        "id": task_execution_id(task.tenant, task.execution_id, task.task_id, state.attempt),
        "externalId": task.task_id,
        "status": state.status,
        "taskType": detail.kind or _OTHER_KIND,
        "input": json.loads(detail.input) if detail.input else {},
        "output": json.loads(state.output) if state.output else {},
    }
    if state.started_at is not None:
        view["startTime"] = state.started_at
    if state.ended_at is not None:
        view["endTime"] = state.ended_at
    if state.why is not None:
        view["reasonForIncompletion"] = state.why
    return view


def session_view(body: SessionBody, session_id: int, nonce: str) -> SessionView:
    """Return the view of a session."""
    view: SessionView = {"id": session_id, "status": "READY", "nonce": nonce, "type": body.kind}
    if body.clientId is not None:
        view["clientId"] = body.clientId
    return view


def _incompletion_reason(task: Task) -> str | None:
    """Return the task's message or, after a final failure, the reason of the retry decision; None otherwise."""
    decision = decide_retry(task)
    return task.message or (decision.reason if decision is not None and not decision.will_retry else None)


_EXECUTIONS: Final = f"{PROJECT}/workflows/executions"
_EXECUTION: Final = f"{_EXECUTIONS}/{{executionId}}"
_MISSING: Final = (HTTPStatus.NOT_FOUND,)

CREATE_SESSIONS: Final = project_operation(
    name="cognite_create_sessions",
    key=f"POST {PROJECT}/sessions",
    summary="Make sessions, whose nonces name runs of workflows",
    scope=Scope.MANAGE,
    request=SessionsBody,
    responses={HTTPStatus.OK: SessionListView},
)
RUN_WORKFLOW: Final = project_operation(
    name="cognite_run_workflow",
    key=f"POST {PROJECT}/workflows/{{workflowExternalId}}/versions/{{version}}/run",
    summary="Run a version of a workflow; again with the same nonce, it is the same execution",
    scope=Scope.MANAGE,
    request=RunBody,
    responses={HTTPStatus.OK: WorkflowExecutionView},
    problems=(*_MISSING, HTTPStatus.CONFLICT),
)
LIST_EXECUTIONS: Final = project_operation(
    name="cognite_list_executions",
    key=f"POST {_EXECUTIONS}/list",
    summary="List workflow executions, newest first",
    scope=Scope.READ,
    request=WorkflowExecutionsListBody,
    responses={HTTPStatus.OK: WorkflowExecutionListView},
)
GET_EXECUTION: Final = project_operation(
    name="cognite_get_execution",
    key=f"GET {_EXECUTION}",
    summary="Show a workflow execution with its definition and its tasks",
    scope=Scope.READ,
    responses={HTTPStatus.OK: WorkflowExecutionDetailView},
    problems=_MISSING,
    error_format=UNKNOWN_IS_BAD_REQUEST,
)
CANCEL_EXECUTION: Final = project_operation(
    name="cognite_cancel_execution",
    key=f"POST {_EXECUTION}/cancel",
    summary="Cancel a workflow execution; its open tasks are cancelled",
    scope=Scope.MANAGE,
    request=WorkflowCancelBody,
    responses={HTTPStatus.OK: WorkflowExecutionView},
    problems=(*_MISSING, HTTPStatus.CONFLICT),
)
RETRY_EXECUTION: Final = project_operation(
    name="cognite_retry_execution",
    key=f"POST {_EXECUTION}/retry",
    summary="Give what failed or was cancelled in a workflow execution one more attempt each",
    scope=Scope.MANAGE,
    request=WorkflowRetryBody,
    responses={HTTPStatus.OK: WorkflowExecutionView},
    problems=(*_MISSING, HTTPStatus.CONFLICT),
)
UPDATE_TASK: Final = project_operation(
    name="cognite_update_task",
    key=f"POST {PROJECT}/workflows/tasks/{{taskId}}/update",
    summary="Report how one attempt at a workflow's task ended",
    scope=Scope.REPORT,
    request=TaskUpdateBody,
    responses={HTTPStatus.OK: TaskExecutionView},
    problems=_MISSING,
)
