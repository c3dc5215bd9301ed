"""Executions in the native contract: request models, response models and operations."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, NotRequired, Self, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import TypedDict

from tasklatch.api.app import Operation
from tasklatch.api.authorization import Scope
from tasklatch.api.body import dump_json
from tasklatch.api.ids import NewExecutionId, NewTaskId, TaskId
from tasklatch.api.query_values import DECIMAL, Timestamp
from tasklatch.api.v1.views import (
    TaskDetailView,
    TaskView,
    payload_view,
    retry_view,
    task_view,
)
from tasklatch.domain.attempt_id import task_execution_id
from tasklatch.domain.execution import Execution, ExecutionFilter
from tasklatch.domain.history import HistoryEntry
from tasklatch.domain.report import Verdict
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import DEFAULT_RETRY_POLICY, OnFailure, RetryPolicy, TaskDetail
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.runtime.clock import format_timestamp

MAX_TASKS_A_REQUEST: Final = 500
MAX_DEPENDENCIES_BYTES: Final = 200_000
"""Dependencies and input share one item, and a DynamoDB item holds 400 KB."""

MAX_METADATA_BYTES: Final = 16 * 1024
"""A page of 100 executions must fit into a Lambda response of 6 MB."""

_LONGEST_SECONDS: Final = 31_536_000

_STRICT: Final = ConfigDict(extra="forbid", strict=True, frozen=True)
_QUERY: Final = ConfigDict(extra="forbid", frozen=True)


class RetryPolicyBody(BaseModel):
    """Number of attempts at a task and the delays between them; times in seconds."""

    model_config = _STRICT

    maxAttempts: Annotated[int, Field(ge=1, le=100)] = DEFAULT_RETRY_POLICY.max_attempts
    initialSeconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = DEFAULT_RETRY_POLICY.initial_seconds
    multiplier: Annotated[float, Field(ge=1, le=10, allow_inf_nan=False)] = DEFAULT_RETRY_POLICY.multiplier
    maxSeconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = DEFAULT_RETRY_POLICY.max_seconds
    jitter: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = DEFAULT_RETRY_POLICY.jitter
    retryTimeouts: bool = DEFAULT_RETRY_POLICY.retry_timeouts

    def policy(self) -> RetryPolicy:
        """Return the domain's retry policy, with numbers rounded to three decimals."""
        return RetryPolicy(
            max_attempts=self.maxAttempts,
            initial_seconds=round(self.initialSeconds, 3),
            multiplier=round(self.multiplier, 3),
            max_seconds=round(self.maxSeconds, 3),
            jitter=round(self.jitter, 3),
            retry_timeouts=self.retryTimeouts,
        )


class TaskBody(BaseModel):
    """One unit of work."""

    model_config = _STRICT

    taskId: NewTaskId
    input: dict[str, Any] | None = None
    dependsOn: Annotated[list[TaskId], Field(max_length=MAX_TASKS_A_REQUEST)] | None = None
    retryPolicy: RetryPolicyBody | None = None
    timeoutSeconds: Annotated[int, Field(ge=1, le=_LONGEST_SECONDS)] | None = None
    heartbeatTimeoutSeconds: Annotated[int, Field(ge=1, le=_LONGEST_SECONDS)] | None = None
    onFailure: Annotated[OnFailure, Field(strict=False)] = OnFailure.ABORT

    @field_validator("dependsOn")
    @classmethod
    def _check_size(cls, value: list[str] | None) -> list[str] | None:
        if sum(len(name.encode()) for name in value or ()) > MAX_DEPENDENCIES_BYTES:
            raise ValueError(f"the names are over {MAX_DEPENDENCIES_BYTES:,} bytes together")
        return value

    def definition(self, index: int) -> TaskDefinition:
        """Return the domain's definition of the task; `index` is its position in the request.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If its input cannot be stored.
        """
        return TaskDefinition(
            task_id=self.taskId,
            input=dump_json(self.input, "tasks", index, "input"),
            depends_on=tuple(dict.fromkeys(self.dependsOn or ())),
            retry_policy=self.retryPolicy.policy() if self.retryPolicy else DEFAULT_RETRY_POLICY,
            timeout_seconds=self.timeoutSeconds,
            heartbeat_timeout_seconds=self.heartbeatTimeoutSeconds,
            on_failure=self.onFailure,
        )


class TasksBody(BaseModel):
    """Tasks to add to a running execution."""

    model_config = _STRICT

    tasks: Annotated[list[TaskBody], Field(min_length=1, max_length=MAX_TASKS_A_REQUEST)]

    def definitions(self) -> list[TaskDefinition]:
        """Return the domain's definitions of the tasks, in order."""
        return [task.definition(index) for index, task in enumerate(self.tasks)]


class ExecutionBody(TasksBody):
    """An execution to create, with up to 500 tasks; more can be added later."""

    executionId: NewExecutionId | None = None
    name: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None
    metadata: dict[str, Any] | None = None


class ExecutionsQuery(BaseModel):
    """Filter and page of a list of executions; times are RFC 3339."""

    model_config = _QUERY

    status: ExecutionStatus | None = None
    createdAfter: Timestamp | None = None
    createdBefore: Timestamp | None = None
    limit: Annotated[int, Field(ge=1, le=100), DECIMAL] = 25
    cursor: Annotated[str, Field(max_length=2048)] | None = None

    @model_validator(mode="after")
    def _check_time_range(self) -> Self:
        if self.createdAfter and self.createdBefore and self.createdAfter > self.createdBefore:
            raise ValueError("createdAfter is later than createdBefore")
        return self

    def to_filter(self) -> ExecutionFilter:
        """Return the filter of the list."""
        return ExecutionFilter(frozenset() if self.status is None else frozenset({self.status}))


class TasksQuery(BaseModel):
    """Filter and page of a list of tasks."""

    model_config = _QUERY

    status: TaskStatus | None = None
    limit: Annotated[int, Field(ge=1, le=400), DECIMAL] = 100
    cursor: Annotated[str, Field(max_length=4096)] | None = None


class HistoryQuery(BaseModel):
    """Page of a task's history."""

    model_config = _QUERY

    limit: Annotated[int, Field(ge=1, le=400), DECIMAL] = 100
    cursor: Annotated[str, Field(max_length=4096)] | None = None


class NamedTaskBody(BaseModel):
    """The task to show."""

    model_config = _STRICT

    taskId: TaskId


class NamedHistoryBody(NamedTaskBody):
    """The task whose history to list, and the page."""

    limit: Annotated[int, Field(ge=1, le=400)] = 100
    cursor: Annotated[str, Field(max_length=4096)] | None = None


class ExecutionView(TypedDict):
    """An execution; times are RFC 3339 in UTC."""

    executionId: str
    status: ExecutionStatus
    version: int
    createdAt: str
    updatedAt: str
    endedAt: NotRequired[str]
    reason: NotRequired[str]
    staysOpen: NotRequired[bool]
    deletedAt: NotRequired[str]
    name: NotRequired[str]
    metadata: NotRequired[dict[str, Any]]


class ExecutionDetailView(ExecutionView):
    """An execution with the number of its tasks in each status."""

    taskCount: int
    counts: dict[TaskStatus, int]


class ExecutionList(TypedDict):
    """A page of executions."""

    items: list[ExecutionView]
    nextCursor: NotRequired[str]


class TaskList(TypedDict):
    """A page of tasks."""

    items: list[TaskView]
    nextCursor: NotRequired[str]


class HistoryView(TypedDict):
    """One change of a task, or one report that changed nothing; `version` is the task's version after it."""

    version: int
    verdict: Verdict
    status: TaskStatus
    at: str
    attempt: NotRequired[int]
    taskExecutionId: NotRequired[str]
    previousStatus: NotRequired[TaskStatus]
    failureReason: NotRequired[str]
    message: NotRequired[str]
    label: NotRequired[str]
    requestId: NotRequired[str]


class HistoryList(TypedDict):
    """A page of a task's history."""

    items: list[HistoryView]
    nextCursor: NotRequired[str]


def milliseconds(value: datetime | None) -> int | None:
    """Return a time in milliseconds since the epoch, as the table stores it; a time before 1970 becomes 0."""
    return max(round(value.timestamp() * 1000), 0) if value is not None else None


def execution_view(execution: Execution) -> ExecutionView:
    """Return the view of an execution."""
    view: ExecutionView = {
        "executionId": execution.execution_id,
        "status": execution.status,
        "version": execution.version,
        "createdAt": format_timestamp(execution.created_at),
        "updatedAt": format_timestamp(execution.updated_at),
    }
    if execution.ended_at is not None:
        view["endedAt"] = format_timestamp(execution.ended_at)
    if execution.reason is not None:
        view["reason"] = execution.reason
    if execution.keep_open:
        view["staysOpen"] = True
    if execution.deleted_at is not None:
        view["deletedAt"] = format_timestamp(execution.deleted_at)
    if execution.name is not None:
        view["name"] = execution.name
    metadata = payload_view(execution.metadata)
    if metadata is not None:
        view["metadata"] = metadata
    return view


def execution_detail_view(execution: Execution, counts: dict[TaskStatus, int]) -> ExecutionDetailView:
    """Return the view of an execution with its number of tasks by status."""
    return {**execution_view(execution), "taskCount": sum(counts.values()), "counts": counts}


def task_detail_view(detail: TaskDetail) -> TaskDetailView:
    """Return the view of a task with its payloads, its dependencies and the decision on its retry."""
    view = cast("TaskDetailView", task_view(detail.task))
    view["dependsOn"] = list(detail.depends_on)
    view["input"] = payload_view(detail.input)
    view["output"] = payload_view(detail.output)
    decision = decide_retry(detail.task)
    if decision is not None:
        view["retry"] = retry_view(decision)
    return view


def history_view(entry: HistoryEntry, tenant: str, execution_id: str, task_id: str) -> HistoryView:
    """Return the view of one history entry."""
    view: HistoryView = {
        "version": entry.version,
        "verdict": entry.verdict,
        "status": entry.status,
        "at": format_timestamp(entry.at),
    }
    if entry.attempt is not None:
        view["attempt"] = entry.attempt
        view["taskExecutionId"] = task_execution_id(tenant, execution_id, task_id, entry.attempt)
    if entry.previous_status is not None:
        view["previousStatus"] = entry.previous_status
    if entry.failure_reason is not None:
        view["failureReason"] = entry.failure_reason
    if entry.message is not None:
        view["message"] = entry.message
    if entry.platform_status is not None:
        view["label"] = entry.platform_status
    if entry.request_id is not None:
        view["requestId"] = entry.request_id
    return view


_EXECUTION: Final = "/v1/executions/{executionId}"
_TASK: Final = f"{_EXECUTION}/tasks/{{taskId}}"
_READ_TASK: Final = f"POST {_EXECUTION}/tasks/read"
_READ_HISTORY: Final = f"POST {_EXECUTION}/tasks/history"
_MISSING: Final = (HTTPStatus.NOT_FOUND,)
_CONFLICT: Final = (HTTPStatus.CONFLICT,)

CREATE_EXECUTION: Final = Operation(
    name="create_execution",
    key="POST /v1/executions",
    summary="Create an execution with its tasks; the same request again returns the same execution",
    scope=Scope.MANAGE,
    request=ExecutionBody,
    responses={HTTPStatus.CREATED: ExecutionView, HTTPStatus.OK: ExecutionView},
    problems=_CONFLICT,
    headers=("Idempotency-Key",),
)
ADD_TASKS: Final = Operation(
    name="add_tasks",
    key=f"POST {_EXECUTION}/tasks",
    summary="Add tasks to a running execution; one that is there already stays as it is",
    scope=Scope.MANAGE,
    request=TasksBody,
    responses={HTTPStatus.OK: TaskList},
    problems=(*_MISSING, *_CONFLICT),
)
LIST_EXECUTIONS: Final = Operation(
    name="list_executions",
    key="GET /v1/executions",
    summary="List executions, newest first",
    scope=Scope.READ,
    query=ExecutionsQuery,
    responses={HTTPStatus.OK: ExecutionList},
)
GET_EXECUTION: Final = Operation(
    name="get_execution",
    key=f"GET {_EXECUTION}",
    summary="Show an execution and count its tasks by status",
    scope=Scope.READ,
    responses={HTTPStatus.OK: ExecutionDetailView},
    problems=_MISSING,
)
LIST_TASKS: Final = Operation(
    name="list_tasks",
    key=f"GET {_EXECUTION}/tasks",
    summary="List an execution's tasks by id",
    scope=Scope.READ,
    query=TasksQuery,
    responses={HTTPStatus.OK: TaskList},
    problems=_MISSING,
)
GET_TASK: Final = Operation(
    name="get_task",
    key=f"GET {_TASK}",
    summary="Show a task with its input, its output and the decision on its retry",
    scope=Scope.READ,
    responses={HTTPStatus.OK: TaskDetailView},
    problems=_MISSING,
    body_route=_READ_TASK,
)
GET_NAMED_TASK: Final = Operation(
    name="get_named_task",
    key=_READ_TASK,
    summary="Show a task whose id cannot stand in a path",
    scope=Scope.READ,
    request=NamedTaskBody,
    responses={HTTPStatus.OK: TaskDetailView},
    problems=_MISSING,
)
LIST_HISTORY: Final = Operation(
    name="list_history",
    key=f"GET {_TASK}/history",
    summary="List every change of a task, and every report that changed nothing with its verdict",
    scope=Scope.READ,
    query=HistoryQuery,
    responses={HTTPStatus.OK: HistoryList},
    problems=_MISSING,
    body_route=_READ_HISTORY,
)
LIST_NAMED_HISTORY: Final = Operation(
    name="list_named_history",
    key=_READ_HISTORY,
    summary="List the history of a task whose id cannot stand in a path",
    scope=Scope.READ,
    request=NamedHistoryBody,
    responses={HTTPStatus.OK: HistoryList},
    problems=_MISSING,
)
