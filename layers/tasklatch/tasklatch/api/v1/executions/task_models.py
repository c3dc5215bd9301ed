"""Tasks in the requests of the native contract: work for a worker, or tasks that bring others."""

from dataclasses import replace
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasklatch.api.body import dump_json
from tasklatch.api.ids import NewTaskId, QueueName, TaskId
from tasklatch.domain.children import ChildrenSource, Contract
from tasklatch.domain.children_check import check_declared
from tasklatch.domain.task import DEFAULT_RETRY_POLICY, HIGHEST_PRIORITY, OnFailure, RetryPolicy
from tasklatch.domain.task_definition import TaskDefinition

MAX_TASKS_A_REQUEST: Final = 500
MAX_DEPENDENCIES_BYTES: Final = 200_000
"""Dependencies and input share one item, and a DynamoDB item holds 400 KB."""

MAX_CHILDREN_BYTES: Final = 150 * 1024
"""Children share one item with the dependencies of their parent."""

Priority = Annotated[int, Field(ge=0, le=HIGHEST_PRIORITY)]

_LONGEST_SECONDS: Final = 31_536_000

_STRICT: Final = ConfigDict(extra="forbid", strict=True, frozen=True)


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
    queue: QueueName | None = None
    priority: Priority | None = None

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
            queue=self.queue,
            priority=self.priority,
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
