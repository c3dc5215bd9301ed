"""Routes for clients that start executions at recurring times: schedules, and the triggers of Cognite Data Fusion."""

from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.idempotency import execution_id_for, keyed_request
from tasklatch.api.messages import Request, Response, page_response
from tasklatch.api.v1.schedules import models, operations, translation
from tasklatch.domain.schedule import ScheduleKind, ScheduleRef
from tasklatch.platforms.cognite.triggers import models as trigger_models
from tasklatch.platforms.cognite.triggers import operations as trigger_operations
from tasklatch.platforms.cognite.triggers import translation as trigger_translation
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices
from tasklatch.schedules.schedules import Schedules

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.CREATE_SCHEDULE)
def create_schedule(request: Request) -> Response:
    body = request.parse_body(models.NewScheduleBody)
    keyed = keyed_request(operations.CREATE_SCHEDULE.name, request.headers, request.body)
    schedule_id = execution_id_for(request.tenant, body.scheduleId, keyed)
    ref = ScheduleRef(request.tenant, ScheduleKind.EXECUTION, schedule_id)
    schedule, created = _schedules(request).create(ref, body.content(), keyed)
    return Response(
        translation.schedule_view(schedule),
        HTTPStatus.CREATED if created else HTTPStatus.OK,
        {"location": f"/v1/schedules/{schedule_id}"},
    )


@app.route(operations.LIST_SCHEDULES)
def list_schedules(request: Request) -> Response:
    query = request.parse_query(models.SchedulesQuery)
    schedules, cursor = _schedules(request).list_page(
        request.tenant, ScheduleKind.EXECUTION, limit=query.limit, cursor=query.cursor
    )
    return page_response([translation.schedule_view(schedule) for schedule in schedules], cursor)


@app.route(operations.GET_SCHEDULE)
def get_schedule(request: Request) -> Response:
    return Response(translation.schedule_detail_view(_schedules(request).get(_ref(request))))


@app.route(operations.REPLACE_SCHEDULE)
def replace_schedule(request: Request) -> Response:
    content = request.parse_body(models.ScheduleBody).content()
    return Response(translation.schedule_view(_schedules(request).replace(_ref(request), content)))


@app.route(operations.DELETE_SCHEDULE)
def delete_schedule(request: Request) -> Response:
    _schedules(request).delete(_ref(request))
    return Response("", HTTPStatus.NO_CONTENT)


@app.route(operations.PAUSE_SCHEDULE)
def pause_schedule(request: Request) -> Response:
    return Response(translation.schedule_view(_schedules(request).set_paused(_ref(request), is_paused=True)))


@app.route(operations.RESUME_SCHEDULE)
def resume_schedule(request: Request) -> Response:
    return Response(translation.schedule_view(_schedules(request).set_paused(_ref(request), is_paused=False)))


@app.route(operations.LIST_FIRINGS)
def list_schedule_history(request: Request) -> Response:
    query, schedule = request.parse_query(models.SchedulesQuery), _schedules(request).get(_ref(request))
    history = RequestServices(request.remaining_ms).schedule_history
    firings, cursor = history.list_page(schedule, limit=query.limit, cursor=query.cursor)
    return page_response([translation.firing_view(firing) for firing in firings], cursor)


@app.route(trigger_operations.UPSERT_TRIGGERS)
def upsert_triggers(request: Request) -> Response:
    [body] = request.parse_body(trigger_models.TriggersBody).items
    content, definitions = body.content(), RequestServices(request.remaining_ms).workflow_definitions
    definitions.version(request.tenant, body.workflowExternalId, body.workflowVersion)
    schedule = _schedules(request).put(_trigger_ref(request, body.externalId), content)
    return Response({"items": [trigger_translation.trigger_view(schedule)]})


@app.route(trigger_operations.LIST_TRIGGERS)
def list_triggers(request: Request) -> Response:
    query = request.parse_query(trigger_models.TriggersQuery)
    limit = min(query.limit, trigger_models.MAX_TRIGGERS_A_PAGE)
    schedules, cursor = _schedules(request).list_page(
        request.tenant, ScheduleKind.WORKFLOW, limit=limit, cursor=query.cursor
    )
    return page_response([trigger_translation.trigger_view(schedule) for schedule in schedules], cursor)


@app.route(trigger_operations.DELETE_TRIGGERS)
def delete_triggers(request: Request) -> Response:
    names = request.parse_body(trigger_models.TriggerRefs).names()
    _schedules(request).delete_all([_trigger_ref(request, name) for name in names])
    return Response({})


@app.route(trigger_operations.PAUSE_TRIGGER)
def pause_trigger(request: Request) -> Response:
    _schedules(request).set_paused(_trigger_ref(request, request.path["externalId"]), is_paused=True)
    return Response({})


@app.route(trigger_operations.RESUME_TRIGGER)
def resume_trigger(request: Request) -> Response:
    _schedules(request).set_paused(_trigger_ref(request, request.path["externalId"]), is_paused=False)
    return Response({})


@app.route(trigger_operations.LIST_RUNS)
def list_trigger_runs(request: Request) -> Response:
    query, schedule = (
        request.parse_query(trigger_models.TriggersQuery),
        _schedules(request).get(_trigger_ref(request, request.path["externalId"])),
    )
    entries = trigger_translation.why_it_never_fires(schedule) if query.cursor is None else []
    limit = max(min(query.limit, trigger_models.MAX_RUNS_A_PAGE) - len(entries), 1)
    history = RequestServices(request.remaining_ms).schedule_history
    firings, cursor = history.list_page(schedule, limit=limit, cursor=query.cursor)
    return page_response(
        [trigger_translation.trigger_run_view(schedule, firing) for firing in (*entries, *firings)], cursor
    )


def _ref(request: Request) -> ScheduleRef:
    return ScheduleRef(request.tenant, ScheduleKind.EXECUTION, request.path["scheduleId"])


def _trigger_ref(request: Request, external_id: str) -> ScheduleRef:
    return ScheduleRef(request.tenant, ScheduleKind.WORKFLOW, external_id)


def _schedules(request: Request) -> Schedules:
    return RequestServices(request.remaining_ms).schedules
