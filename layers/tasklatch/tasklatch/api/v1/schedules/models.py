"""Requests and responses for schedules in the native contract."""

from typing import Annotated, Any, Final, Literal, NotRequired, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from tasklatch.api.body import dump_json
from tasklatch.api.ids import NewExecutionId
from tasklatch.api.query_values import DECIMAL
from tasklatch.api.recurrence import CronExpression, TimeZone
from tasklatch.api.v1.executions.models import MAX_METADATA_BYTES, ExecutionContent
from tasklatch.domain.cron import scheduler_expressions
from tasklatch.domain.reference_check import check_references
from tasklatch.domain.schedule import UTC_ZONE, ScheduleContent, rate_expression
from tasklatch.domain.task_definition import TaskDefinition, check_definitions

MAX_BODY_BYTES: Final = 200 * 1024
"""A DynamoDB item holds 400 KB."""

MAX_MINUTES: Final = 366 * 24 * 60

_STRICT: Final = ConfigDict(extra="forbid", strict=True, frozen=True)
_QUERY: Final = ConfigDict(extra="forbid", frozen=True)


class ScheduledExecution(ExecutionContent):
    """The execution to create each time; the service chooses its id."""

    def checked_definitions(self) -> list[TaskDefinition]:
        """Return the definitions of the tasks, after the checks of an execution's creation.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If no execution can be created from them.
        """
        definitions = self.definitions()
        check_definitions(definitions)
        check_references(definitions)
        dump_json(self.metadata, "execution", "metadata", limit=MAX_METADATA_BYTES)
        return definitions


class ScheduleBody(BaseModel):
    """A schedule: a cron expression in a time zone, or a number of minutes from one time to the next."""

    model_config = _STRICT

    cronExpression: CronExpression | None = None
    timeZone: TimeZone | None = None
    everyMinutes: Annotated[int, Field(ge=1, le=MAX_MINUTES)] | None = None
    execution: ScheduledExecution

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if (self.cronExpression is None) == (self.everyMinutes is None):
            raise ValueError("needs either cronExpression or everyMinutes")
        if self.timeZone is not None and self.cronExpression is None:
            raise ValueError("timeZone goes with cronExpression")
        return self

    def content(self) -> ScheduleContent:
        """Return the content to store.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If no execution can be created from it.
        """
        self.execution.checked_definitions()
        stored = self.model_dump(exclude_unset=True, mode="json", exclude={"scheduleId"})
        body = dump_json(stored, "body", limit=MAX_BODY_BYTES) or "{}"
        if self.cronExpression is not None:
            return ScheduleContent(
                expressions=scheduler_expressions(self.cronExpression), time_zone=self.timeZone or UTC_ZONE, body=body
            )
        return ScheduleContent(expressions=(rate_expression(self.everyMinutes or 1),), time_zone=UTC_ZONE, body=body)


class NewScheduleBody(ScheduleBody):
    """A schedule to create; the service chooses an id if the request has none."""

    scheduleId: NewExecutionId | None = None


class SchedulesQuery(BaseModel):
    """Page of a list of schedules, or of a schedule's history."""

    model_config = _QUERY

    limit: Annotated[int, Field(ge=1, le=100), DECIMAL] = 25
    cursor: Annotated[str, Field(max_length=2048)] | None = None


class ScheduleView(TypedDict):
    """A schedule; times are RFC 3339 in UTC."""

    scheduleId: str
    cronExpression: NotRequired[str]
    timeZone: NotRequired[str]
    everyMinutes: NotRequired[int]
    paused: bool
    createdAt: str
    updatedAt: str


class ScheduledExecutionView(TypedDict):
    """The execution of a schedule, as it was sent."""

    name: NotRequired[str | None]
    metadata: NotRequired[dict[str, Any] | None]
    concurrencyKey: NotRequired[str | None]
    maxConcurrentExecutions: NotRequired[int | None]
    tasks: list[dict[str, Any]]


class ScheduleDetailView(ScheduleView):
    """A schedule with the execution that it creates."""

    execution: ScheduledExecutionView


class ScheduleList(TypedDict):
    """A page of schedules, by id."""

    items: list[ScheduleView]
    nextCursor: NotRequired[str]


class FiringView(TypedDict):
    """One time of a schedule: the execution that it started, or why there is none."""

    fireTime: str
    status: Literal["started", "failed"]
    executionId: NotRequired[str]
    reason: NotRequired[str]


class FiringList(TypedDict):
    """A page of a schedule's history, newest first."""

    items: list[FiringView]
    nextCursor: NotRequired[str]
