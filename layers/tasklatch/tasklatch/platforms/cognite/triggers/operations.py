"""Operations on Cognite's workflow triggers."""

from http import HTTPStatus
from typing import Final

from tasklatch.api.authorization import Scope
from tasklatch.platforms.cognite.definitions.models import EmptyObject
from tasklatch.platforms.cognite.errors import missing_as
from tasklatch.platforms.cognite.operations import PROJECT, project_operation
from tasklatch.platforms.cognite.triggers.models import (
    TriggerListView,
    TriggerRefs,
    TriggerRunListView,
    TriggersBody,
    TriggersQuery,
)

_TRIGGERS: Final = f"{PROJECT}/workflows/triggers"
_TRIGGER: Final = f"{_TRIGGERS}/{{externalId}}"
_MISSING: Final = (HTTPStatus.NOT_FOUND,)
_TRIGGER_MISSING: Final = missing_as("Trigger not found.")
_WORKFLOW_TRIGGER_MISSING: Final = missing_as("Workflow trigger not found.")

UPSERT_TRIGGERS: Final = project_operation(
    name="cognite_upsert_triggers",
    key=f"POST {_TRIGGERS}",
    summary="Create or replace a trigger, which runs a version of a workflow",
    scope=Scope.MANAGE,
    request=TriggersBody,
    responses={HTTPStatus.OK: TriggerListView},
    problems=(*_MISSING, HTTPStatus.CONFLICT),
)
LIST_TRIGGERS: Final = project_operation(
    name="cognite_list_triggers",
    key=f"GET {_TRIGGERS}",
    summary="List triggers",
    scope=Scope.READ,
    query=TriggersQuery,
    responses={HTTPStatus.OK: TriggerListView},
)
DELETE_TRIGGERS: Final = project_operation(
    name="cognite_delete_triggers",
    key=f"POST {_TRIGGERS}/delete",
    summary="Delete triggers with their history; their executions go on",
    scope=Scope.MANAGE,
    request=TriggerRefs,
    responses={HTTPStatus.OK: EmptyObject},
    problems=(*_MISSING, HTTPStatus.CONFLICT),
    error_format=_TRIGGER_MISSING,
)
PAUSE_TRIGGER: Final = project_operation(
    name="cognite_pause_trigger",
    key=f"POST {_TRIGGER}/pause",
    summary="Pause a trigger",
    scope=Scope.MANAGE,
    responses={HTTPStatus.OK: EmptyObject},
    problems=_MISSING,
    error_format=_TRIGGER_MISSING,
)
RESUME_TRIGGER: Final = project_operation(
    name="cognite_resume_trigger",
    key=f"POST {_TRIGGER}/resume",
    summary="Resume a paused trigger",
    scope=Scope.MANAGE,
    responses={HTTPStatus.OK: EmptyObject},
    problems=_MISSING,
    error_format=_TRIGGER_MISSING,
)
LIST_RUNS: Final = project_operation(
    name="cognite_list_trigger_runs",
    key=f"GET {_TRIGGER}/history",
    summary="List the times of a trigger with what they started, newest first",
    scope=Scope.READ,
    query=TriggersQuery,
    responses={HTTPStatus.OK: TriggerRunListView},
    problems=_MISSING,
    error_format=_WORKFLOW_TRIGGER_MISSING,
)
