"""The tasks of a workflow's version, as Cognite Data Fusion defines and shows them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, NotRequired, Self, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator
from typing_extensions import TypedDict

from tasklatch.api.body import dump_json
from tasklatch.domain.children import ChildrenSource, Contract
from tasklatch.domain.children_check import check_declared
from tasklatch.domain.errors import InvalidRequestError
from tasklatch.domain.reference_check import check_references
from tasklatch.domain.task import DEFAULT_RETRY_POLICY, OnFailure
from tasklatch.domain.task_definition import TaskDefinition, check_definitions
from tasklatch.domain.workflow_definition import check_unique
from tasklatch.platforms.cognite.models import LENIENT, ExternalId, NullsLeftOut, TaskExternalId, nullable

M = TypeVar("M", bound=BaseModel)

MAX_TASKS: Final = 200
_CHILDREN: Final = ("parameters", "subworkflow", "tasks")
MAX_DEPENDENCIES: Final = 100
MAX_SIMULATION_INPUTS: Final = 200
MAX_TASK_INPUT_BYTES: Final = 200_000
MAX_CHILDREN_BYTES: Final = 280_000
"""A DynamoDB item holds 400 KB, the names of the dependencies included."""

MAX_FUNCTION_DATA_BYTES: Final = 100 * 1024

ATTEMPT_ID_PATH: Final = ("function", "data", "cogniteOrchestrationTaskId")
"""Place of the id in a function's input by which its handler updates the task, if it completes asynchronously."""

PARENTS: Final = ("dynamic", "subworkflow")
"""Types of the tasks that bring others, which cannot be of these types."""

REQUIRED_PARAMETERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "function": ("function", ("externalId",)),
    "transformation": ("transformation", ("externalId",)),
    "cdf": ("cdfRequest", ("resourcePath", "method")),
    "simulation": ("simulation", ("routineExternalId",)),
}
"""Required parameters of a task by its type: the platform's client cannot read a response without them.

The parameters of all other types are passed on as they are.
"""


def _check_type(value: str) -> str:
    if value in PARENTS:
        raise ValueError(f"a {value} task cannot be in another task")
    return value


class Dependency(BaseModel):
    """A task that must finish first."""

    model_config = LENIENT

    externalId: ExternalId


Dependencies = Annotated[list[Dependency], Field(max_length=MAX_DEPENDENCIES, json_schema_extra=nullable)]


TaskType = Annotated[str, Field(min_length=1, max_length=255)]
ChildType = Annotated[TaskType, Field(json_schema_extra={"not": {"enum": list(PARENTS)}}), AfterValidator(_check_type)]


class ChildTaskBody(NullsLeftOut):
    """One task that another can bring; times are seconds."""

    externalId: TaskExternalId
    type: ChildType
    parameters: dict[str, Any]
    name: Annotated[str, Field(max_length=255)] | None = None
    description: Annotated[str, Field(max_length=500)] | None = None
    retries: Annotated[int, Field(ge=0, le=10, json_schema_extra=nullable)] = 3
    timeout: Annotated[int, Field(ge=60, le=86_400, json_schema_extra=nullable)] = 3600
    onFailure: Annotated[Literal["abortWorkflow", "skipTask"], Field(json_schema_extra=nullable)] = "abortWorkflow"
    dependsOn: Dependencies = Field(default_factory=list)

    @model_validator(mode="after")
    def _check_parameters(self) -> Self:
        if self.type not in REQUIRED_PARAMETERS:
            return self
        part, names = REQUIRED_PARAMETERS[self.type]
        inner = self.parameters.get(part)
        if not isinstance(inner, dict) or not all(isinstance(inner.get(name), str) for name in names):
            required = " and ".join(f"parameters.{part}.{name}" for name in names)
            raise ValueError(f"a {self.type} task needs {required}")
        inputs = inner.get("inputs")
        if self.type == "simulation" and isinstance(inputs, list) and len(inputs) > MAX_SIMULATION_INPUTS:
            raise ValueError(f"a simulation has at most {MAX_SIMULATION_INPUTS} inputs")
        return self

    def definition(self, *where: str | int) -> TaskDefinition:
        """Return the domain's definition of the task; `where` is its path in the request.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If its parameters cannot be stored.
        """
        fails_execution = self.onFailure == "abortWorkflow"
        function = self.parameters["function"] if self.type == "function" else {}
        dump_json({"data": function.get("data")}, *where, "parameters", limit=MAX_FUNCTION_DATA_BYTES)
        limit = MAX_CHILDREN_BYTES if self.type in PARENTS else MAX_TASK_INPUT_BYTES
        is_async_function = self.type == "function" and self.parameters.get("isAsyncComplete") is True
        return TaskDefinition(
            task_id=self.externalId,
            input=dump_json(self.parameters, *where, "parameters", limit=limit),
            depends_on=tuple(dict.fromkeys(dependency.externalId for dependency in self.dependsOn)),
            retry_policy=DEFAULT_RETRY_POLICY._replace(
                max_attempts=self.retries + 1, retry_timeouts=not fails_execution
            ),
            timeout_seconds=self.timeout,
            on_failure=OnFailure.ABORT if fails_execution else OnFailure.CONTINUE,
            kind=self.type,
            attempt_id_path=ATTEMPT_ID_PATH if is_async_function else (),
        )


class DynamicBody(NullsLeftOut):
    """Reference to the list of tasks that a dynamic task brings."""

    tasks: Annotated[str, Field(max_length=2_300, pattern=r"^\$\{[^\x00-\x1f]+\}$")]


class SubworkflowBody(NullsLeftOut):
    """Tasks of a subworkflow, or the version of a workflow that has them."""

    tasks: Annotated[list[ChildTaskBody], Field(min_length=1, max_length=MAX_TASKS)] | None = None
    workflowExternalId: ExternalId | None = None
    version: ExternalId | None = None

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.tasks is None and (self.workflowExternalId is None or self.version is None):
            raise ValueError("needs tasks, or workflowExternalId and version")
        return self


class WorkflowTaskBody(ChildTaskBody):
    """One task of a definition; times are seconds."""

    type: TaskType

    @model_validator(mode="after")
    def _check_parent(self) -> Self:
        if self.type == "dynamic":
            _part(DynamicBody, self.parameters, self.type)
        elif self.type == "subworkflow":
            _part(SubworkflowBody, self.parameters, self.type)
        return self

    def children(self) -> list[ChildTaskBody]:
        """Return the tasks of a subworkflow, as far as they are in the definition."""
        if self.type != "subworkflow":
            return []
        return _part(SubworkflowBody, self.parameters, self.type).tasks or []

    def declared_children(self, *where: str | int) -> list[TaskDefinition]:
        """Return the definitions of those tasks.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If their parameters cannot be stored.
        """
        return [child.definition(*where, *_CHILDREN, index) for index, child in enumerate(self.children())]

    def definition(self, *where: str | int) -> TaskDefinition:
        """Return the domain's definition of the task; `where` is its path in the request.

        A task that brings others is no work for a worker: it has no time limit and is not tried again.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If its parameters cannot be stored.
        """
        definition = super().definition(*where)
        if self.type not in PARENTS:
            return definition
        source = ChildrenSource(Contract.COGNITE, is_declared=self.type == "subworkflow")
        return replace(definition, retry_policy=DEFAULT_RETRY_POLICY, timeout_seconds=None, children=source)

    def stored(self) -> dict[str, Any]:
        """Return the task as it is stored and shown, with all defaults filled in."""
        task = self.model_dump(exclude_none=True)
        children = self.children()
        if children:
            task["parameters"]["subworkflow"]["tasks"] = [child.model_dump(exclude_none=True) for child in children]
        return task


def _part(model: type[M], parameters: Mapping[str, Any], name: str) -> M:
    """Return one of the parameters of a task, validated; an error does not repeat it."""
    try:
        return model.model_validate(parameters.get(name))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = ".".join(map(str, ("parameters", name, *details["loc"])))
        raise ValueError(f"{path}: {details['msg']}") from error


class DefinitionBody(NullsLeftOut):
    """The tasks of a workflow's version."""

    description: Annotated[str, Field(max_length=500)] | None = None
    tasks: Annotated[list[WorkflowTaskBody], Field(min_length=1, max_length=MAX_TASKS)]

    def definitions(self) -> list[TaskDefinition]:
        """Return the domain's definitions of the tasks, in order.

        Raises
        ------
        DuplicateNameError
            If two tasks have the same id.
        InvalidRequestError, PayloadTooLargeError
            If the tasks do not fit together, or cannot be stored.
        """
        names = [child.externalId for task in self.tasks for child in (task, *task.children())]
        check_unique("task", names)
        if len(names) > MAX_TASKS:
            raise InvalidRequestError(
                f"the workflow has {len(names)} tasks with those of its subworkflows: the limit is {MAX_TASKS}"
            )
        definitions = [task.definition("tasks", index) for index, task in enumerate(self.tasks)]
        check_definitions(definitions)
        check_references(definitions)
        parents = [
            (index, definition, task.declared_children("tasks", index))
            for index, (task, definition) in enumerate(zip(self.tasks, definitions, strict=True))
        ]
        check_declared(parents, [task.externalId for task in self.tasks], *_CHILDREN)
        return [_limited(definition, MAX_TASKS - len(names)) for definition in definitions]

    def stored(self) -> dict[str, Any]:
        """Return the definition as it is stored and shown, with all defaults filled in."""
        return {**self.model_dump(exclude_none=True), "tasks": [task.stored() for task in self.tasks]}


def _limited(definition: TaskDefinition, most: int) -> TaskDefinition:
    """Return a definition that brings at most so many tasks, with all others that do, if a reference gives them."""
    if definition.children is None or definition.children.is_declared:
        return definition
    return replace(definition, children=replace(definition.children, max_tasks=most))


class DependencyView(TypedDict):
    """A task that must finish first."""

    externalId: str


class WorkflowTaskView(TypedDict):
    """One task of a definition; times are seconds."""

    externalId: str
    type: str
    parameters: dict[str, Any]
    name: NotRequired[str]
    description: NotRequired[str]
    retries: int
    timeout: int
    onFailure: Literal["abortWorkflow", "skipTask"]
    dependsOn: list[DependencyView]


class DefinitionView(TypedDict):
    """The tasks of a workflow's version; the same definition has the same hash."""

    hash: str
    description: NotRequired[str]
    tasks: list[WorkflowTaskView]
