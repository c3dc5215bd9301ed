"""What those who run work call: create executions, add tasks, look at them."""

from http import HTTPStatus

from tasklatch.aws.clients import dynamodb
from tasklatch.aws.executions import Executions
from tasklatch.aws.history import History
from tasklatch.aws.patience import Patience
from tasklatch.clock import system_clock
from tasklatch.http import execution_contract as contract
from tasklatch.http.body import payload_text
from tasklatch.http.idempotency import execution_id_for, keyed_request
from tasklatch.http.routes import Answer, Call, Routes, page_answer
from tasklatch.http.views import task_view
from tasklatch.settings import settings

routes = Routes()
handler = routes.serve


@routes.serves(contract.CREATE_EXECUTION)
def create_execution(call: Call) -> Answer:
    body = call.checked_body(contract.ExecutionBody)
    keyed = keyed_request(contract.CREATE_EXECUTION.name, call.headers, call.body)
    metadata = payload_text(body.metadata, "metadata", limit=contract.MAX_METADATA_BYTES)
    executions, definitions = _executions(call), body.definitions()
    executions.claim_key(call.tenant, keyed, definitions)
    execution, created = executions.create(
        call.tenant,
        execution_id_for(call.tenant, body.executionId, keyed),
        definitions,
        name=body.name,
        metadata=metadata,
    )
    return Answer(
        contract.execution_view(execution),
        HTTPStatus.CREATED if created else HTTPStatus.OK,
        {"location": f"/v1/executions/{execution.execution_id}"},
        noted={"execution_id": execution.execution_id},
    )


@routes.serves(contract.ADD_TASKS)
def add_tasks(call: Call) -> Answer:
    definitions = call.checked_body(contract.TasksBody).definitions()
    tasks = _executions(call).add_tasks(call.tenant, call.path["executionId"], definitions)
    return Answer({"items": [task_view(task) for task in tasks]})


@routes.serves(contract.LIST_EXECUTIONS)
def list_executions(call: Call) -> Answer:
    query = call.checked_query(contract.ExecutionsQuery)
    found, cursor = _executions(call).list_executions(
        call.tenant,
        limit=query.limit,
        cursor=query.cursor,
        wanted=query.wanted(),
        created_after=contract.milliseconds(query.createdAfter),
        created_before=contract.milliseconds(query.createdBefore),
    )
    return page_answer([contract.execution_view(execution) for execution in found], cursor)


@routes.serves(contract.GET_EXECUTION)
def get_execution(call: Call) -> Answer:
    executions, execution_id = _executions(call), call.path["executionId"]
    execution = executions.get(call.tenant, execution_id)
    return Answer(contract.execution_detail_view(execution, executions.counts(call.tenant, execution_id)))


@routes.serves(contract.LIST_TASKS)
def list_tasks(call: Call) -> Answer:
    query = call.checked_query(contract.TasksQuery)
    found, cursor = _executions(call).list_tasks(
        call.tenant, call.path["executionId"], limit=query.limit, cursor=query.cursor, status=query.status
    )
    return page_answer([task_view(task) for task in found], cursor)


@routes.serves(contract.GET_TASK)
def get_task(call: Call) -> Answer:
    return _task_detail(call, call.path["taskId"])


@routes.serves(contract.GET_NAMED_TASK)
def get_named_task(call: Call) -> Answer:
    return _task_detail(call, call.checked_body(contract.NamedTaskBody).taskId)


@routes.serves(contract.LIST_HISTORY)
def list_history(call: Call) -> Answer:
    return _history_page(call, call.path["taskId"], call.checked_query(contract.HistoryQuery))


@routes.serves(contract.LIST_NAMED_HISTORY)
def list_named_history(call: Call) -> Answer:
    body = call.checked_body(contract.NamedHistoryBody)
    return _history_page(call, body.taskId, body)


def _task_detail(call: Call, task_id: str) -> Answer:
    detail = _executions(call).task_detail(call.tenant, call.path["executionId"], task_id)
    return Answer(contract.task_detail_view(detail))


def _history_page(call: Call, task_id: str, page: contract.HistoryQuery | contract.NamedHistoryBody) -> Answer:
    execution_id = call.path["executionId"]
    history = History(dynamodb(), settings(), Patience(call.remaining_ms))
    entries, cursor = history.list_entries(call.tenant, execution_id, task_id, limit=page.limit, cursor=page.cursor)
    if not entries and page.cursor is None:
        _executions(call).task_detail(call.tenant, execution_id, task_id)
    return page_answer([contract.history_view(entry, call.tenant, execution_id, task_id) for entry in entries], cursor)


def _executions(call: Call) -> Executions:
    return Executions(dynamodb(), settings(), system_clock, Patience(call.remaining_ms))
