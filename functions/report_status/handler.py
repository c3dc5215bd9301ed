"""Routes for workers: a report on an attempt, a batch of reports, a heartbeat."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.ids import round_to_millis
from tasklatch.api.messages import Request, Response
from tasklatch.api.v1.reports.models import BatchBody, HeartbeatBody, NamedHeartbeatBody, ReportBody
from tasklatch.api.v1.reports.operations import REPORT_STATUS, REPORT_STATUSES, SEND_HEARTBEAT, SEND_NAMED_HEARTBEAT
from tasklatch.api.v1.reports.translation import batched_report, batched_response, heartbeat_response, report_response
from tasklatch.domain.errors import ServiceBusyError
from tasklatch.domain.report import Report
from tasklatch.domain.results import ReportResult
from tasklatch.ledger.ledger import Ledger
from tasklatch.runtime.observability import count_verdicts, logger, metrics
from tasklatch.runtime.services import RequestServices

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(REPORT_STATUS)
def report_status(request: Request) -> Response:
    execution_id, task_id = request.path["executionId"], request.path["taskId"]
    report = request.parse_body(ReportBody).report(request.tenant, execution_id, task_id)
    result = _ledger(request).record(request.tenant, execution_id, report, request.request_id)
    return Response(report_response(result), log_fields=count_verdicts([(report, result)]))


@app.route(REPORT_STATUSES)
def report_statuses(request: Request) -> Response:
    execution_id = request.path["executionId"]
    statuses = request.parse_body(BatchBody).statuses
    read = [batched_report(value, index, request.tenant, execution_id) for index, value in enumerate(statuses)]
    reports = {index: report for index, report in enumerate(read) if isinstance(report, Report)}
    recorded = _ledger(request).record_all(request.tenant, execution_id, list(reports.values()), request.request_id)
    results = dict(zip(reports, recorded, strict=True))
    responses = []
    for index, report in enumerate(read):
        if isinstance(report, Report):
            responses.append(batched_response(index, report.task_id, results[index], request.correlation_id))
        else:
            responses.append(batched_response(index, None, report, request.correlation_id))
    waits = [result.retry_after_seconds for result in recorded if isinstance(result, ServiceBusyError)]
    return Response(
        {"results": responses},
        headers={"retry-after": str(max(waits))} if waits else {},
        log_fields=count_verdicts(
            (reports[index], result) for index, result in results.items() if isinstance(result, ReportResult)
        ),
    )


@app.route(SEND_HEARTBEAT)
def send_heartbeat(request: Request) -> Response:
    return _heartbeat(request, request.path["taskId"], request.parse_body(HeartbeatBody))


@app.route(SEND_NAMED_HEARTBEAT)
def send_named_heartbeat(request: Request) -> Response:
    body = request.parse_body(NamedHeartbeatBody)
    return _heartbeat(request, body.taskId, body)


def _heartbeat(request: Request, task_id: str, body: HeartbeatBody) -> Response:
    execution_id = request.path["executionId"]
    attempt = body.resolve_attempt(request.tenant, execution_id, task_id)
    pulse = _ledger(request).heartbeat(request.tenant, execution_id, task_id, attempt, round_to_millis(body.progress))
    return Response(heartbeat_response(pulse), log_fields={"continue": pulse.should_continue})


def _ledger(request: Request) -> Ledger:
    return RequestServices(request.remaining_ms).ledger
