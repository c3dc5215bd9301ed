"""SuperAI's flow executions and the status updates of their tasks.

A flow execution is an execution that stays open: its status does not follow from its tasks. Each update adds a record
to the history of its task; some statuses drive the latch, all others are informational.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, NotRequired, Self
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import TypedDict

from tasklatch.api.app import JSON, Operation
from tasklatch.api.authorization import Scope
from tasklatch.api.errors import ErrorFormat, FieldError, Problem
from tasklatch.api.ids import NewTaskId, Uuid
from tasklatch.api.query_values import DECIMAL, QueryBool, Timestamp
from tasklatch.domain.errors import AttemptNotOpenError, NotFoundError, TasklatchError, UnknownTasksError
from tasklatch.domain.execution import Execution
from tasklatch.domain.report import Report, make_report
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import RetryPolicy, Task, TaskDetail
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.domain.verdict import is_on_opened_attempt
from tasklatch.runtime.clock import format_timestamp

MAX_STATUSES: Final = 100
MAX_TASKS_A_REQUEST: Final = 500
MAX_TASKS_LISTED: Final = 1000
"""The list has no pages, and a Lambda response holds 6 MB."""

_LENIENT: Final = ConfigDict(extra="ignore", strict=True, frozen=True)
_QUERY: Final = ConfigDict(extra="forbid", frozen=True)
_NAMESPACE: Final = UUID("c3c3a2a0-6e0d-4a39-9f0e-2f6c1a1f7f55")
_NO_FLOW: Final = str(UUID(int=0))
_ACTOR: Final = "system"
_FLOW_GROUP: Final = "flow:"
_TRIED_ONCE: Final = RetryPolicy(max_attempts=1)
_FIRST_VERSION: Final = 1

STATUS_MAP: Final[Mapping[str, TaskStatus]] = {
    "running": TaskStatus.IN_PROGRESS,
    "in_progress": TaskStatus.IN_PROGRESS,
    "completed": TaskStatus.COMPLETED,
    "failed": TaskStatus.FAILED,
    "skipped": TaskStatus.SKIPPED,
    "cancelled": TaskStatus.CANCELED,
}
"""Statuses that drive the latch. All others, `queued` among them, change nothing and are only stored in the history."""

EXECUTION_STATUS: Final[Mapping[ExecutionStatus, str]] = {
    ExecutionStatus.RUNNING: "running",
    ExecutionStatus.COMPLETED: "completed",
    ExecutionStatus.FAILED: "failed",
    ExecutionStatus.TIMED_OUT: "failed",
    ExecutionStatus.TERMINATED: "cancelled",
}
PROCESSING_STATUS: Final[Mapping[TaskStatus, str]] = {
    TaskStatus.PENDING: "queued",
    TaskStatus.SCHEDULED: "queued",
    TaskStatus.IN_PROGRESS: "running",
    TaskStatus.TIMED_OUT: "failed",
    TaskStatus.FAILED: "failed",
    TaskStatus.FAILED_WITH_TERMINAL_ERROR: "failed",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.COMPLETED_WITH_ERRORS: "completed",
    TaskStatus.SKIPPED: "cancelled",
    TaskStatus.CANCELED: "cancelled",
}
"""Statuses of the platform. It has none for a skipped task, which is cancelled: nobody will work on it."""


class FlowExecutionCreate(BaseModel):
    """A flow execution to create. The service has no flow definitions: `task_names` lists the tasks."""

    model_config = _LENIENT

    flow_id: Uuid
    input: dict[str, Any]
    input_task_name: str | None = None
    task_names: Annotated[list[NewTaskId], Field(max_length=MAX_TASKS_A_REQUEST)] = []

    def definitions(self) -> list[TaskDefinition]:
        """Return the domain's definitions of the tasks, with one attempt each: the platform's workers retry."""
        return [TaskDefinition(name, retry_policy=_TRIED_ONCE) for name in dict.fromkeys(self.task_names)]


class TaskStatusItem(BaseModel):
    """One status update; any text is accepted as `status`."""

    model_config = _LENIENT

    task_name: Annotated[str, Field(min_length=1, max_length=255)]
    status: Annotated[str, Field(max_length=50)] | None = None

    def report(self, record: str) -> Report:
        """Return the report to record in the ledger; `record` is the name of its history record."""
        meaning = STATUS_MAP.get(self.status or "", TaskStatus.PENDING)
        return replace(make_report(self.task_name, meaning, platform_status=self.status or None), record=record)


class TaskStatuses(BaseModel):
    """Up to 100 status updates, recorded in order; all are accepted, or none."""

    model_config = _LENIENT

    statuses: Annotated[list[TaskStatusItem], Field(min_length=1, max_length=MAX_STATUSES)]

    def reports(self, now: int, request_id: str) -> list[Report]:
        """Return the reports to record in the ledger, in order.

        Parameters
        ----------
        now
            Milliseconds since the epoch.
        request_id
            Unique id of the request; a part of the names of the history records.
        """
        return [item.report(f"{now:014d}-{request_id}-{index:03d}") for index, item in enumerate(self.statuses)]


class FlowExecutionsQuery(BaseModel):
    """Filter and page of a list of flow executions, newest first."""

    model_config = _QUERY

    flow_id: Uuid
    status: Annotated[str, Field(description="One or more, with commas between them")] | None = None
    created_after: Timestamp | None = None
    created_before: Timestamp | None = None
    sort_field: Literal["created_at"] = "created_at"
    sort_direction: Literal["desc"] = "desc"
    page: Annotated[int, Field(ge=1, le=10), DECIMAL] = 1
    page_size: Annotated[int, Field(ge=1, le=100), DECIMAL] = 10
    include_run_number: QueryBool = False
    include_credits: QueryBool = False

    @field_validator("status")
    @classmethod
    def _check_status(cls, value: str | None) -> str | None:
        if value is not None and not set(value.split(",")) <= set(EXECUTION_STATUS.values()):
            raise ValueError(f"one of {', '.join(dict.fromkeys(EXECUTION_STATUS.values()))}")
        return value

    @model_validator(mode="after")
    def _check_time_range(self) -> Self:
        if self.created_after and self.created_before and self.created_after > self.created_before:
            raise ValueError("created_after is later than created_before")
        return self

    def matches(self, execution: Execution) -> bool:
        """Return True if a flow execution belongs in the list: deleted ones do not."""
        statuses = self.status.split(",") if self.status is not None else EXECUTION_STATUS.values()
        return execution.deleted_at is None and EXECUTION_STATUS[execution.status] in statuses


class FlowExecutionQuery(BaseModel):
    """Options of a flow execution's view; the service has neither run numbers nor credits, and ignores them."""

    model_config = _QUERY

    include_run_number: QueryBool = False
    include_credits: QueryBool = False


class TaskExecutionsQuery(BaseModel):
    """Filter of the list of one flow execution's task executions."""

    model_config = _QUERY

    flow_execution_id: Annotated[str, Field(min_length=1, max_length=128)]
    task_name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    task_execution_idx: Annotated[int, Field(ge=0), DECIMAL] | None = None
    include_credits: QueryBool = False


class FlowExecutionView(TypedDict):
    """A flow execution; times are RFC 3339 in UTC."""

    id: str
    created_at: str
    updated_at: str
    modified_by: str
    flow_id: str
    flow_version: int
    status: str
    input: dict[str, Any]
    organization_id: str


class TaskStatusView(TypedDict):
    """The history record of one status update."""

    id: str
    flow_execution_id: str
    organization_id: str
    task_name: str
    status: str
    created_at: str


class FlowTaskExecutionView(TypedDict):
    """The current attempt at a task; `input` and `output` are null unless the request has a `task_name`."""

    id: str
    flow_execution_id: str
    task_execution_idx: int
    task_name: str
    created_at: str
    updated_at: str
    modified_by: str
    processing_status: str
    edited_status: Literal["not_edited"]
    stale_status: Literal["consistent"]
    input: Any
    output: Any
    error: dict[str, Any] | None
    organization_id: str
    started_at: str | None
    completed_at: str | None
    tags: list[Any]


class TaskExecutionList(TypedDict):
    """Task executions, newest first."""

    task_executions: list[FlowTaskExecutionView]


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


def organization_id_for(tenant: str) -> str:
    """Return the UUID that stands for a tenant in the platform's responses."""
    return str(uuid5(_NAMESPACE, tenant))


def flow_group(flow_id: UUID) -> str:
    """Return the group of a flow's executions."""
    return f"{_FLOW_GROUP}{flow_id}"


def get_flow_id(execution: Execution) -> str | None:
    """Return the id of an execution's flow; None if another contract created the execution."""
    group = execution.group or ""
    return group.removeprefix(_FLOW_GROUP) if group.startswith(_FLOW_GROUP) else None


def check_names(statuses: TaskStatuses, known_names: Iterable[str]) -> None:
    """Check that all tasks of the updates exist.

    Raises
    ------
    UnknownTasksError
        If some do not; the error names each of them once.
    """
    unknown = list(dict.fromkeys(item.task_name for item in statuses.statuses if item.task_name not in known_names))
    if unknown:
        raise UnknownTasksError(f"unknown task names: {', '.join(map(json.dumps, unknown))}", unknown)


def check_open(reports: Iterable[Report], tasks: Mapping[str, Task]) -> None:
    """Check that all tasks with updates that drive the latch are open: after a 200, a caller expects them to count.

    Raises
    ------
    AttemptNotOpenError
        If some are not; the error names each of them once.
    """
    driving = (report for report in reports if not report.is_informational)
    closed = [report.task_id for report in driving if not is_on_opened_attempt(report, tasks[report.task_id])]
    if closed:
        raise AttemptNotOpenError("not open: waiting for others, or cancelled before", *dict.fromkeys(closed))


def flow_execution_view(execution: Execution) -> FlowExecutionView:
    """Return the view of a flow execution; one of another contract has no flow, and its metadata as input."""
    flow = get_flow_id(execution)
    metadata: dict[str, Any] = json.loads(execution.metadata) if execution.metadata else {}
    return {
        "id": execution.execution_id,
        "created_at": format_timestamp(execution.created_at),
        "updated_at": format_timestamp(execution.updated_at),
        "modified_by": _ACTOR,
        "flow_id": flow or _NO_FLOW,
        "flow_version": _FIRST_VERSION,
        "status": EXECUTION_STATUS[execution.status],
        "input": metadata["input"] if flow else metadata,
        "organization_id": organization_id_for(execution.tenant),
    }


def task_status_view(report: Report, update: TaskStatusItem, task: Task, now: int) -> TaskStatusView:
    """Return the view of an update's history record; an update without a status has the task's status."""
    record = f"{task.tenant}\0{task.execution_id}\0{report.record}"
    return {
        "id": str(uuid5(_NAMESPACE, record)),
        "flow_execution_id": task.execution_id,
        "organization_id": organization_id_for(task.tenant),
        "task_name": task.task_id,
        "status": update.status or PROCESSING_STATUS[task.status],
        "created_at": format_timestamp(now),
    }


def task_execution_view(task: Task, detail: TaskDetail | None = None) -> FlowTaskExecutionView:
    """Return the view of a task's current attempt, with its payloads if `detail` is passed."""
    processing = PROCESSING_STATUS[task.status]
    error = {"reason": task.failure_reason, "message": task.message} if processing == "failed" else None
    return {
        "id": task.task_execution_id,
        "flow_execution_id": task.execution_id,
        "task_execution_idx": task.attempt - 1,
        "task_name": task.task_id,
        "created_at": format_timestamp(task.scheduled_at or task.created_at),
        "updated_at": format_timestamp(task.updated_at),
        "modified_by": _ACTOR,
        "processing_status": processing,
        "edited_status": "not_edited",
        "stale_status": "consistent",
        "input": json.loads(detail.input) if detail and detail.input else None,
        "output": json.loads(detail.output) if detail and detail.output else None,
        "error": error,
        "organization_id": organization_id_for(task.tenant),
        "started_at": _format_optional(task.started_at),
        "completed_at": _format_optional(task.ended_at),
        "tags": [],
    }


def newest_first(tasks: Iterable[Task], query: TaskExecutionsQuery) -> Sequence[Task]:
    """Return the tasks that match the query, newest attempt first."""
    matching = [task for task in tasks if query.task_execution_idx in (None, task.attempt - 1)]
    return sorted(matching, key=lambda task: (task.scheduled_at or task.created_at, task.task_id), reverse=True)


def _format_optional(milliseconds: int | None) -> str | None:
    return format_timestamp(milliseconds) if milliseconds is not None else None


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


_ERROR_FORMAT: Final = ErrorFormat(JSON, FlowErrorEnvelope, _to_error_envelope)
_FLOWS: Final = "/api/flow-executions"
_FLOW: Final = f"{_FLOWS}/{{flow_execution_id}}"
_MISSING: Final = (HTTPStatus.NOT_FOUND,)

ADD_TASK_STATUSES: Final = Operation(
    name="superai_add_task_statuses",
    key=f"POST {_FLOW}/task-status",
    summary="Record up to 100 status updates of a SuperAI flow execution's tasks, in order",
    scope=Scope.REPORT,
    request=TaskStatuses,
    responses={HTTPStatus.OK: list[TaskStatusView]},
    problems=(HTTPStatus.BAD_REQUEST, *_MISSING, HTTPStatus.CONFLICT),
    error_format=_ERROR_FORMAT,
)
CREATE_FLOW_EXECUTION: Final = Operation(
    name="superai_create_flow_execution",
    key=f"POST {_FLOWS}",
    summary="Create a SuperAI flow execution",
    scope=Scope.MANAGE,
    request=FlowExecutionCreate,
    responses={HTTPStatus.CREATED: FlowExecutionView},
    problems=(HTTPStatus.CONFLICT,),
    headers=("Idempotency-Key",),
    error_format=_ERROR_FORMAT,
)
LIST_FLOW_EXECUTIONS: Final = Operation(
    name="superai_list_flow_executions",
    key=f"GET {_FLOWS}",
    summary="List the executions of a SuperAI flow, newest first",
    scope=Scope.READ,
    query=FlowExecutionsQuery,
    repeatable=frozenset({"status"}),
    responses={HTTPStatus.OK: list[FlowExecutionView]},
    error_format=_ERROR_FORMAT,
)
GET_FLOW_EXECUTION: Final = Operation(
    name="superai_get_flow_execution",
    key=f"GET {_FLOW}",
    summary="Show a SuperAI flow execution",
    scope=Scope.READ,
    query=FlowExecutionQuery,
    responses={HTTPStatus.OK: FlowExecutionView},
    problems=_MISSING,
    error_format=_ERROR_FORMAT,
)
DELETE_FLOW_EXECUTION: Final = Operation(
    name="superai_delete_flow_execution",
    key=f"DELETE {_FLOW}",
    summary="Cancel and hide a SuperAI flow execution; the native contract still shows it",
    scope=Scope.MANAGE,
    responses={HTTPStatus.NO_CONTENT: None},
    problems=_MISSING,
    error_format=_ERROR_FORMAT,
)
CANCEL_FLOW_EXECUTION: Final = Operation(
    name="superai_cancel_flow_execution",
    key=f"POST {_FLOW}/cancel",
    summary="Cancel a SuperAI flow execution; its open tasks are cancelled",
    scope=Scope.MANAGE,
    responses={HTTPStatus.NO_CONTENT: None},
    problems=(*_MISSING, HTTPStatus.CONFLICT),
    error_format=_ERROR_FORMAT,
)
LIST_TASK_EXECUTIONS: Final = Operation(
    name="superai_list_task_executions",
    key="GET /api/task-executions",
    summary="List the task executions of a SuperAI flow execution, newest first",
    scope=Scope.READ,
    query=TaskExecutionsQuery,
    responses={HTTPStatus.OK: TaskExecutionList},
    error_format=_ERROR_FORMAT,
)
