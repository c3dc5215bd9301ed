"""Requests of SuperAI's contract: what each operation does with the services."""

from http import HTTPStatus
from itertools import islice

from tasklatch.api.body import dump_json
from tasklatch.api.idempotency import execution_id_for, keyed_request
from tasklatch.api.ids import is_valid_task_id
from tasklatch.api.messages import Request, Response
from tasklatch.api.query_values import to_milliseconds
from tasklatch.api.v1.executions.models import MAX_METADATA_BYTES
from tasklatch.domain.errors import AttemptIdRequiredError, NotFoundError, TasklatchError
from tasklatch.domain.execution import Execution
from tasklatch.domain.new_execution import NewExecution
from tasklatch.executions.control import ExecutionControl
from tasklatch.executions.creation import ExecutionCreator
from tasklatch.executions.reader import ExecutionReader
from tasklatch.ledger.ledger import Ledger
from tasklatch.platforms.superai import models, operations, translation
from tasklatch.runtime.attempt_ids import attempt_ids
from tasklatch.runtime.clock import system_clock
from tasklatch.runtime.observability import count_verdicts


def add_task_statuses(request: Request, reader: ExecutionReader, ledger: Ledger) -> Response:
    """Record status updates of tasks, in order; the first that fails ends the request."""
    body = request.parse_body(models.TaskStatuses)
    if attempt_ids().are_required:
        # An update names its task alone, so any worker could report on any task
        raise AttemptIdRequiredError
    execution_id, now = request.path["flow_execution_id"], system_clock()
    names = dict.fromkeys(item.task_name for item in body.statuses if is_valid_task_id(item.task_name))
    execution, tasks = reader.get_with_tasks(request.tenant, execution_id, names)
    _check_shown(execution)
    translation.check_names(body, tasks)
    reports = [request.sign(report) for report in body.reports(now, request.request_id)]
    translation.check_open(reports, tasks)
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


def create_flow_execution(request: Request, creator: ExecutionCreator) -> Response:
    """Create an execution that stays open for the tasks that its updates name."""
    body = request.parse_body(models.FlowExecutionCreate)
    keyed = keyed_request(operations.CREATE_FLOW_EXECUTION.name, request.headers, request.body)
    metadata = dump_json({"input": body.input}, "input", limit=MAX_METADATA_BYTES)
    execution, _ = creator.create(
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


def list_flow_executions(request: Request, reader: ExecutionReader) -> Response:
    """List the executions of a flow, a numbered page at a time."""
    query = request.parse_query(models.FlowExecutionsQuery)
    first = (query.page - 1) * query.page_size
    executions = reader.list_group(
        request.tenant,
        translation.flow_group(query.flow_id),
        created_after=to_milliseconds(query.created_after),
        created_before=to_milliseconds(query.created_before),
    )
    page = islice(filter(query.matches, executions), first, first + query.page_size)
    return Response([translation.flow_execution_view(execution) for execution in page])


def get_flow_execution(request: Request, reader: ExecutionReader) -> Response:
    """Show an execution that is not deleted."""
    request.parse_query(models.FlowExecutionQuery)
    return Response(translation.flow_execution_view(_shown(request, reader, request.path["flow_execution_id"])))


def delete_flow_execution(request: Request, control: ExecutionControl) -> Response:
    """Delete an execution."""
    control.delete(request.tenant, request.path["flow_execution_id"])
    return Response("", HTTPStatus.NO_CONTENT)


def cancel_flow_execution(request: Request, reader: ExecutionReader, control: ExecutionControl) -> Response:
    """Cancel an execution that is not deleted."""
    execution_id = request.path["flow_execution_id"]
    _shown(request, reader, execution_id)
    control.cancel(request.tenant, execution_id, None)
    return Response("", HTTPStatus.NO_CONTENT)


def list_task_executions(request: Request, reader: ExecutionReader) -> Response:
    """List the tasks of an execution, or the named one; none if what is named does not exist."""
    query = request.parse_query(models.TaskExecutionsQuery)
    execution_id, name = query.flow_execution_id, query.task_name
    try:
        _shown(request, reader, execution_id)
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


def _shown(request: Request, reader: ExecutionReader, execution_id: str) -> Execution:
    """Read an execution that is not deleted."""
    execution = reader.get(request.tenant, execution_id)
    _check_shown(execution)
    return execution


def _check_shown(execution: Execution) -> None:
    if execution.deleted_at is not None:
        raise NotFoundError("execution", execution.execution_id)
