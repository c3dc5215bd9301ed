"""Routes for clients that run workflows as in Cognite Data Fusion: sessions, runs and their executions."""

import secrets
from typing import Any, Final

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.body import dump_json
from tasklatch.api.messages import Request, Response, page_response
from tasklatch.domain.execution import Execution, WorkflowRun
from tasklatch.domain.new_execution import NewExecution
from tasklatch.dynamodb import keys
from tasklatch.executions.control import ExecutionControl
from tasklatch.executions.reader import ExecutionReader
from tasklatch.platforms.cognite.definitions.translation import run_definitions
from tasklatch.platforms.cognite.executions import models, operations, translation
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices
from tasklatch.workflow.reopener import ExecutionReopener

DEFAULT_CANCEL_REASON: Final = "cancelled"
"""The platform's own."""

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.CREATE_SESSIONS)
def create_sessions(request: Request) -> Response:
    sessions = request.parse_body(models.SessionsBody).items
    created = [
        translation.session_view(session, secrets.randbits(53), secrets.token_urlsafe(32)) for session in sessions
    ]
    return Response({"items": created})


@app.route(operations.RUN_WORKFLOW)
def run_workflow(request: Request) -> Response:
    body, services = request.parse_body(models.RunBody), RequestServices(request.remaining_ms)
    version = services.workflow_definitions.version(
        request.tenant, request.path["workflowExternalId"], request.path["version"]
    )
    execution, _ = services.execution_creator.create(
        NewExecution(
            request.tenant,
            translation.run_id(request.tenant, version.external_id, version.version, body.authentication.nonce),
            run_definitions(version, services.workflow_definitions.version),
            metadata=dump_json(body.metadata, "metadata"),
            group=translation.workflow_group(version.external_id),
            run=WorkflowRun(version.version, version.definition, body.input_text()),
        )
    )
    return Response(translation.workflow_execution_view(execution), log_fields={"execution_id": execution.execution_id})


@app.route(operations.LIST_EXECUTIONS)
def list_executions(request: Request) -> Response:
    body = request.parse_body(models.WorkflowExecutionsListBody)
    executions, cursor = _reader(request).list_executions(
        request.tenant,
        limit=body.page,
        cursor=body.cursor,
        criteria=translation.to_execution_filter(body),
        created_after=body.criteria.createdTimeStart,
        created_before=body.criteria.createdTimeEnd,
    )
    return page_response([translation.workflow_execution_view(execution) for execution in executions], cursor)


@app.route(operations.GET_EXECUTION)
def get_execution(request: Request) -> Response:
    execution = _get_run(request)
    tenant, execution_id = execution.tenant, execution.execution_id
    payloads = RequestServices(request.remaining_ms).payloads
    return Response(
        translation.workflow_execution_detail_view(
            execution,
            payloads.get_text(tenant, execution_id, keys.DEFINITION_SK),
            payloads.get_text(tenant, execution_id, keys.EXECUTION_INPUT_SK),
            payloads.get_details(tenant, execution_id, list(_reader(request).iterate_tasks(tenant, execution_id))),
        )
    )


@app.route(operations.CANCEL_EXECUTION)
def cancel_execution(request: Request) -> Response:
    reason = request.parse_body(models.WorkflowCancelBody).reason or DEFAULT_CANCEL_REASON
    execution = _get_run(request)
    return Response(
        translation.workflow_execution_view(_control(request).cancel(request.tenant, execution.execution_id, reason))
    )


@app.route(operations.RETRY_EXECUTION)
def retry_execution(request: Request) -> Response:
    request.parse_body(models.WorkflowRetryBody)
    reopener: ExecutionReopener = RequestServices(request.remaining_ms).execution_reopener
    execution, _ = reopener.retry(request.tenant, _get_run(request).execution_id)
    return Response(translation.workflow_execution_view(execution))


def _get_run(request: Request) -> Execution:
    """Read the execution in the path, and check that it is a run of a workflow."""
    return translation.check_is_run(_reader(request).get(request.tenant, request.path["executionId"]))


def _reader(request: Request) -> ExecutionReader:
    return RequestServices(request.remaining_ms).execution_reader


def _control(request: Request) -> ExecutionControl:
    return RequestServices(request.remaining_ms).execution_control
