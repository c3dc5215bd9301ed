"""Operations on schedules in the native contract."""

from http import HTTPStatus
from typing import Final

from tasklatch.api.authorization import Scope
from tasklatch.api.operation import Operation
from tasklatch.api.v1.schedules.models import (
    FiringList,
    NewScheduleBody,
    ScheduleBody,
    ScheduleDetailView,
    ScheduleList,
    SchedulesQuery,
    ScheduleView,
)

_SCHEDULES: Final = "/v1/schedules"
_SCHEDULE: Final = f"{_SCHEDULES}/{{scheduleId}}"
_MISSING: Final = (HTTPStatus.NOT_FOUND,)

CREATE_SCHEDULE: Final = Operation(
    name="create_schedule",
    key=f"POST {_SCHEDULES}",
    summary="Create a schedule, which creates an execution each time; the same request again returns the same schedule",
    scope=Scope.MANAGE,
    request=NewScheduleBody,
    responses={HTTPStatus.CREATED: ScheduleView, HTTPStatus.OK: ScheduleView},
    problems=(HTTPStatus.CONFLICT,),
    headers=("Idempotency-Key",),
)
LIST_SCHEDULES: Final = Operation(
    name="list_schedules",
    key=f"GET {_SCHEDULES}",
    summary="List schedules by id",
    scope=Scope.READ,
    query=SchedulesQuery,
    responses={HTTPStatus.OK: ScheduleList},
)
GET_SCHEDULE: Final = Operation(
    name="get_schedule",
    key=f"GET {_SCHEDULE}",
    summary="Show a schedule with the execution that it creates",
    scope=Scope.READ,
    responses={HTTPStatus.OK: ScheduleDetailView},
    problems=_MISSING,
)
REPLACE_SCHEDULE: Final = Operation(
    name="replace_schedule",
    key=f"PUT {_SCHEDULE}",
    summary="Replace the times and the execution of a schedule; it stays paused if it is",
    scope=Scope.MANAGE,
    request=ScheduleBody,
    responses={HTTPStatus.OK: ScheduleView},
    problems=_MISSING,
)
DELETE_SCHEDULE: Final = Operation(
    name="delete_schedule",
    key=f"DELETE {_SCHEDULE}",
    summary="Delete a schedule with its history; its executions continue",
    scope=Scope.MANAGE,
    responses={HTTPStatus.NO_CONTENT: None},
    problems=_MISSING,
)
PAUSE_SCHEDULE: Final = Operation(
    name="pause_schedule",
    key=f"POST {_SCHEDULE}/pause",
    summary="Pause a schedule: times that pass meanwhile start nothing, then or later",
    scope=Scope.MANAGE,
    responses={HTTPStatus.OK: ScheduleView},
    problems=_MISSING,
)
RESUME_SCHEDULE: Final = Operation(
    name="resume_schedule",
    key=f"POST {_SCHEDULE}/resume",
    summary="Resume a paused schedule",
    scope=Scope.MANAGE,
    responses={HTTPStatus.OK: ScheduleView},
    problems=_MISSING,
)
LIST_FIRINGS: Final = Operation(
    name="list_schedule_history",
    key=f"GET {_SCHEDULE}/history",
    summary="List the times of a schedule with what they started, newest first",
    scope=Scope.READ,
    query=SchedulesQuery,
    responses={HTTPStatus.OK: FiringList},
    problems=_MISSING,
)
