"""What workers call: a report on an attempt, a batch of them, a heartbeat."""

from tasklatch.aws.clients import dynamodb
from tasklatch.aws.ledger import Ledger
from tasklatch.aws.patience import Patience
from tasklatch.clock import system_clock
from tasklatch.domain.errors import BusyError
from tasklatch.domain.outcome import Recorded
from tasklatch.domain.report import Report
from tasklatch.http.names import to_thousandths
from tasklatch.http.report_contract import (
    REPORT_STATUS,
    REPORT_STATUSES,
    SEND_HEARTBEAT,
    SEND_NAMED_HEARTBEAT,
    BatchBody,
    HeartbeatBody,
    NamedHeartbeatBody,
    ReportBody,
    batched_answer,
    batched_report,
    heartbeat_answer,
    report_answer,
)
from tasklatch.http.routes import Answer, Call, Routes
from tasklatch.observability import count_verdicts
from tasklatch.settings import settings

routes = Routes()
handler = routes.serve


@routes.serves(REPORT_STATUS)
def report_status(call: Call) -> Answer:
    execution_id, task_id = call.path["executionId"], call.path["taskId"]
    report = call.checked_body(ReportBody).report(call.tenant, execution_id, task_id)
    recorded = _ledger(call).record(call.tenant, execution_id, report, call.receipt)
    return Answer(report_answer(recorded), noted=count_verdicts([(report, recorded)]))


@routes.serves(REPORT_STATUSES)
def report_statuses(call: Call) -> Answer:
    execution_id = call.path["executionId"]
    said = call.checked_body(BatchBody).statuses
    read = [batched_report(value, index, call.tenant, execution_id) for index, value in enumerate(said)]
    reports = {index: report for index, report in enumerate(read) if isinstance(report, Report)}
    recorded = _ledger(call).record_all(call.tenant, execution_id, list(reports.values()), call.receipt)
    results = dict(zip(reports, recorded, strict=True))
    answers = []
    for index, report in enumerate(read):
        if isinstance(report, Report):
            answers.append(batched_answer(index, report.task_id, results[index], call.request_id))
        else:
            answers.append(batched_answer(index, None, report, call.request_id))
    waits = [result.retry_after_seconds for result in recorded if isinstance(result, BusyError)]
    return Answer(
        {"results": answers},
        headers={"retry-after": str(max(waits))} if waits else {},
        noted=count_verdicts(
            (reports[index], result) for index, result in results.items() if isinstance(result, Recorded)
        ),
    )


@routes.serves(SEND_HEARTBEAT)
def send_heartbeat(call: Call) -> Answer:
    return _heartbeat(call, call.path["taskId"], call.checked_body(HeartbeatBody))


@routes.serves(SEND_NAMED_HEARTBEAT)
def send_named_heartbeat(call: Call) -> Answer:
    body = call.checked_body(NamedHeartbeatBody)
    return _heartbeat(call, body.taskId, body)


def _heartbeat(call: Call, task_id: str, body: HeartbeatBody) -> Answer:
    execution_id = call.path["executionId"]
    attempt = body.named_attempt(call.tenant, execution_id, task_id)
    pulse = _ledger(call).heartbeat(call.tenant, execution_id, task_id, attempt, to_thousandths(body.progress))
    return Answer(heartbeat_answer(pulse), noted={"continue": pulse.goes_on})


def _ledger(call: Call) -> Ledger:
    return Ledger(dynamodb(), settings(), system_clock, Patience(call.remaining_ms))
