"""Formats of names that all models of Cognite's contract share."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tasklatch.api.ids import NewTaskId, TaskId
from tasklatch.domain.addressing import fits_path

MAX_PAGE: Final = 100

LENIENT: Final = ConfigDict(extra="ignore", strict=True, frozen=True)


class NullsLeftOut(BaseModel):
    """Base of models in which a null is as if its field was left out."""

    model_config = LENIENT

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        return {name: part for name, part in value.items() if part is not None} if isinstance(value, dict) else value


def nullable(schema: dict[str, Any]) -> None:
    """Allow null in the description of a field of such a model."""
    inner = {name: schema.pop(name) for name in list(schema) if name not in ("default", "title", "description")}
    schema["anyOf"] = [inner, {"type": "null"}]


def _check_whitespace(value: str) -> str:
    if value != value.strip():
        raise ValueError("must not begin or end with white space")
    return value


def _check_path_safe(value: str) -> str:
    if not fits_path(value):
        raise ValueError("must not contain % / \\ ? or ;, nor be '.' or '..': it is used in paths only")
    return value


def _check_not_reserved(value: str) -> str:
    if value == "workflow" or value.startswith("__"):
        raise ValueError("'workflow' and names that begin with '__' are reserved")
    return value


_PATH_WORDS: Final = frozenset({"delete", "executions", "list", "tasks", "triggers", "versions"})


def _check_no_path_word(value: str) -> str:
    if value in _PATH_WORDS:
        raise ValueError(f"must not be one of {', '.join(sorted(_PATH_WORDS))}: these are parts of paths")
    return value


ExternalId = Annotated[TaskId, AfterValidator(_check_whitespace)]
PathId = Annotated[ExternalId, AfterValidator(_check_path_safe)]
"""Name of a workflow or a version: both are used in paths."""

NewWorkflowId = Annotated[
    PathId,
    Field(json_schema_extra={"not": {"enum": sorted(_PATH_WORDS)}}),
    AfterValidator(_check_no_path_word),
]
"""Name of a workflow to create."""

TaskExternalId = Annotated[NewTaskId, AfterValidator(_check_whitespace), AfterValidator(_check_not_reserved)]
Cursor = Annotated[str, Field(max_length=2048)]
