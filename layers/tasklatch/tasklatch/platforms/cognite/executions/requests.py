"""Requests about runs of workflows in Cognite's contract: what each operation does with the services."""

import secrets
from typing import Final

from tasklatch.api.body import dump_json
from tasklatch.api.messages import Request, Response, page_response
from tasklatch.domain.execution import Execution, WorkflowRun
from tasklatch.domain.new_execution import NewExecution
from tasklatch.dynamodb import keys
from tasklatch.executions.control import ExecutionControl
from tasklatch.executions.creation import ExecutionCreator
from tasklatch.executions.reader import ExecutionReader
from tasklatch.ledger.payloads import Payloads
from tasklatch.platforms.cognite.definitions.translation import run_definitions
from tasklatch.platforms.cognite.executions import models, translation
from tasklatch.workflow.definitions import WorkflowDefinitions
from tasklatch.workflow.reopener import ExecutionReopener

DEFAULT_CANCEL_REASON: Final = "cancelled"
"""The platform's own."""


def create_sessions(request: Request) -> Response:
    """Answer requests for sessions with credentials that stand for nothing: tokens do their work here."""
    sessions = request.parse_body(models.SessionsBody).items
    created = [
        translation.session_view(session, secrets.randbits(53), secrets.token_urlsafe(32)) for session in sessions
    ]
    return Response({"items": created})


def run_workflow(request: Request, definitions: WorkflowDefinitions, creator: ExecutionCreator) -> Response:
    """Start a run of a workflow's version."""
    body = request.parse_body(models.RunBody)
    version, limit = definitions.version_with_limit(
        request.tenant, request.path["workflowExternalId"], request.path["version"]
    )
    execution, _ = creator.create(
        NewExecution(
            request.tenant,
            translation.run_id(request.tenant, version.external_id, version.version, body.authentication.nonce),
            run_definitions(version, definitions.version),
            metadata=dump_json(body.metadata, "metadata"),
            group=translation.workflow_group(version.external_id),
            concurrency=translation.concurrency_limit(version.external_id, limit),
            run=WorkflowRun(version.version, version.definition, body.input_text()),
        )
    )
    return Response(translation.workflow_execution_view(execution), log_fields={"execution_id": execution.execution_id})


def list_executions(request: Request, reader: ExecutionReader) -> Response:
    """List a page of the runs that match the filter in the body."""
    body = request.parse_body(models.WorkflowExecutionsListBody)
    executions, cursor = reader.list_executions(
        request.tenant,
        limit=body.page,
        cursor=body.cursor,
        criteria=translation.to_execution_filter(body),
        created_after=body.criteria.createdTimeStart,
        created_before=body.criteria.createdTimeEnd,
    )
    return page_response([translation.workflow_execution_view(execution) for execution in executions], cursor)


def get_execution(request: Request, reader: ExecutionReader, payloads: Payloads) -> Response:
    """Show a run with its definition, its input and its tasks."""
    execution = _get_run(request, reader)
    tenant, execution_id = execution.tenant, execution.execution_id
    return Response(
        translation.workflow_execution_detail_view(
            execution,
            payloads.get_text(tenant, execution_id, keys.DEFINITION_SK),
            payloads.get_text(tenant, execution_id, keys.EXECUTION_INPUT_SK),
            payloads.get_details(tenant, execution_id, list(reader.iterate_tasks(tenant, execution_id))),
        )
    )


def cancel_execution(request: Request, reader: ExecutionReader, control: ExecutionControl) -> Response:
    """Cancel a run."""
    reason = request.parse_body(models.WorkflowCancelBody).reason or DEFAULT_CANCEL_REASON
    execution = _get_run(request, reader)
    return Response(translation.workflow_execution_view(control.cancel(request.tenant, execution.execution_id, reason)))


def retry_execution(request: Request, reader: ExecutionReader, reopener: ExecutionReopener) -> Response:
    """Run the failed tasks of a run again."""
    request.parse_body(models.WorkflowRetryBody)
    execution, _ = reopener.retry(request.tenant, _get_run(request, reader).execution_id)
    return Response(translation.workflow_execution_view(execution))


def _get_run(request: Request, reader: ExecutionReader) -> Execution:
    """Read the execution in the path, and check that it is a run of a workflow."""
    return translation.check_is_run(reader.get(request.tenant, request.path["executionId"]))
