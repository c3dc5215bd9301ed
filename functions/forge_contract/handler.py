"""Routes for a Forge app: updateTaskStatus for its taskRunner, and the registration of scans and child tasks."""

from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.body import dump_json
from tasklatch.api.idempotency import execution_id_for, keyed_request
from tasklatch.api.messages import Request, Response
from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.new_execution import NewExecution
from tasklatch.executions.creation import ExecutionCreator
from tasklatch.executions.reader import ExecutionReader
from tasklatch.ledger.ledger import Ledger
from tasklatch.platforms.forge import models, operations, translation
from tasklatch.runtime.observability import count_verdicts, logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.UPDATE_TASK_STATUS)
def update_task_status(request: Request) -> Response:
    update = models.parse_status_update(request.body)
    execution_id = translation.execution_id_for_scan(update.scanId)
    report = update.report(request.tenant, execution_id)
    ledger: Ledger = RequestServices(request.remaining_ms).ledger
    try:
        result = ledger.record(request.tenant, execution_id, report, request.request_id)
    except NotFoundError:
        # The ledger looks for the task only; this read makes the error name the scan if that does not exist either.
        _reader(request).get(request.tenant, execution_id)
        raise
    return Response(translation.status_update_response(result), log_fields=count_verdicts([(report, result)]))


@app.route(operations.REGISTER_SCAN)
def register_scan(request: Request) -> Response:
    body = request.parse_body(models.ScanBody)
    requested_id = translation.execution_id_for_scan(body.scanId) if body.scanId is not None else None
    keyed = keyed_request(operations.REGISTER_SCAN.name, request.headers, request.body)
    execution_id = execution_id_for(request.tenant, requested_id, keyed)
    scan_id = body.scanId or execution_id
    metadata = {"connectionId": body.connectionId, "scanId": scan_id}
    execution, created = _creator(request).create(
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


@app.route(operations.ADD_CHILDREN)
def add_children(request: Request) -> Response:
    body = request.parse_body(models.ChildrenBody)
    execution_id = translation.execution_id_for_scan(body.scanId)
    execution = _reader(request).get(request.tenant, execution_id)
    _creator(request).add_tasks(request.tenant, execution_id, body.definitions(body.scanId))
    return Response(translation.scan_response(body.scanId, execution, len(body.tasks)))


def _creator(request: Request) -> ExecutionCreator:
    return RequestServices(request.remaining_ms).execution_creator


def _reader(request: Request) -> ExecutionReader:
    return RequestServices(request.remaining_ms).execution_reader
