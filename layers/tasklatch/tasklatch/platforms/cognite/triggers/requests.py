"""Requests about triggers in Cognite's contract: what each operation does with the services."""

from tasklatch.api.messages import Request, Response, page_response
from tasklatch.domain.schedule import ScheduleKind, ScheduleRef
from tasklatch.platforms.cognite.triggers import models, translation
from tasklatch.schedules.schedule_history import ScheduleHistory
from tasklatch.schedules.schedules import Schedules
from tasklatch.workflow.definitions import WorkflowDefinitions


def upsert_triggers(request: Request, definitions: WorkflowDefinitions, schedules: Schedules) -> Response:
    """Create a trigger, or replace it; the version that it runs must exist."""
    [body] = request.parse_body(models.TriggersBody).items
    content = body.content()
    definitions.version(request.tenant, body.workflowExternalId, body.workflowVersion)
    schedule = schedules.put(_ref(request, body.externalId), content)
    return Response({"items": [translation.trigger_view(schedule)]})


def list_triggers(request: Request, schedules: Schedules) -> Response:
    """List a page of the tenant's triggers."""
    query = request.parse_query(models.TriggersQuery)
    limit = min(query.limit, models.MAX_TRIGGERS_A_PAGE)
    page, cursor = schedules.list_page(request.tenant, ScheduleKind.WORKFLOW, limit=limit, cursor=query.cursor)
    return page_response([translation.trigger_view(schedule) for schedule in page], cursor)


def delete_triggers(request: Request, schedules: Schedules) -> Response:
    """Delete triggers."""
    names = request.parse_body(models.TriggerRefs).names()
    schedules.delete_all([_ref(request, name) for name in names])
    return Response({})


def pause_trigger(request: Request, schedules: Schedules) -> Response:
    """Pause the trigger in the path."""
    schedules.set_paused(_ref(request, request.path["externalId"]), is_paused=True)
    return Response({})


def resume_trigger(request: Request, schedules: Schedules) -> Response:
    """Resume the trigger in the path."""
    schedules.set_paused(_ref(request, request.path["externalId"]), is_paused=False)
    return Response({})


def list_trigger_runs(request: Request, schedules: Schedules, history: ScheduleHistory) -> Response:
    """List a page of the runs of the trigger in the path, and first why it can start none."""
    query, schedule = (
        request.parse_query(models.TriggersQuery),
        schedules.get(_ref(request, request.path["externalId"])),
    )
    entries = translation.why_it_never_fires(schedule) if query.cursor is None else []
    limit = max(min(query.limit, models.MAX_RUNS_A_PAGE) - len(entries), 1)
    firings, cursor = history.list_page(schedule, limit=limit, cursor=query.cursor)
    return page_response([translation.trigger_run_view(schedule, firing) for firing in (*entries, *firings)], cursor)


def _ref(request: Request, external_id: str) -> ScheduleRef:
    return ScheduleRef(request.tenant, ScheduleKind.WORKFLOW, external_id)
