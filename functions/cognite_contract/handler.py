"""What workers of Cognite Data Fusion call: the update of a task."""

from tasklatch.aws import keys
from tasklatch.aws.clients import dynamodb
from tasklatch.aws.history import History
from tasklatch.aws.ledger import Ledger
from tasklatch.aws.patience import Patience
from tasklatch.aws.payloads import Payloads
from tasklatch.aws.task_pointers import TaskPointers
from tasklatch.clock import system_clock
from tasklatch.domain.errors import AttemptNotOpenError, NotFoundError
from tasklatch.domain.task import Task
from tasklatch.http import cognite_contract as contract
from tasklatch.http.routes import Answer, Call, Routes
from tasklatch.observability import count_verdicts
from tasklatch.settings import settings

routes = Routes()
handler = routes.serve


@routes.serves(contract.UPDATE_TASK)
def update_task(call: Call) -> Answer:
    body, patience = call.checked_body(contract.TaskUpdateBody), Patience(call.remaining_ms)
    named = TaskPointers(dynamodb(), settings(), patience).find(call.tenant, call.path["taskId"])
    report = body.report(named.task_id, named.attempt)
    ledger = Ledger(dynamodb(), settings(), system_clock, patience)
    try:
        recorded = ledger.record(call.tenant, named.execution_id, report, call.receipt)
    except AttemptNotOpenError as error:
        # The id has the form of one that may be issued later.
        raise NotFoundError("task", call.path["taskId"]) from error
    return Answer(
        _attempt_view(recorded.task, named.attempt, body, patience), noted=count_verdicts([(report, recorded)])
    )


def _attempt_view(
    task: Task, attempt: int, said: contract.TaskUpdateBody, patience: Patience
) -> contract.TaskExecutionView:
    """Show the attempt that was named, which need not be the current one."""
    payloads = Payloads(dynamodb(), settings(), patience)
    detail = payloads.details_of(task.tenant, task.execution_id, [task])[0]
    if not contract.is_past(task, attempt):
        return contract.task_view(detail, contract.current_state(detail, attempt))
    history = History(dynamodb(), settings(), patience)
    entry = history.last_change_of(task.tenant, task.execution_id, task.task_id, attempt)
    output = None
    if entry is not None and entry.output_attempt is not None and entry.output_fingerprint is not None:
        sk = keys.output_sk(task.task_id, entry.output_attempt, entry.output_fingerprint)
        output = payloads.text_of(task.tenant, task.execution_id, sk)
    return contract.task_view(detail, contract.earlier_state(attempt, entry, output, said.status))
