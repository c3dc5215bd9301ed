"""Schedules, which start executions at recurring times."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid5

from tasklatch.domain.workflow_definition import VersionKey

MAX_SCHEDULES: Final = 200
"""Schedules of one kind that a tenant can have."""

UTC_ZONE: Final = "UTC"
_NAMESPACE: Final = UUID("0d8a7c5e-3b0b-4c55-9f0e-6a1f3c1f7f21")


class ScheduleKind(StrEnum):
    """Contract of a schedule: names, limits and lists of one kind are apart from those of the other."""

    EXECUTION = "execution"
    WORKFLOW = "workflow"


@dataclass(frozen=True, slots=True)
class ScheduleRef:
    """Name of a schedule."""

    tenant: str
    kind: ScheduleKind
    schedule_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleContent:
    """Content of a schedule, as a request sets it.

    Attributes
    ----------
    expressions
        Expressions of EventBridge Scheduler; none if no time makes it fire.
    body
        JSON text of the request, in the form of its contract, from which each execution is created.
    workflow
        The workflow version that it runs; None if the body has its own tasks.
    """

    expressions: tuple[str, ...]
    time_zone: str
    body: str
    workflow: VersionKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule. Times are milliseconds since the epoch.

    Attributes
    ----------
    generation
        Random id of the schedule: a later one of the same name has another.
    definition
        Fingerprint of the request that created it.
    """

    ref: ScheduleRef
    content: ScheduleContent
    generation: str
    definition: str
    is_paused: bool
    created_at: int
    updated_at: int

    def execution_id(self, fire_time: int) -> str:
        """Return the id of the execution of one time: the same however often that time is delivered."""
        names = (self.ref.tenant, self.ref.kind, self.ref.schedule_id, self.generation)
        return str(uuid5(_NAMESPACE, "\0".join((*names, str(fire_time)))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """Result of one time of a schedule.

    Attributes
    ----------
    fire_time
        The scheduled time, in milliseconds since the epoch.
    execution_id, reason
        The started execution, or why there is none.
    workflow
        The workflow version of that time; None if there is none.
    """

    fire_time: int
    execution_id: str | None = None
    reason: str | None = None
    workflow: VersionKey | None = None


def parse_fire_time(text: str) -> int:
    """Return a scheduled time of EventBridge Scheduler, such as ``2022-03-22T18:59:43Z``, in milliseconds.

    Raises
    ------
    ValueError
        If the text is no time.
    """
    at = datetime.fromisoformat(text)
    return int(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1000)


def rate_expression(minutes: int) -> str:
    """Return the expression of EventBridge Scheduler for a number of minutes between two times."""
    return f"rate({minutes} minute{'' if minutes == 1 else 's'})"
