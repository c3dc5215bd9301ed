"""Requests about workflows and their versions in Cognite's contract: what each operation does with the services."""

from collections.abc import Mapping, Sequence

from tasklatch.api.messages import Request, Response, page_response
from tasklatch.domain.advance import Advance, AdvanceMessage
from tasklatch.domain.errors import ConflictError
from tasklatch.executions.concurrency_slots import ConcurrencySlots
from tasklatch.executions.running_executions import RunningExecutions
from tasklatch.platforms.cognite.definitions import models, translation
from tasklatch.platforms.cognite.executions.translation import workflow_group
from tasklatch.workflow.advance_queue import AdvanceQueue
from tasklatch.workflow.definitions import WorkflowDefinitions


def upsert_workflows(
    request: Request, definitions: WorkflowDefinitions, slots: ConcurrencySlots, queue: AdvanceQueue
) -> Response:
    """Create workflows, or replace what describes them."""
    bodies = request.parse_body(models.WorkflowsBody).unique_items()
    # First, so that no limit is shown that does not hold
    _set_limits(request, slots, queue, {body.externalId: body.maxConcurrentExecutions for body in bodies})
    created = [
        definitions.put_workflow(
            request.tenant,
            body.externalId,
            description=body.description,
            data_set_id=body.dataSetId,
            max_concurrent_executions=body.maxConcurrentExecutions,
        )
        for body in bodies
    ]
    return Response({"items": [translation.workflow_view(workflow) for workflow in created]})


def _set_limits(
    request: Request, slots: ConcurrencySlots, queue: AdvanceQueue, limits: Mapping[str, int | None]
) -> None:
    """Set the limits of workflows, and have those of their executions started that wait and fit now."""
    groups = {workflow_group(name): limit for name, limit in limits.items()}
    changed = [group for group, limit in groups.items() if slots.set_limit(request.tenant, group, limit)]
    queue.send(AdvanceMessage(Advance.SLOT, request.tenant, "", concurrency_key=group) for group in changed)


def list_workflows(request: Request, definitions: WorkflowDefinitions) -> Response:
    """List a page of the tenant's workflows."""
    query = request.parse_query(models.WorkflowsQuery)
    workflows, cursor = definitions.list_workflows(request.tenant, limit=query.page, cursor=query.cursor)
    return page_response([translation.workflow_view(workflow) for workflow in workflows], cursor)


def get_workflow(request: Request, definitions: WorkflowDefinitions) -> Response:
    """Show a workflow."""
    workflow = definitions.workflow(request.tenant, request.path["workflowExternalId"])
    return Response(translation.workflow_view(workflow))


def delete_workflows(request: Request, definitions: WorkflowDefinitions, running: RunningExecutions) -> Response:
    """Delete workflows with their versions, unless one runs."""
    query, names = request.parse_query(models.DeleteQuery), request.parse_body(models.WorkflowRefs).names()
    _check_none_runs(request, running, [(name, None) for name in names])
    definitions.delete_workflows(request.tenant, names, ignore_unknown=query.ignoreUnknownIds)
    return Response({})


def upsert_versions(request: Request, definitions: WorkflowDefinitions) -> Response:
    """Create versions of workflows, or replace them."""
    bodies = request.parse_body(models.VersionsBody).unique_items()
    texts = [(body, body.definition_text()) for body in bodies]
    created = [
        definitions.put_version(request.tenant, body.workflowExternalId, body.version, text) for body, text in texts
    ]
    return Response({"items": [translation.version_view(version) for version in created]})


def list_versions(request: Request, definitions: WorkflowDefinitions) -> Response:
    """List a page of the versions of workflows."""
    body = request.parse_body(models.VersionsListBody)
    versions, cursor = definitions.list_versions(
        request.tenant, body.workflow_versions(), limit=body.page, cursor=body.cursor
    )
    return page_response([translation.version_view(version) for version in versions], cursor)


def get_version(request: Request, definitions: WorkflowDefinitions) -> Response:
    """Show a version of a workflow."""
    version = definitions.version(request.tenant, request.path["workflowExternalId"], request.path["version"])
    return Response(translation.version_view(version))


def delete_versions(request: Request, definitions: WorkflowDefinitions, running: RunningExecutions) -> Response:
    """Delete versions of workflows, unless one runs."""
    query, names = request.parse_query(models.DeleteQuery), request.parse_body(models.VersionRefs).names()
    _check_none_runs(request, running, names)
    definitions.delete_versions(request.tenant, names, ignore_unknown=query.ignoreUnknownIds)
    return Response({})


def _check_none_runs(request: Request, executions: RunningExecutions, names: Sequence[tuple[str, str | None]]) -> None:
    """Refuse to delete workflows, or versions of them, while they run."""
    running = [
        ":".join(filter(None, (name, version)))
        for name, version in names
        if executions.contains(request.tenant, workflow_group(name), version)
    ]
    if running:
        raise ConflictError(f"There are running executions of {', '.join(map(repr, running))}: cancel them first")
