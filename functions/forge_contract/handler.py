"""What a Forge app calls: updateTaskStatus by its taskRunner, and the registration of scans and of child tasks."""

from http import HTTPStatus

from tasklatch.aws.clients import dynamodb
from tasklatch.aws.executions import Executions
from tasklatch.aws.ledger import Ledger
from tasklatch.aws.patience import Patience
from tasklatch.clock import system_clock
from tasklatch.domain.errors import NotFoundError
from tasklatch.http import forge_contract as contract
from tasklatch.http.body import payload_text
from tasklatch.http.idempotency import execution_id_for, keyed_request
from tasklatch.http.routes import Answer, Call, Routes
from tasklatch.observability import count_verdicts
from tasklatch.settings import settings

routes = Routes()
handler = routes.serve


@routes.serves(contract.UPDATE_TASK_STATUS)
def update_task_status(call: Call) -> Answer:
    update = contract.status_update(call.body)
    execution_id = contract.execution_of_scan(update.scanId)
    report = update.report(call.tenant, execution_id)
    ledger = Ledger(dynamodb(), settings(), system_clock, Patience(call.remaining_ms))
    try:
        recorded = ledger.record(call.tenant, execution_id, report, call.receipt)
    except NotFoundError:
        # The ledger knows tasks alone: whether it is the scan that is not there is asked only now.
        _executions(call).get(call.tenant, execution_id)
        raise
    return Answer(contract.status_update_answer(recorded), noted=count_verdicts([(report, recorded)]))


@routes.serves(contract.REGISTER_SCAN)
def register_scan(call: Call) -> Answer:
    body = call.checked_body(contract.ScanBody)
    named = contract.execution_of_scan(body.scanId) if body.scanId is not None else None
    keyed = keyed_request(contract.REGISTER_SCAN.name, call.headers, call.body)
    execution_id = execution_id_for(call.tenant, named, keyed)
    scan_id = body.scanId or execution_id
    metadata = {"connectionId": body.connectionId, "scanId": scan_id}
    executions, definitions = _executions(call), body.definitions(scan_id)
    executions.claim_key(call.tenant, keyed, definitions)
    execution, created = executions.create(
        call.tenant,
        execution_id,
        definitions,
        metadata=payload_text(metadata, "connectionId"),
        stays_open=True,
    )
    return Answer(
        contract.scan_answer(scan_id, execution, len(body.tasks)),
        HTTPStatus.CREATED if created else HTTPStatus.OK,
        {"location": f"/v1/executions/{execution.execution_id}"},
        noted={"execution_id": execution.execution_id},
    )


@routes.serves(contract.ADD_CHILDREN)
def add_children(call: Call) -> Answer:
    body = call.checked_body(contract.ChildrenBody)
    executions, execution_id = _executions(call), contract.execution_of_scan(body.scanId)
    execution = executions.get(call.tenant, execution_id)
    executions.add_tasks(call.tenant, execution_id, body.definitions(body.scanId))
    return Answer(contract.scan_answer(body.scanId, execution, len(body.tasks)))


def _executions(call: Call) -> Executions:
    return Executions(dynamodb(), settings(), system_clock, Patience(call.remaining_ms))
