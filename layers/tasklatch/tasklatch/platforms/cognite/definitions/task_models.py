"""The tasks of a workflow's version, as Cognite Data Fusion defines and shows them."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NotRequired, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator
from typing_extensions import TypedDict

from tasklatch.api.body import dump_json
from tasklatch.domain.reference_check import check_references
from tasklatch.domain.task import DEFAULT_RETRY_POLICY, OnFailure
from tasklatch.domain.task_definition import TaskDefinition, check_definitions
from tasklatch.domain.workflow_definition import check_unique
from tasklatch.platforms.cognite.models import LENIENT, ExternalId, NullsLeftOut, TaskExternalId, nullable

MAX_TASKS: Final = 200


MAX_DEPENDENCIES: Final = 100
MAX_SIMULATION_INPUTS: Final = 200
MAX_TASK_INPUT_BYTES: Final = 200_000
MAX_FUNCTION_DATA_BYTES: Final = 100 * 1024

ATTEMPT_ID_PATH: Final = ("function", "data", "cogniteOrchestrationTaskId")
"""Place of the id in a function's input by which its handler updates the task, if it completes asynchronously."""

_NOT_SUPPORTED: Final = ("dynamic", "subworkflow")

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
    if value in _NOT_SUPPORTED:
        raise ValueError(f"{value} tasks are not supported here")
    return value


class Dependency(BaseModel):
    """A task that must finish first."""

    model_config = LENIENT

    externalId: ExternalId


Dependencies = Annotated[list[Dependency], Field(max_length=MAX_DEPENDENCIES, json_schema_extra=nullable)]


class WorkflowTaskBody(NullsLeftOut):
    """One task of a definition; times are seconds."""

    externalId: TaskExternalId
    type: Annotated[
        str,
        Field(min_length=1, max_length=255, json_schema_extra={"not": {"enum": list(_NOT_SUPPORTED)}}),
        AfterValidator(_check_type),
    ]
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

    def definition(self, index: int) -> TaskDefinition:
        """Return the domain's definition of the task; `index` is its position in the request.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If its parameters cannot be stored.
        """
        fails_execution = self.onFailure == "abortWorkflow"
        function = self.parameters["function"] if self.type == "function" else {}
        dump_json({"data": function.get("data")}, "tasks", index, "parameters", limit=MAX_FUNCTION_DATA_BYTES)
        is_async_function = self.type == "function" and self.parameters.get("isAsyncComplete") is True
        return TaskDefinition(
            task_id=self.externalId,
            input=dump_json(self.parameters, "tasks", index, "parameters", limit=MAX_TASK_INPUT_BYTES),
            depends_on=tuple(dict.fromkeys(dependency.externalId for dependency in self.dependsOn)),
            retry_policy=DEFAULT_RETRY_POLICY._replace(
                max_attempts=self.retries + 1, retry_timeouts=not fails_execution
            ),
            timeout_seconds=self.timeout,
            on_failure=OnFailure.ABORT if fails_execution else OnFailure.CONTINUE,
            kind=self.type,
            attempt_id_path=ATTEMPT_ID_PATH if is_async_function else (),
        )


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
        check_unique("task", [task.externalId for task in self.tasks])
        definitions = [task.definition(index) for index, task in enumerate(self.tasks)]
        check_definitions(definitions)
        check_references(definitions)
        return definitions


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
