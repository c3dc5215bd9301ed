"""Requests about schedules in the native contract: what each operation does with the services."""

from http import HTTPStatus

from tasklatch.api.idempotency import execution_id_for, keyed_request
from tasklatch.api.messages import Request, Response, page_response
from tasklatch.api.v1.schedules import models, operations, translation
from tasklatch.domain.schedule import ScheduleKind, ScheduleRef
from tasklatch.schedules.schedule_history import ScheduleHistory
from tasklatch.schedules.schedules import Schedules


def create_schedule(request: Request, schedules: Schedules) -> Response:
    """Create a schedule; show the one that exists if the request is a repeat."""
    body = request.parse_body(models.NewScheduleBody)
    keyed = keyed_request(operations.CREATE_SCHEDULE.name, request.headers, request.body)
    schedule_id = execution_id_for(request.tenant, body.scheduleId, keyed)
    ref = ScheduleRef(request.tenant, ScheduleKind.EXECUTION, schedule_id)
    schedule, created = schedules.create(ref, body.content(), keyed)
    return Response(
        translation.schedule_view(schedule),
        HTTPStatus.CREATED if created else HTTPStatus.OK,
        {"location": f"/v1/schedules/{schedule_id}"},
    )


def list_schedules(request: Request, schedules: Schedules) -> Response:
    """List a page of the tenant's schedules."""
    query = request.parse_query(models.SchedulesQuery)
    page, cursor = schedules.list_page(request.tenant, ScheduleKind.EXECUTION, limit=query.limit, cursor=query.cursor)
    return page_response([translation.schedule_view(schedule) for schedule in page], cursor)


def get_schedule(request: Request, schedules: Schedules) -> Response:
    """Show a schedule."""
    return Response(translation.schedule_detail_view(schedules.get(_ref(request))))


def replace_schedule(request: Request, schedules: Schedules) -> Response:
    """Replace what a schedule starts, and when."""
    content = request.parse_body(models.ScheduleBody).content()
    return Response(translation.schedule_view(schedules.replace(_ref(request), content)))


def delete_schedule(request: Request, schedules: Schedules) -> Response:
    """Delete a schedule."""
    schedules.delete(_ref(request))
    return Response("", HTTPStatus.NO_CONTENT)


def pause_schedule(request: Request, schedules: Schedules) -> Response:
    """Pause a schedule."""
    return Response(translation.schedule_view(schedules.set_paused(_ref(request), is_paused=True)))


def resume_schedule(request: Request, schedules: Schedules) -> Response:
    """Resume a schedule."""
    return Response(translation.schedule_view(schedules.set_paused(_ref(request), is_paused=False)))


def list_schedule_history(request: Request, schedules: Schedules, history: ScheduleHistory) -> Response:
    """List a page of the times at which a schedule was due, and what came of each."""
    query, schedule = request.parse_query(models.SchedulesQuery), schedules.get(_ref(request))
    firings, cursor = history.list_page(schedule, limit=query.limit, cursor=query.cursor)
    return page_response([translation.firing_view(firing) for firing in firings], cursor)


def _ref(request: Request) -> ScheduleRef:
    return ScheduleRef(request.tenant, ScheduleKind.EXECUTION, request.path["scheduleId"])
