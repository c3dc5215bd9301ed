"""Requests and responses for Cognite Data Fusion's workflows and their versions, which define the tasks of a run."""

from typing import Annotated, Final, NotRequired

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tasklatch.api.body import dump_json
from tasklatch.api.query_values import DECIMAL, QueryBool
from tasklatch.domain.workflow_definition import VersionKey, check_unique
from tasklatch.platforms.cognite.definitions.task_models import DefinitionBody, DefinitionView
from tasklatch.platforms.cognite.models import (
    LENIENT,
    MAX_PAGE,
    Cursor,
    ExternalId,
    NewWorkflowId,
    NullsLeftOut,
    PathId,
    nullable,
)

MAX_DEFINITION_BYTES: Final = 300 * 1024
"""A DynamoDB item holds 400 KB."""

MAX_VERSIONS_A_PAGE: Final = 10
"""A Lambda response holds 6 MB."""


class VersionBody(BaseModel):
    """A version of a workflow to create, or to replace."""

    model_config = LENIENT

    workflowExternalId: NewWorkflowId
    version: PathId
    workflowDefinition: DefinitionBody

    def definition_text(self) -> str:
        """Check the definition, and return it as JSON text to store.

        Raises
        ------
        DuplicateNameError, InvalidRequestError, PayloadTooLargeError
            If the definition cannot be run.
        """
        self.workflowDefinition.definitions()
        return dump_json(self.workflowDefinition.stored(), "workflowDefinition", limit=MAX_DEFINITION_BYTES) or "{}"


class VersionsBody(BaseModel):
    """Versions of workflows to create, or to replace."""

    model_config = LENIENT

    items: Annotated[list[VersionBody], Field(min_length=1, max_length=MAX_VERSIONS_A_PAGE)]

    def unique_items(self) -> list[VersionBody]:
        """Return the versions after a check that none is repeated.

        Raises
        ------
        DuplicateNameError
            If one is repeated.
        """
        check_unique("workflow version", [f"{item.workflowExternalId}:{item.version}" for item in self.items])
        return self.items


class WorkflowBody(BaseModel):
    """A workflow to create, or to replace."""

    model_config = LENIENT

    externalId: NewWorkflowId
    description: Annotated[str, Field(max_length=500)] | None = None
    dataSetId: Annotated[int, Field(ge=1, le=2**53 - 1)] | None = None
    maxConcurrentExecutions: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None


class WorkflowsBody(BaseModel):
    """Workflows to create, or to replace."""

    model_config = LENIENT

    items: Annotated[list[WorkflowBody], Field(min_length=1, max_length=MAX_PAGE)]

    def unique_items(self) -> list[WorkflowBody]:
        """Return the workflows after a check that none is repeated.

        Raises
        ------
        DuplicateNameError
            If one is repeated.
        """
        check_unique("workflow", [item.externalId for item in self.items])
        return self.items


class WorkflowRef(BaseModel):
    """Name of a workflow."""

    model_config = LENIENT

    externalId: ExternalId


class WorkflowRefs(BaseModel):
    """Names of workflows."""

    model_config = LENIENT

    items: Annotated[list[WorkflowRef], Field(min_length=1, max_length=MAX_PAGE)]

    def names(self) -> list[str]:
        """Return the names without repeats."""
        return list(dict.fromkeys(item.externalId for item in self.items))


class VersionRef(BaseModel):
    """Name of a workflow's version."""

    model_config = LENIENT

    workflowExternalId: ExternalId
    version: ExternalId


class VersionRefs(BaseModel):
    """Names of workflows' versions."""

    model_config = LENIENT

    items: Annotated[list[VersionRef], Field(min_length=1, max_length=MAX_PAGE)]

    def names(self) -> list[VersionKey]:
        """Return the names without repeats."""
        return list(dict.fromkeys((item.workflowExternalId, item.version) for item in self.items))


class WorkflowFilter(BaseModel):
    """A workflow, or one version of it."""

    model_config = LENIENT

    externalId: ExternalId
    version: ExternalId | None = None


WorkflowFilters = Annotated[list[WorkflowFilter], Field(max_length=MAX_PAGE, json_schema_extra=nullable)]


class VersionsFilter(NullsLeftOut):
    """Filter of a list of versions; without workflows, it has the versions of all."""

    workflowFilters: WorkflowFilters = Field(default_factory=list)


class VersionsListBody(NullsLeftOut):
    """Filter and page of a list of versions; a page can hold fewer than the limit."""

    filter: VersionsFilter | None = None
    limit: Annotated[int, Field(ge=1, le=1000, json_schema_extra=nullable)] = 25
    cursor: Cursor | None = None

    @property
    def page(self) -> int:
        """Maximum number of versions in one response."""
        return min(self.limit, MAX_VERSIONS_A_PAGE)

    def workflow_versions(self) -> list[tuple[str, str | None]]:
        """Return the requested workflows, each with one version, or None for all."""
        filters = self.filter.workflowFilters if self.filter is not None else []
        return [(workflow_filter.externalId, workflow_filter.version) for workflow_filter in filters]


class WorkflowsQuery(BaseModel):
    """Page of a list of workflows; it can hold fewer than the limit."""

    model_config = {"extra": "forbid", "frozen": True}

    limit: Annotated[int, Field(ge=1, le=1000), DECIMAL] = 25
    cursor: Cursor | None = None

    @property
    def page(self) -> int:
        """Maximum number of workflows in one response."""
        return min(self.limit, MAX_PAGE)


class DeleteQuery(BaseModel):
    """Option of a deletion: unknown names are ignored instead of an error."""

    model_config = {"extra": "forbid", "frozen": True}

    ignoreUnknownIds: QueryBool = False


class WorkflowView(TypedDict):
    """A workflow; times are milliseconds since the epoch."""

    externalId: str
    description: NotRequired[str]
    dataSetId: NotRequired[int]
    maxConcurrentExecutions: NotRequired[int]
    createdTime: int
    lastUpdatedTime: int


class WorkflowListView(TypedDict):
    """A page of workflows."""

    items: list[WorkflowView]
    nextCursor: NotRequired[str]


class VersionView(TypedDict):
    """A version of a workflow; times are milliseconds since the epoch."""

    workflowExternalId: str
    version: str
    createdTime: int
    lastUpdatedTime: int
    workflowDefinition: DefinitionView


class VersionListView(TypedDict):
    """A page of versions of workflows."""

    items: list[VersionView]
    nextCursor: NotRequired[str]


class EmptyObject(TypedDict):
    """An empty object."""
