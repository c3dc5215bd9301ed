"""Requests and responses for executions and their tasks in the native contract."""

from dataclasses import replace
from typing import Annotated, Any, Final, NotRequired, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import TypedDict

from tasklatch.api.body import dump_json
from tasklatch.api.ids import NewExecutionId, NewTaskId, TaskId
from tasklatch.api.query_values import DECIMAL, Timestamp
from tasklatch.api.v1.views import TaskView
from tasklatch.domain.children import ChildrenSource, Contract
from tasklatch.domain.children_check import check_declared
from tasklatch.domain.execution import ExecutionFilter
from tasklatch.domain.report import Verdict
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import DEFAULT_RETRY_POLICY, OnFailure, RetryPolicy
from tasklatch.domain.task_definition import TaskDefinition

MAX_TASKS_A_REQUEST: Final = 500
MAX_DEPENDENCIES_BYTES: Final = 200_000
"""Dependencies and input share one item, and a DynamoDB item holds 400 KB."""

MAX_CHILDREN_BYTES: Final = 150 * 1024
"""Children share one item with the dependencies of their parent."""

MAX_METADATA_BYTES: Final = 16 * 1024
"""A page of 100 executions must fit into a Lambda response of 6 MB."""

ExecutionName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]

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


class ChildBody(BaseModel):
    """One unit of work, which another task can bring."""

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

    def definition(self, *where: str | int) -> TaskDefinition:
        """Return the domain's definition of the task; `where` is its path in the request.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If its input cannot be stored.
        """
        return TaskDefinition(
            task_id=self.taskId,
            input=dump_json(self.input, *where, "input"),
            depends_on=tuple(dict.fromkeys(self.dependsOn or ())),
            retry_policy=self.retryPolicy.policy() if self.retryPolicy else DEFAULT_RETRY_POLICY,
            timeout_seconds=self.timeoutSeconds,
            heartbeat_timeout_seconds=self.heartbeatTimeoutSeconds,
            on_failure=self.onFailure,
        )


Children = Annotated[list[ChildBody], Field(min_length=1, max_length=MAX_TASKS_A_REQUEST)]
ChildrenReference = Annotated[str, Field(max_length=2_300, pattern=r"^\$\{[^\x00-\x1f]+\}$")]


class TaskBody(ChildBody):
    """One unit of work; or a task that brings others, its children, and is completed once all of them have ended.

    `children` is a list of tasks, or a reference such as `${list.output.tasks}` to a list that is known once the task
    starts.
    """

    children: Children | ChildrenReference | None = None

    @model_validator(mode="after")
    def _check_children(self) -> Self:
        of_work = ("input", "retryPolicy", "timeoutSeconds", "heartbeatTimeoutSeconds")
        superfluous = [name for name in of_work if getattr(self, name) is not None]
        if self.children is not None and superfluous:
            raise ValueError(f"a task with children is no work for a worker: leave out {', '.join(superfluous)}")
        return self

    def definition(self, *where: str | int) -> TaskDefinition:
        """Return the domain's definition of the task; `where` is its path in the request.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If its input, or its children, cannot be stored.
        """
        definition = super().definition(*where)
        if self.children is None:
            return definition
        content = self.model_dump(mode="json", include={"children"}, exclude_unset=True)
        return replace(
            definition,
            input=dump_json(content, *where, "children", limit=MAX_CHILDREN_BYTES),
            children=ChildrenSource(Contract.NATIVE, is_declared=not isinstance(self.children, str)),
        )

    def declared_children(self, *where: str | int) -> list[TaskDefinition]:
        """Return the definitions of the children that are in the request.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If an input cannot be stored.
        """
        children = self.children if isinstance(self.children, list) else []
        return [child.definition(*where, "children", index) for index, child in enumerate(children)]


class ChildrenBody(BaseModel):
    """Children of a task, as a reference gave them."""

    model_config = _STRICT

    children: Annotated[list[ChildBody], Field(max_length=MAX_TASKS_A_REQUEST)]


class TasksBody(BaseModel):
    """Tasks to add to a running execution."""

    model_config = _STRICT

    tasks: Annotated[list[TaskBody], Field(min_length=1, max_length=MAX_TASKS_A_REQUEST)]

    def definitions(self) -> list[TaskDefinition]:
        """Return the domain's definitions of the tasks, in order.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If a task cannot be stored, or children that are declared do not fit together.
        """
        definitions = [task.definition("tasks", index) for index, task in enumerate(self.tasks)]
        parents = [
            (index, definition, task.declared_children("tasks", index))
            for index, (task, definition) in enumerate(zip(self.tasks, definitions, strict=True))
        ]
        check_declared(parents, [task.taskId for task in self.tasks], "children")
        return definitions


class ExecutionBody(TasksBody):
    """An execution to create, with up to 500 tasks; more can be added later."""

    executionId: NewExecutionId | None = None
    name: ExecutionName | None = None
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


class ExecutionDetailView(ExecutionView):
    """An execution with the number of its tasks in each status; of a large one, those of one part.

    With a `nextCursor`, `taskCount` and `counts` are of the tasks before it: the parts add up.
    """

    taskCount: int
    counts: dict[TaskStatus, int]
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
