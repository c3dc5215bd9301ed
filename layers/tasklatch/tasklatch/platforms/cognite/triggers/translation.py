"""Translation between Cognite's workflow triggers and the domain."""

import json
from typing import Final, cast

from tasklatch.api.body import dump_json, validate
from tasklatch.domain.execution import WorkflowRun
from tasklatch.domain.new_execution import NewExecution
from tasklatch.domain.schedule import Firing, Schedule
from tasklatch.platforms.cognite.definitions.translation import run_definitions
from tasklatch.platforms.cognite.executions.models import MAX_INPUT_BYTES
from tasklatch.platforms.cognite.executions.translation import concurrency_limit, workflow_group
from tasklatch.platforms.cognite.triggers.models import TriggerContent, TriggerRunView, TriggerView
from tasklatch.workflow.definitions import WorkflowDefinitions

NEVER_FIRES: Final = "triggers on data changes do not fire here: the data that they watch is in Cognite Data Fusion"

_VERSION_BYTES: Final = 2 * 1024
"""Room for the version, which is added to the input."""


def trigger_view(schedule: Schedule) -> TriggerView:
    """Return the view of a trigger."""
    view = {
        **json.loads(schedule.content.body),
        "externalId": schedule.ref.schedule_id,
        "isPaused": schedule.is_paused,
        "createdTime": schedule.created_at,
        "lastUpdatedTime": schedule.updated_at,
    }
    return cast("TriggerView", view)


def trigger_run_view(schedule: Schedule, firing: Firing) -> TriggerRunView:
    """Return the view of one time of a trigger."""
    workflow, version = firing.workflow or ("", "")
    view: TriggerRunView = {
        "externalId": schedule.ref.schedule_id,
        "fireTime": firing.fire_time,
        "workflowExternalId": workflow,
        "workflowVersion": version,
        "status": "failed" if firing.execution_id is None else "success",
    }
    if firing.execution_id is not None:
        view["workflowExecutionId"] = firing.execution_id
    if firing.reason is not None:
        view["reasonForFailure"] = firing.reason
    return view


def why_it_never_fires(schedule: Schedule) -> list[Firing]:
    """Return an entry for the history of a trigger on data changes; none for other triggers."""
    if schedule.content.expressions:
        return []
    return [Firing(fire_time=schedule.updated_at, reason=NEVER_FIRES, workflow=schedule.content.workflow)]


def new_run(definitions: WorkflowDefinitions, schedule: Schedule, execution_id: str) -> NewExecution:
    """Return the run of one time of a trigger: its input is the trigger's and the version.

    Raises
    ------
    NotFoundError
        If the workflow version, or that of a subworkflow, does not exist any more.
    DuplicateNameError, InvalidRequestError, PayloadTooLargeError
        If it cannot be run.
    """
    body = validate(TriggerContent, json.loads(schedule.content.body))
    version, limit = definitions.version_with_limit(schedule.ref.tenant, body.workflowExternalId, body.workflowVersion)
    run_input = {**(body.input or {}), "version": version.version}
    return NewExecution(
        schedule.ref.tenant,
        execution_id,
        run_definitions(version, definitions.version),
        metadata=dump_json(body.metadata, "metadata"),
        group=workflow_group(version.external_id),
        concurrency=concurrency_limit(version.external_id, limit),
        run=WorkflowRun(
            version.version,
            version.definition,
            dump_json(run_input, "input", limit=MAX_INPUT_BYTES + _VERSION_BYTES),
        ),
    )
