"""Requests and responses of SuperAI's flow executions and of the status updates of their tasks.

A flow execution is an execution that stays open: its status does not follow from its tasks. Each update adds a record
to the history of its task; some statuses drive the latch, all others are informational.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import TypedDict

from tasklatch.api.ids import NewTaskId, Uuid
from tasklatch.api.query_values import DECIMAL, QueryBool, Timestamp
from tasklatch.domain.execution import Execution
from tasklatch.domain.report import Report, make_report
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import RetryPolicy
from tasklatch.domain.task_definition import TaskDefinition

MAX_STATUSES: Final = 100
MAX_TASKS_A_REQUEST: Final = 500
MAX_TASKS_LISTED: Final = 1000
"""The list has no pages, and a Lambda response holds 6 MB."""

_LENIENT: Final = ConfigDict(extra="ignore", strict=True, frozen=True)
_QUERY: Final = ConfigDict(extra="forbid", frozen=True)

_TRIED_ONCE: Final = RetryPolicy(max_attempts=1)

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
            raise ValueError(f"must be one of {', '.join(dict.fromkeys(EXECUTION_STATUS.values()))}")
        return value

    @model_validator(mode="after")
    def _check_time_range(self) -> Self:
        if self.created_after and self.created_before and self.created_after > self.created_before:
            raise ValueError("created_after is later than created_before")
        return self

    def matches(self, execution: Execution) -> bool:
        """Return True if a flow execution belongs in the list: deleted ones do not."""
        statuses = self.status.split(",") if self.status is not None else EXECUTION_STATUS.values()
        return execution.deleted_at is None and EXECUTION_STATUS.get(execution.status, "running") in statuses


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
