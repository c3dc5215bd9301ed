"""Requests and responses for Cognite Data Fusion's workflow triggers."""

from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from tasklatch.api.body import dump_json
from tasklatch.api.query_values import DECIMAL
from tasklatch.api.recurrence import CronExpression, TimeZone
from tasklatch.domain.cron import scheduler_expressions
from tasklatch.domain.schedule import UTC_ZONE, ScheduleContent
from tasklatch.domain.workflow_definition import check_unique
from tasklatch.platforms.cognite.executions.models import MAX_INPUT_BYTES, Authentication
from tasklatch.platforms.cognite.models import LENIENT, MAX_PAGE, Cursor, ExternalId, PathId

MAX_RULE_BYTES: Final = 100 * 1024
MAX_TRIGGERS_A_PAGE: Final = 20
"""A Lambda response holds 6 MB, and a trigger up to 200 KB."""

MAX_RUNS_A_PAGE: Final = 100


class ScheduleRule(BaseModel):
    """A rule that fires at recurring times; the time zone is UTC if there is none."""

    model_config = LENIENT

    triggerType: Literal["schedule"]
    cronExpression: CronExpression
    timezone: TimeZone | None = None

    def times(self) -> tuple[tuple[str, ...], str]:
        """Return the expressions of EventBridge Scheduler, and their time zone."""
        return scheduler_expressions(self.cronExpression), self.timezone or UTC_ZONE


class _EventRule(BaseModel):
    """A rule that no time makes fire; what the platform adds to it one day is stored and shown too."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    def times(self) -> tuple[tuple[str, ...], str]:
        """Return no expressions."""
        return (), UTC_ZONE


class DataModelingRule(_EventRule):
    """A rule that watches instances of the platform's data modeling, which is not here."""

    triggerType: Literal["dataModeling"]
    dataModelingQuery: dict[str, Any]
    batchSize: Annotated[int, Field(ge=100, le=1000)] | None = None
    batchTimeout: Annotated[int, Field(ge=60, le=86_400)] | None = None


class RecordStreamRule(_EventRule):
    """A rule that watches a stream of the platform's records, which are not here."""

    triggerType: Literal["recordStream"]
    streamExternalId: Annotated[str, Field(min_length=1, max_length=255)]
    batchSize: Annotated[int, Field(ge=1, le=100)]
    batchTimeout: Annotated[int, Field(ge=10, le=86_400)]
    filter: dict[str, Any] | None = None
    sources: list[dict[str, Any]] | None = None
    initializeCursor: str | None = None


TriggerRule = Annotated[ScheduleRule | DataModelingRule | RecordStreamRule, Field(discriminator="triggerType")]


class TriggerContent(BaseModel):
    """A trigger without the session of its creator."""

    model_config = LENIENT

    triggerRule: TriggerRule
    workflowExternalId: PathId
    workflowVersion: PathId
    input: dict[str, Any] | None = None
    metadata: Annotated[
        dict[Annotated[str, Field(max_length=32)], Annotated[str, Field(max_length=255)]] | None,
        Field(max_length=10),
    ] = None


class TriggerBody(TriggerContent):
    """A trigger to create, or to replace; `authentication` is accepted and not used."""

    externalId: PathId
    authentication: Authentication

    def content(self) -> ScheduleContent:
        """Return the content to store.

        Raises
        ------
        PayloadTooLargeError
            If the input or the rule is too large.
        """
        dump_json(self.input, "input", limit=MAX_INPUT_BYTES)
        dump_json(self.triggerRule.model_dump(exclude_none=True), "triggerRule", limit=MAX_RULE_BYTES)
        stored = self.model_dump(exclude_none=True, exclude={"externalId", "authentication"})
        expressions, time_zone = self.triggerRule.times()
        return ScheduleContent(
            expressions=expressions,
            time_zone=time_zone,
            body=dump_json(stored, "items", limit=3 * MAX_INPUT_BYTES) or "{}",
            workflow=(self.workflowExternalId, self.workflowVersion),
        )


class TriggersBody(BaseModel):
    """The trigger to create, or to replace."""

    model_config = LENIENT

    items: Annotated[list[TriggerBody], Field(min_length=1, max_length=1)]


class TriggerRef(BaseModel):
    """Name of a trigger."""

    model_config = LENIENT

    externalId: ExternalId


class TriggerRefs(BaseModel):
    """Names of triggers."""

    model_config = LENIENT

    items: Annotated[list[TriggerRef], Field(min_length=1, max_length=MAX_PAGE)]

    def names(self) -> list[str]:
        """Return the names, after a check that none is repeated.

        Raises
        ------
        DuplicateNameError
            If one is repeated.
        """
        names = [item.externalId for item in self.items]
        check_unique("trigger", names)
        return names


class TriggersQuery(BaseModel):
    """Page of a list of triggers, or of a trigger's history; it can hold fewer than the limit."""

    model_config = {"extra": "forbid", "frozen": True}

    limit: Annotated[int, Field(ge=1, le=1000), DECIMAL] = 25
    cursor: Cursor | None = None


class TriggerView(TypedDict):
    """A trigger; times are milliseconds since the epoch."""

    externalId: str
    triggerRule: dict[str, Any]
    workflowExternalId: str
    workflowVersion: str
    input: NotRequired[dict[str, Any]]
    metadata: NotRequired[dict[str, str]]
    isPaused: bool
    createdTime: int
    lastUpdatedTime: int


class TriggerListView(TypedDict):
    """A page of triggers."""

    items: list[TriggerView]
    nextCursor: NotRequired[str]


class TriggerRunView(TypedDict):
    """One time of a trigger; the time is in milliseconds since the epoch."""

    externalId: str
    fireTime: int
    workflowExternalId: str
    workflowVersion: str
    status: Literal["success", "failed"]
    workflowExecutionId: NotRequired[str]
    reasonForFailure: NotRequired[str]


class TriggerRunListView(TypedDict):
    """A page of a trigger's history, newest first."""

    items: list[TriggerRunView]
    nextCursor: NotRequired[str]
