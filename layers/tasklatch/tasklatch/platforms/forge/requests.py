"""Requests of a Forge app: what each operation does with the services."""

from http import HTTPStatus

from tasklatch.api.body import dump_json
from tasklatch.api.idempotency import execution_id_for, keyed_request
from tasklatch.api.messages import Request, Response
from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.new_execution import NewExecution
from tasklatch.executions.creation import ExecutionCreator
from tasklatch.executions.reader import ExecutionReader
from tasklatch.ledger.ledger import Ledger
from tasklatch.platforms.forge import models, operations, translation
from tasklatch.runtime.observability import count_verdicts


def update_task_status(request: Request, ledger: Ledger, reader: ExecutionReader) -> Response:
    """Record the status of a task."""
    update = models.parse_status_update(request.body)
    execution_id = translation.execution_id_for_scan(update.scanId)
    report = request.sign(update.report(request.tenant, execution_id))
    try:
        result = ledger.record(request.tenant, execution_id, report, request.request_id)
    except NotFoundError:
        # The ledger looks for the task only; this read makes the error name the scan if that does not exist either.
        reader.get(request.tenant, execution_id)
        raise
    return Response(translation.status_update_response(result), log_fields=count_verdicts([(report, result)]))


def register_scan(request: Request, creator: ExecutionCreator) -> Response:
    """Create the execution of a scan; it stays open for child tasks."""
    body = request.parse_body(models.ScanBody)
    requested_id = translation.execution_id_for_scan(body.scanId) if body.scanId is not None else None
    keyed = keyed_request(operations.REGISTER_SCAN.name, request.headers, request.body)
    execution_id = execution_id_for(request.tenant, requested_id, keyed)
    scan_id = body.scanId or execution_id
    metadata = {"connectionId": body.connectionId, "scanId": scan_id}
    execution, created = creator.create(
        NewExecution(
            request.tenant,
            execution_id,
            body.definitions(scan_id),
            metadata=dump_json(metadata, "connectionId"),
            keep_open=True,
        ),
        keyed,
    )
    return Response(
        translation.scan_response(scan_id, execution, len(body.tasks)),
        HTTPStatus.CREATED if created else HTTPStatus.OK,
        {"location": f"/v1/executions/{execution.execution_id}"},
        log_fields={"execution_id": execution.execution_id},
    )


def add_children(request: Request, reader: ExecutionReader, creator: ExecutionCreator) -> Response:
    """Add child tasks to a scan."""
    body = request.parse_body(models.ChildrenBody)
    execution_id = translation.execution_id_for_scan(body.scanId)
    execution = reader.get(request.tenant, execution_id)
    creator.add_tasks(request.tenant, execution_id, body.definitions(body.scanId))
    return Response(translation.scan_response(body.scanId, execution, len(body.tasks)))
