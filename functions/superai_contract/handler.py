"""What SuperAI's workers and clients call: flow executions, and the status updates of their tasks."""

from http import HTTPStatus
from itertools import islice

from tasklatch.aws.clients import dynamodb
from tasklatch.aws.executions import Executions
from tasklatch.aws.ledger import Ledger
from tasklatch.aws.patience import Patience
from tasklatch.aws.workflow import Workflow
from tasklatch.clock import system_clock
from tasklatch.domain.errors import NotFoundError, TasklatchError
from tasklatch.domain.execution import Execution
from tasklatch.http import superai_contract as contract
from tasklatch.http.body import payload_text
from tasklatch.http.execution_contract import MAX_METADATA_BYTES, milliseconds
from tasklatch.http.idempotency import execution_id_for, keyed_request
from tasklatch.http.names import can_be_task_id
from tasklatch.http.routes import Answer, Call, Routes
from tasklatch.observability import count_verdicts
from tasklatch.settings import settings

routes = Routes()
handler = routes.serve


@routes.serves(contract.ADD_TASK_STATUSES)
def add_task_statuses(call: Call) -> Answer:
    body = call.checked_body(contract.TaskStatuses)
    execution_id, now = call.path["flow_execution_id"], system_clock()
    names = dict.fromkeys(item.task_name for item in body.statuses if can_be_task_id(item.task_name))
    execution, tasks = _executions(call).get_with_tasks(call.tenant, execution_id, names)
    _check_shown(execution)
    contract.check_names(body, tasks)
    reports = body.reports(now, call.receipt)
    contract.check_open(reports, tasks)
    ledger = Ledger(dynamodb(), settings(), system_clock, Patience(call.remaining_ms))
    recorded = []
    for result in ledger.record_all(call.tenant, execution_id, reports, call.receipt, tasks):
        if isinstance(result, TasklatchError):
            # Sent again, what was recorded before is recorded again; the latch holds all the same.
            raise result
        recorded.append(result)
    made = zip(reports, body.statuses, recorded, strict=True)
    return Answer(
        [contract.task_status_view(report, said, result.task, now) for report, said, result in made],
        noted=count_verdicts(zip(reports, recorded, strict=True)),
    )


@routes.serves(contract.CREATE_FLOW_EXECUTION)
def create_flow_execution(call: Call) -> Answer:
    body = call.checked_body(contract.FlowExecutionCreate)
    keyed = keyed_request(contract.CREATE_FLOW_EXECUTION.name, call.headers, call.body)
    metadata = payload_text({"input": body.input}, "input", limit=MAX_METADATA_BYTES)
    executions, definitions = _executions(call), body.definitions()
    executions.claim_key(call.tenant, keyed, definitions)
    execution, _ = executions.create(
        call.tenant,
        execution_id_for(call.tenant, None, keyed),
        definitions,
        metadata=metadata,
        group=contract.group_of(body.flow_id),
        stays_open=True,
    )
    noted = {"execution_id": execution.execution_id}
    return Answer(contract.flow_execution_view(execution), HTTPStatus.CREATED, noted=noted)


@routes.serves(contract.LIST_FLOW_EXECUTIONS)
def list_flow_executions(call: Call) -> Answer:
    query = call.checked_query(contract.FlowExecutionsQuery)
    first = (query.page - 1) * query.page_size
    found = _executions(call).of_group(
        call.tenant,
        contract.group_of(query.flow_id),
        created_after=milliseconds(query.created_after),
        created_before=milliseconds(query.created_before),
    )
    page = islice(filter(query.lets_through, found), first, first + query.page_size)
    return Answer([contract.flow_execution_view(execution) for execution in page])


@routes.serves(contract.GET_FLOW_EXECUTION)
def get_flow_execution(call: Call) -> Answer:
    call.checked_query(contract.FlowExecutionQuery)
    return Answer(contract.flow_execution_view(_shown(call, call.path["flow_execution_id"])))


@routes.serves(contract.DELETE_FLOW_EXECUTION)
def delete_flow_execution(call: Call) -> Answer:
    _workflow(call).delete(call.tenant, call.path["flow_execution_id"])
    return Answer("", HTTPStatus.NO_CONTENT)


@routes.serves(contract.CANCEL_FLOW_EXECUTION)
def cancel_flow_execution(call: Call) -> Answer:
    execution_id = call.path["flow_execution_id"]
    _shown(call, execution_id)
    _workflow(call).cancel(call.tenant, execution_id, None)
    return Answer("", HTTPStatus.NO_CONTENT)


@routes.serves(contract.LIST_TASK_EXECUTIONS)
def list_task_executions(call: Call) -> Answer:
    query = call.checked_query(contract.TaskExecutionsQuery)
    executions, execution_id, name = _executions(call), query.flow_execution_id, query.task_name
    try:
        _shown(call, execution_id)
        if name is None:
            tasks = islice(_workflow(call).tasks(call.tenant, execution_id), contract.MAX_TASKS_LISTED)
            shown = contract.newest_first(tasks, query)
            return Answer({"task_executions": [contract.task_execution_view(task) for task in shown]})
        if not can_be_task_id(name):
            return Answer({"task_executions": []})
        detail = executions.task_detail(call.tenant, execution_id, name)
    except NotFoundError:
        return Answer({"task_executions": []})
    shown = contract.newest_first([detail.task], query)
    return Answer({"task_executions": [contract.task_execution_view(task, detail) for task in shown]})


def _shown(call: Call, execution_id: str) -> Execution:
    """Read an execution that is not deleted."""
    execution = _executions(call).get(call.tenant, execution_id)
    _check_shown(execution)
    return execution


def _check_shown(execution: Execution) -> None:
    if execution.deleted_at is not None:
        raise NotFoundError("execution", execution.execution_id)


def _executions(call: Call) -> Executions:
    return Executions(dynamodb(), settings(), system_clock, Patience(call.remaining_ms))


def _workflow(call: Call) -> Workflow:
    return Workflow(dynamodb(), settings(), system_clock, Patience(call.remaining_ms))
