"""Requests and responses for executions and their tasks in the native contract."""

from typing import Annotated, Any, Final, NotRequired, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from tasklatch.api.ids import NewExecutionId, QueueName, TaskId
from tasklatch.api.query_values import DECIMAL, Timestamp
from tasklatch.api.v1.executions.task_models import Priority, TasksBody
from tasklatch.api.v1.views import TaskView
from tasklatch.domain.concurrency import MAX_SLOTS, ConcurrencyLimit
from tasklatch.domain.execution import ExecutionFilter
from tasklatch.domain.report import Verdict
from tasklatch.domain.status import ExecutionStatus, TaskStatus

MAX_METADATA_BYTES: Final = 16 * 1024
"""A page of 100 executions must fit into a Lambda response of 6 MB."""

CONCURRENCY_PREFIX: Final = "key:"
"""Prefix of this contract's concurrency keys in the table: those of other contracts differ from all of them."""

ExecutionName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]

_STRICT: Final = ConfigDict(extra="forbid", strict=True, frozen=True)
_QUERY: Final = ConfigDict(extra="forbid", frozen=True)


class ExecutionContent(TasksBody):
    """An execution without its id: up to 500 tasks, to which more can be added later.

    Of the executions with one `concurrencyKey`, at most `maxConcurrentExecutions` run at once; the others wait, in the
    order of their creation. The newest request's number holds for the key.
    """

    name: ExecutionName | None = None
    metadata: dict[str, Any] | None = None
    queue: QueueName | None = None
    priority: Priority | None = None
    concurrencyKey: ExecutionName | None = None
    maxConcurrentExecutions: Annotated[int, Field(ge=1, le=MAX_SLOTS)] | None = None

    @model_validator(mode="after")
    def _check_concurrency(self) -> Self:
        if (self.concurrencyKey is None) != (self.maxConcurrentExecutions is None):
            raise ValueError("concurrencyKey and maxConcurrentExecutions go together")
        return self

    def concurrency(self) -> ConcurrencyLimit | None:
        """Return the limit that the execution counts for; None if it has none."""
        if self.concurrencyKey is None or self.maxConcurrentExecutions is None:
            return None
        return ConcurrencyLimit(f"{CONCURRENCY_PREFIX}{self.concurrencyKey}", self.maxConcurrentExecutions)


class ExecutionBody(ExecutionContent):
    """An execution to create, with up to 500 tasks; more can be added later.

    Of the executions with one `concurrencyKey`, at most `maxConcurrentExecutions` run at once; the others wait, in the
    order of their creation. The newest request's number holds for the key.
    """

    executionId: NewExecutionId | None = None


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


class CountsQuery(BaseModel):
    """Part of the counts of an execution's tasks."""

    model_config = _QUERY

    cursor: Annotated[str, Field(max_length=4096)] | None = None


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
    queue: NotRequired[str]
    priority: NotRequired[int]
    concurrencyKey: NotRequired[str]
    startedAt: NotRequired[str]
    waitingSince: NotRequired[str]


class LineView(TypedDict):
    """The line in which an execution waits: its position, from 1, and how many run of how many that may.

    A position of 1000 means at least that.
    """

    position: int
    running: int
    maxConcurrentExecutions: int


class ExecutionDetailView(ExecutionView):
    """An execution with the number of its tasks in each status; of a large one, those of one part.

    With a `nextCursor`, `taskCount` and `counts` are of the tasks before it: the parts add up.
    """

    taskCount: int
    counts: dict[TaskStatus, int]
    line: NotRequired[LineView]
    nextCursor: NotRequired[str]


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
    reportedBy: NotRequired[str]


class HistoryList(TypedDict):
    """A page of a task's history."""

    items: list[HistoryView]
    nextCursor: NotRequired[str]
