"""Requests with reports and heartbeats in the native contract: what each operation does with the ledger."""

from tasklatch.api.ids import round_to_millis
from tasklatch.api.messages import Request, Response
from tasklatch.api.v1.reports.models import BatchBody, HeartbeatBody, NamedHeartbeatBody, ReportBody
from tasklatch.api.v1.reports.translation import batched_report, batched_response, heartbeat_response, report_response
from tasklatch.domain.errors import ServiceBusyError
from tasklatch.domain.report import Report
from tasklatch.domain.results import ReportResult
from tasklatch.ledger.ledger import Ledger
from tasklatch.runtime.observability import count_verdicts


def report_status(request: Request, ledger: Ledger) -> Response:
    """Record one report."""
    execution_id, task_id = request.path["executionId"], request.path["taskId"]
    report = request.sign(request.parse_body(ReportBody).report(request.tenant, execution_id, task_id))
    result = ledger.record(request.tenant, execution_id, report, request.request_id)
    return Response(report_response(report, result), log_fields=count_verdicts([(report, result)]))


def report_statuses(request: Request, ledger: Ledger) -> Response:
    """Record a batch of reports; each has a result or a problem of its own."""
    execution_id = request.path["executionId"]
    statuses = request.parse_body(BatchBody).statuses
    read = [batched_report(value, index, request.tenant, execution_id) for index, value in enumerate(statuses)]
    reports = {index: request.sign(report) for index, report in enumerate(read) if isinstance(report, Report)}
    recorded = ledger.record_all(request.tenant, execution_id, list(reports.values()), request.request_id)
    results = dict(zip(reports, recorded, strict=True))
    responses = []
    for index, report in enumerate(read):
        if isinstance(report, Report):
            responses.append(batched_response(index, report, results[index], request.correlation_id))
        else:
            responses.append(batched_response(index, None, report, request.correlation_id))
    waits = [result.retry_after_seconds for result in (*read, *recorded) if isinstance(result, ServiceBusyError)]
    return Response(
        {"results": responses},
        headers={"retry-after": str(max(waits))} if waits else {},
        log_fields=count_verdicts(
            (reports[index], result) for index, result in results.items() if isinstance(result, ReportResult)
        ),
    )


def send_heartbeat(request: Request, ledger: Ledger) -> Response:
    """Record a heartbeat of the task in the path."""
    return _heartbeat(request, ledger, request.path["taskId"], request.parse_body(HeartbeatBody))


def send_named_heartbeat(request: Request, ledger: Ledger) -> Response:
    """Record a heartbeat of the task that the body names."""
    body = request.parse_body(NamedHeartbeatBody)
    return _heartbeat(request, ledger, body.taskId, body)


def _heartbeat(request: Request, ledger: Ledger, task_id: str, body: HeartbeatBody) -> Response:
    execution_id = request.path["executionId"]
    attempt = body.resolve_attempt(request.tenant, execution_id, task_id)
    pulse = ledger.heartbeat(request.tenant, execution_id, task_id, attempt, round_to_millis(body.progress))
    return Response(heartbeat_response(pulse, attempt), log_fields={"continue": pulse.should_continue})
