"""Routes for SuperAI's workers and clients: flow executions, and the status updates of their tasks."""

from http import HTTPStatus
from itertools import islice
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.body import dump_json
from tasklatch.api.idempotency import execution_id_for, keyed_request
from tasklatch.api.ids import is_valid_task_id
from tasklatch.api.messages import Request, Response
from tasklatch.api.query_values import to_milliseconds
from tasklatch.api.v1.executions.models import MAX_METADATA_BYTES
from tasklatch.domain.errors import NotFoundError, TasklatchError
from tasklatch.domain.execution import Execution
from tasklatch.domain.new_execution import NewExecution
from tasklatch.executions.control import ExecutionControl
from tasklatch.executions.creation import ExecutionCreator
from tasklatch.executions.reader import ExecutionReader
from tasklatch.ledger.ledger import Ledger
from tasklatch.platforms.superai import models, operations, translation
from tasklatch.runtime.clock import system_clock
from tasklatch.runtime.observability import count_verdicts, logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.ADD_TASK_STATUSES)
def add_task_statuses(request: Request) -> Response:
    body = request.parse_body(models.TaskStatuses)
    execution_id, now = request.path["flow_execution_id"], system_clock()
    names = dict.fromkeys(item.task_name for item in body.statuses if is_valid_task_id(item.task_name))
    execution, tasks = _reader(request).get_with_tasks(request.tenant, execution_id, names)
    _check_shown(execution)
    translation.check_names(body, tasks)
    reports = body.reports(now, request.request_id)
    translation.check_open(reports, tasks)
    ledger: Ledger = RequestServices(request.remaining_ms).ledger
    recorded = []
    for result in ledger.record_all(request.tenant, execution_id, reports, request.request_id, tasks):
        if isinstance(result, TasklatchError):
            # If the request is sent again, earlier updates are recorded again; the latch makes that harmless.
            raise result
        recorded.append(result)
    recorded_updates = zip(reports, body.statuses, recorded, strict=True)
    return Response(
        [translation.task_status_view(report, update, result.task, now) for report, update, result in recorded_updates],
        log_fields=count_verdicts(zip(reports, recorded, strict=True)),
    )


@app.route(operations.CREATE_FLOW_EXECUTION)
def create_flow_execution(request: Request) -> Response:
    body = request.parse_body(models.FlowExecutionCreate)
    keyed = keyed_request(operations.CREATE_FLOW_EXECUTION.name, request.headers, request.body)
    metadata = dump_json({"input": body.input}, "input", limit=MAX_METADATA_BYTES)
    execution, _ = _creator(request).create(
        NewExecution(
            request.tenant,
            execution_id_for(request.tenant, None, keyed),
            body.definitions(),
            metadata=metadata,
            group=translation.flow_group(body.flow_id),
            keep_open=True,
        ),
        keyed,
    )
    log_fields = {"execution_id": execution.execution_id}
    return Response(translation.flow_execution_view(execution), HTTPStatus.CREATED, log_fields=log_fields)


@app.route(operations.LIST_FLOW_EXECUTIONS)
def list_flow_executions(request: Request) -> Response:
    query = request.parse_query(models.FlowExecutionsQuery)
    first = (query.page - 1) * query.page_size
    executions = _reader(request).list_group(
        request.tenant,
        translation.flow_group(query.flow_id),
        created_after=to_milliseconds(query.created_after),
        created_before=to_milliseconds(query.created_before),
    )
    page = islice(filter(query.matches, executions), first, first + query.page_size)
    return Response([translation.flow_execution_view(execution) for execution in page])


@app.route(operations.GET_FLOW_EXECUTION)
def get_flow_execution(request: Request) -> Response:
    request.parse_query(models.FlowExecutionQuery)
    return Response(translation.flow_execution_view(_shown(request, request.path["flow_execution_id"])))


@app.route(operations.DELETE_FLOW_EXECUTION)
def delete_flow_execution(request: Request) -> Response:
    _control(request).delete(request.tenant, request.path["flow_execution_id"])
    return Response("", HTTPStatus.NO_CONTENT)


@app.route(operations.CANCEL_FLOW_EXECUTION)
def cancel_flow_execution(request: Request) -> Response:
    execution_id = request.path["flow_execution_id"]
    _shown(request, execution_id)
    _control(request).cancel(request.tenant, execution_id, None)
    return Response("", HTTPStatus.NO_CONTENT)


@app.route(operations.LIST_TASK_EXECUTIONS)
def list_task_executions(request: Request) -> Response:
    query = request.parse_query(models.TaskExecutionsQuery)
    reader, execution_id, name = _reader(request), query.flow_execution_id, query.task_name
    try:
        _shown(request, execution_id)
        if name is None:
            tasks = islice(reader.iterate_tasks(request.tenant, execution_id), models.MAX_TASKS_LISTED)
            shown = translation.newest_first(tasks, query)
            return Response({"task_executions": [translation.task_execution_view(task) for task in shown]})
        if not is_valid_task_id(name):
            return Response({"task_executions": []})
        detail = reader.get_task_detail(request.tenant, execution_id, name)
    except NotFoundError:
        return Response({"task_executions": []})
    shown = translation.newest_first([detail.task], query)
    return Response({"task_executions": [translation.task_execution_view(task, detail) for task in shown]})


def _shown(request: Request, execution_id: str) -> Execution:
    """Read an execution that is not deleted."""
    execution = _reader(request).get(request.tenant, execution_id)
    _check_shown(execution)
    return execution


def _check_shown(execution: Execution) -> None:
    if execution.deleted_at is not None:
        raise NotFoundError("execution", execution.execution_id)


def _creator(request: Request) -> ExecutionCreator:
    return RequestServices(request.remaining_ms).execution_creator


def _reader(request: Request) -> ExecutionReader:
    return RequestServices(request.remaining_ms).execution_reader


def _control(request: Request) -> ExecutionControl:
    return RequestServices(request.remaining_ms).execution_control
