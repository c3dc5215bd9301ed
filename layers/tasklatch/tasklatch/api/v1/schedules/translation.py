"""Translation between schedules of the native contract and the domain."""

import json
from typing import Any, cast

from tasklatch.api.body import dump_json, validate
from tasklatch.api.v1.schedules.models import (
    FiringView,
    ScheduleBody,
    ScheduleDetailView,
    ScheduleView,
)
from tasklatch.domain.new_execution import NewExecution
from tasklatch.domain.schedule import Firing, Schedule
from tasklatch.runtime.clock import format_timestamp


def schedule_view(schedule: Schedule) -> ScheduleView:
    """Return the view of a schedule."""
    body: dict[str, Any] = json.loads(schedule.content.body)
    view: ScheduleView = {
        "scheduleId": schedule.ref.schedule_id,
        "paused": schedule.is_paused,
        "createdAt": format_timestamp(schedule.created_at),
        "updatedAt": format_timestamp(schedule.updated_at),
    }
    if body.get("cronExpression") is not None:
        view["cronExpression"] = body["cronExpression"]
        view["timeZone"] = schedule.content.time_zone
    else:
        view["everyMinutes"] = body["everyMinutes"]
    return view


def schedule_detail_view(schedule: Schedule) -> ScheduleDetailView:
    """Return the view of a schedule with its execution."""
    body: dict[str, Any] = json.loads(schedule.content.body)
    return cast("ScheduleDetailView", {**schedule_view(schedule), "execution": body["execution"]})


def firing_view(firing: Firing) -> FiringView:
    """Return the view of one time of a schedule."""
    view: FiringView = {
        "fireTime": format_timestamp(firing.fire_time),
        "status": "failed" if firing.execution_id is None else "started",
    }
    if firing.execution_id is not None:
        view["executionId"] = firing.execution_id
    if firing.reason is not None:
        view["reason"] = firing.reason
    return view


def new_execution(schedule: Schedule, execution_id: str) -> NewExecution:
    """Return the execution of one time of a schedule.

    Raises
    ------
    InvalidRequestError, PayloadTooLargeError
        If no execution can be created from the schedule any more.
    """
    execution = validate(ScheduleBody, json.loads(schedule.content.body)).execution
    return NewExecution(
        schedule.ref.tenant,
        execution_id,
        execution.checked_definitions(),
        name=execution.name,
        metadata=dump_json(execution.metadata, "metadata"),
        queue=execution.queue,
        priority=execution.priority,
        concurrency=execution.concurrency(),
    )
