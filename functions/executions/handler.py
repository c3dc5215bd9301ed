"""Routes for clients that run work: create executions, add tasks, read both."""

from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.body import dump_json
from tasklatch.api.idempotency import execution_id_for, keyed_request
from tasklatch.api.messages import Request, Response, page_response
from tasklatch.api.query_values import to_milliseconds
from tasklatch.api.v1.executions import models, operations, translation
from tasklatch.api.v1.views import task_view
from tasklatch.domain.new_execution import NewExecution
from tasklatch.executions.concurrency_slots import ConcurrencySlots
from tasklatch.executions.creation import ExecutionCreator
from tasklatch.executions.reader import ExecutionReader
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(operations.CREATE_EXECUTION)
def create_execution(request: Request) -> Response:
    body = request.parse_body(models.ExecutionBody)
    keyed = keyed_request(operations.CREATE_EXECUTION.name, request.headers, request.body)
    metadata = dump_json(body.metadata, "metadata", limit=models.MAX_METADATA_BYTES)
    execution, created = _creator(request).create(
        NewExecution(
            request.tenant,
            execution_id_for(request.tenant, body.executionId, keyed),
            body.definitions(),
            name=body.name,
            metadata=metadata,
            concurrency=body.concurrency(),
        ),
        keyed,
    )
    return Response(
        translation.execution_view(execution),
        HTTPStatus.CREATED if created else HTTPStatus.OK,
        {"location": f"/v1/executions/{execution.execution_id}"},
        log_fields={"execution_id": execution.execution_id},
    )


@app.route(operations.ADD_TASKS)
def add_tasks(request: Request) -> Response:
    definitions = request.parse_body(models.TasksBody).definitions()
    tasks = _creator(request).add_tasks(request.tenant, request.path["executionId"], definitions)
    return Response({"items": [task_view(task) for task in tasks]})


@app.route(operations.LIST_EXECUTIONS)
def list_executions(request: Request) -> Response:
    query = request.parse_query(models.ExecutionsQuery)
    executions, cursor = _reader(request).list_executions(
        request.tenant,
        limit=query.limit,
        cursor=query.cursor,
        criteria=query.to_filter(),
        created_after=to_milliseconds(query.createdAfter),
        created_before=to_milliseconds(query.createdBefore),
    )
    return page_response([translation.execution_view(execution) for execution in executions], cursor)


@app.route(operations.GET_EXECUTION)
def get_execution(request: Request) -> Response:
    reader, execution_id = _reader(request), request.path["executionId"]
    query = request.parse_query(models.CountsQuery)
    execution = reader.get(request.tenant, execution_id)
    counts, cursor = reader.count_tasks(request.tenant, execution_id, cursor=query.cursor)
    slots: ConcurrencySlots = RequestServices(request.remaining_ms).concurrency_slots
    return Response(translation.execution_detail_view(execution, counts, cursor, slots.find_position(execution)))


@app.route(operations.LIST_TASKS)
def list_tasks(request: Request) -> Response:
    query = request.parse_query(models.TasksQuery)
    tasks, cursor = _reader(request).list_tasks(
        request.tenant, request.path["executionId"], limit=query.limit, cursor=query.cursor, status=query.status
    )
    return page_response([task_view(task) for task in tasks], cursor)


@app.route(operations.GET_TASK)
def get_task(request: Request) -> Response:
    return _task_detail(request, request.path["taskId"])


@app.route(operations.GET_NAMED_TASK)
def get_named_task(request: Request) -> Response:
    return _task_detail(request, request.parse_body(models.NamedTaskBody).taskId)


@app.route(operations.LIST_HISTORY)
def list_history(request: Request) -> Response:
    return _history_page(request, request.path["taskId"], request.parse_query(models.HistoryQuery))


@app.route(operations.LIST_NAMED_HISTORY)
def list_named_history(request: Request) -> Response:
    body = request.parse_body(models.NamedHistoryBody)
    return _history_page(request, body.taskId, body)


def _task_detail(request: Request, task_id: str) -> Response:
    detail = _reader(request).get_task_detail(request.tenant, request.path["executionId"], task_id)
    return Response(translation.task_detail_view(detail))


def _history_page(request: Request, task_id: str, page: models.HistoryQuery | models.NamedHistoryBody) -> Response:
    execution_id = request.path["executionId"]
    history = RequestServices(request.remaining_ms).history
    entries, cursor = history.list_entries(request.tenant, execution_id, task_id, limit=page.limit, cursor=page.cursor)
    if not entries and page.cursor is None:
        _reader(request).get_task_detail(request.tenant, execution_id, task_id)
    return page_response(
        [translation.history_view(entry, request.tenant, execution_id, task_id) for entry in entries], cursor
    )


def _creator(request: Request) -> ExecutionCreator:
    return RequestServices(request.remaining_ms).execution_creator


def _reader(request: Request) -> ExecutionReader:
    return RequestServices(request.remaining_ms).execution_reader
