"""Requests about executions in the native contract: what each operation does with the services."""

from http import HTTPStatus

from tasklatch.api.body import dump_json
from tasklatch.api.idempotency import execution_id_for, keyed_request
from tasklatch.api.messages import Request, Response, page_response
from tasklatch.api.query_values import to_milliseconds
from tasklatch.api.v1.executions import models, operations, translation
from tasklatch.api.v1.executions.task_models import TasksBody
from tasklatch.api.v1.views import task_view
from tasklatch.domain.new_execution import NewExecution
from tasklatch.executions.concurrency_slots import ConcurrencySlots
from tasklatch.executions.creation import ExecutionCreator
from tasklatch.executions.reader import ExecutionReader
from tasklatch.ledger.history import History


def create_execution(request: Request, creator: ExecutionCreator) -> Response:
    """Create an execution; show the one that exists if the request is a repeat."""
    body = request.parse_body(models.ExecutionBody)
    keyed = keyed_request(operations.CREATE_EXECUTION.name, request.headers, request.body)
    metadata = dump_json(body.metadata, "metadata", limit=models.MAX_METADATA_BYTES)
    execution, created = creator.create(
        NewExecution(
            request.tenant,
            execution_id_for(request.tenant, body.executionId, keyed),
            body.definitions(),
            name=body.name,
            metadata=metadata,
            queue=body.queue,
            priority=body.priority,
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


def add_tasks(request: Request, creator: ExecutionCreator) -> Response:
    """Add tasks to an execution."""
    definitions = request.parse_body(TasksBody).definitions()
    tasks = creator.add_tasks(request.tenant, request.path["executionId"], definitions)
    return Response({"items": [task_view(task) for task in tasks]})


def list_executions(request: Request, reader: ExecutionReader) -> Response:
    """List a page of the tenant's executions."""
    query = request.parse_query(models.ExecutionsQuery)
    executions, cursor = reader.list_executions(
        request.tenant,
        limit=query.limit,
        cursor=query.cursor,
        criteria=query.to_filter(),
        created_after=to_milliseconds(query.createdAfter),
        created_before=to_milliseconds(query.createdBefore),
    )
    return page_response([translation.execution_view(execution) for execution in executions], cursor)


def get_execution(request: Request, reader: ExecutionReader, slots: ConcurrencySlots) -> Response:
    """Show an execution with the counts of its tasks, and its position in the line in which it waits."""
    execution_id = request.path["executionId"]
    query = request.parse_query(models.CountsQuery)
    execution = reader.get(request.tenant, execution_id)
    counts, cursor = reader.count_tasks(request.tenant, execution_id, cursor=query.cursor)
    return Response(translation.execution_detail_view(execution, counts, cursor, slots.find_position(execution)))


def list_tasks(request: Request, reader: ExecutionReader) -> Response:
    """List a page of an execution's tasks."""
    query = request.parse_query(models.TasksQuery)
    tasks, cursor = reader.list_tasks(
        request.tenant, request.path["executionId"], limit=query.limit, cursor=query.cursor, status=query.status
    )
    return page_response([task_view(task) for task in tasks], cursor)


def get_task(request: Request, reader: ExecutionReader) -> Response:
    """Show the task in the path."""
    return _task_detail(request, reader, request.path["taskId"])


def get_named_task(request: Request, reader: ExecutionReader) -> Response:
    """Show the task that the body names."""
    return _task_detail(request, reader, request.parse_body(models.NamedTaskBody).taskId)


def list_history(request: Request, reader: ExecutionReader, history: History) -> Response:
    """List a page of the history of the task in the path."""
    return _history_page(request, reader, history, request.path["taskId"], request.parse_query(models.HistoryQuery))


def list_named_history(request: Request, reader: ExecutionReader, history: History) -> Response:
    """List a page of the history of the task that the body names."""
    body = request.parse_body(models.NamedHistoryBody)
    return _history_page(request, reader, history, body.taskId, body)


def _task_detail(request: Request, reader: ExecutionReader, task_id: str) -> Response:
    detail = reader.get_task_detail(request.tenant, request.path["executionId"], task_id)
    return Response(translation.task_detail_view(detail))


def _history_page(
    request: Request,
    reader: ExecutionReader,
    history: History,
    task_id: str,
    page: models.HistoryQuery | models.NamedHistoryBody,
) -> Response:
    execution_id = request.path["executionId"]
    entries, cursor = history.list_entries(request.tenant, execution_id, task_id, limit=page.limit, cursor=page.cursor)
    if not entries and page.cursor is None:
        # A task that does not exist has no history: this read makes it an error
        reader.get_task_detail(request.tenant, execution_id, task_id)
    return page_response(
        [translation.history_view(entry, request.tenant, execution_id, task_id) for entry in entries], cursor
    )
