"""Routes for clients that define work as in Cognite Data Fusion: workflows and their versions."""

from collections.abc import Mapping, Sequence
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response, page_response
from tasklatch.domain.advance import Advance, AdvanceMessage
from tasklatch.domain.errors import ConflictError
from tasklatch.executions.concurrency_slots import ConcurrencySlots
from tasklatch.executions.running_executions import RunningExecutions
from tasklatch.platforms.cognite.definitions import models, operations, translation
from tasklatch.platforms.cognite.executions.translation import workflow_group
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices
from tasklatch.workflow.definitions import WorkflowDefinitions

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.UPSERT_WORKFLOWS)
def upsert_workflows(request: Request) -> Response:
    definitions, bodies = _definitions(request), request.parse_body(models.WorkflowsBody).unique_items()
    # First, so that no limit is shown that does not hold
    _set_limits(request, {body.externalId: body.maxConcurrentExecutions for body in bodies})
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


@app.route(operations.LIST_WORKFLOWS)
def list_workflows(request: Request) -> Response:
    query = request.parse_query(models.WorkflowsQuery)
    workflows, cursor = _definitions(request).list_workflows(request.tenant, limit=query.page, cursor=query.cursor)
    return page_response([translation.workflow_view(workflow) for workflow in workflows], cursor)


@app.route(operations.GET_WORKFLOW)
def get_workflow(request: Request) -> Response:
    return Response(
        translation.workflow_view(_definitions(request).workflow(request.tenant, request.path["workflowExternalId"]))
    )


@app.route(operations.DELETE_WORKFLOWS)
def delete_workflows(request: Request) -> Response:
    query, names = request.parse_query(models.DeleteQuery), request.parse_body(models.WorkflowRefs).names()
    _check_none_runs(request, [(name, None) for name in names])
    _definitions(request).delete_workflows(request.tenant, names, ignore_unknown=query.ignoreUnknownIds)
    return Response({})


@app.route(operations.UPSERT_VERSIONS)
def upsert_versions(request: Request) -> Response:
    bodies = request.parse_body(models.VersionsBody).unique_items()
    texts = [(body, body.definition_text()) for body in bodies]
    definitions = _definitions(request)
    created = [
        definitions.put_version(request.tenant, body.workflowExternalId, body.version, text) for body, text in texts
    ]
    return Response({"items": [translation.version_view(version) for version in created]})


@app.route(operations.LIST_VERSIONS)
def list_versions(request: Request) -> Response:
    body = request.parse_body(models.VersionsListBody)
    versions, cursor = _definitions(request).list_versions(
        request.tenant, body.workflow_versions(), limit=body.page, cursor=body.cursor
    )
    return page_response([translation.version_view(version) for version in versions], cursor)


@app.route(operations.GET_VERSION)
def get_version(request: Request) -> Response:
    version = _definitions(request).version(request.tenant, request.path["workflowExternalId"], request.path["version"])
    return Response(translation.version_view(version))


@app.route(operations.DELETE_VERSIONS)
def delete_versions(request: Request) -> Response:
    query, names = request.parse_query(models.DeleteQuery), request.parse_body(models.VersionRefs).names()
    _check_none_runs(request, names)
    _definitions(request).delete_versions(request.tenant, names, ignore_unknown=query.ignoreUnknownIds)
    return Response({})


def _set_limits(request: Request, limits: Mapping[str, int | None]) -> None:
    """Set the limits of workflows, and have those of their executions started that wait and fit now."""
    services = RequestServices(request.remaining_ms)
    slots: ConcurrencySlots = services.concurrency_slots
    groups = {workflow_group(name): limit for name, limit in limits.items()}
    changed = [group for group, limit in groups.items() if slots.set_limit(request.tenant, group, limit)]
    services.advance_queue.send(
        AdvanceMessage(Advance.SLOT, request.tenant, "", concurrency_key=group) for group in changed
    )


def _check_none_runs(request: Request, names: Sequence[tuple[str, str | None]]) -> None:
    """Refuse to delete workflows, or versions of them, while they run."""
    executions: RunningExecutions = RequestServices(request.remaining_ms).running_executions
    running = [
        ":".join(filter(None, (name, version)))
        for name, version in names
        if executions.contains(request.tenant, workflow_group(name), version)
    ]
    if running:
        raise ConflictError(f"There are running executions of {', '.join(map(repr, running))}: cancel them first")


def _definitions(request: Request) -> WorkflowDefinitions:
    return RequestServices(request.remaining_ms).workflow_definitions
