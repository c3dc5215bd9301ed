"""What those who run workflows in Cognite Data Fusion's words call: sessions, runs, and what becomes of them."""

import secrets

from tasklatch.aws import keys
from tasklatch.aws.clients import dynamodb
from tasklatch.aws.definitions import Definitions
from tasklatch.aws.executions import Executions
from tasklatch.aws.patience import Patience
from tasklatch.aws.payloads import Payloads
from tasklatch.aws.workflow import Workflow
from tasklatch.clock import system_clock
from tasklatch.domain.execution import Execution, WorkflowRun
from tasklatch.http import cognite_contract as contract
from tasklatch.http.body import payload_text
from tasklatch.http.cognite_definition_contract import definitions_of
from tasklatch.http.routes import Answer, Call, Routes, page_answer
from tasklatch.settings import settings

routes = Routes()
handler = routes.serve


@routes.serves(contract.CREATE_SESSIONS)
def create_sessions(call: Call) -> Answer:
    asked = call.checked_body(contract.SessionsBody).items
    made = [contract.session_view(one, secrets.randbits(53), secrets.token_urlsafe(32)) for one in asked]
    return Answer({"items": made})


@routes.serves(contract.RUN_WORKFLOW)
def run_workflow(call: Call) -> Answer:
    body, patience = call.checked_body(contract.RunBody), Patience(call.remaining_ms)
    version = Definitions(dynamodb(), settings(), system_clock, patience).version(
        call.tenant, call.path["workflowExternalId"], call.path["version"]
    )
    execution, _ = Executions(dynamodb(), settings(), system_clock, patience).create(
        call.tenant,
        contract.run_id(call.tenant, version.external_id, version.version, body.authentication.nonce),
        definitions_of(version),
        metadata=payload_text(body.metadata, "metadata"),
        group=contract.group_of(version.external_id),
        run=WorkflowRun(version.version, version.definition, body.input_text()),
    )
    return Answer(contract.execution_view(execution), noted={"execution_id": execution.execution_id})


@routes.serves(contract.LIST_EXECUTIONS)
def list_executions(call: Call) -> Answer:
    body = call.checked_body(contract.ExecutionsListBody)
    found, cursor = _executions(call).list_executions(
        call.tenant,
        limit=body.page,
        cursor=body.cursor,
        wanted=body.wanted(),
        created_after=body.filter.createdTimeStart,
        created_before=body.filter.createdTimeEnd,
    )
    return page_answer([contract.execution_view(execution) for execution in found], cursor)


@routes.serves(contract.GET_EXECUTION)
def get_execution(call: Call) -> Answer:
    execution = _run_of(call)
    tenant, execution_id = execution.tenant, execution.execution_id
    payloads = Payloads(dynamodb(), settings(), Patience(call.remaining_ms))
    return Answer(
        contract.execution_detail_view(
            execution,
            payloads.text_of(tenant, execution_id, keys.DEFINITION_SK),
            payloads.text_of(tenant, execution_id, keys.EXECUTION_INPUT_SK),
            payloads.details_of(tenant, execution_id, list(_workflow(call).tasks(tenant, execution_id))),
        )
    )


@routes.serves(contract.CANCEL_EXECUTION)
def cancel_execution(call: Call) -> Answer:
    reason = call.checked_body(contract.CancelBody).reason
    execution = _run_of(call)
    return Answer(contract.execution_view(_workflow(call).cancel(call.tenant, execution.execution_id, reason or None)))


@routes.serves(contract.RETRY_EXECUTION)
def retry_execution(call: Call) -> Answer:
    call.checked_body(contract.RetryBody)
    return Answer(contract.execution_view(_workflow(call).retry(call.tenant, _run_of(call).execution_id)))


def _run_of(call: Call) -> Execution:
    """Read the execution that a path names."""
    return contract.check_is_run(_executions(call).get(call.tenant, call.path["executionId"]))


def _executions(call: Call) -> Executions:
    return Executions(dynamodb(), settings(), system_clock, Patience(call.remaining_ms))


def _workflow(call: Call) -> Workflow:
    return Workflow(dynamodb(), settings(), system_clock, Patience(call.remaining_ms))
