"""Translation between reports in the native contract and the domain: reports of a batch, and responses."""

from typing import Any

from tasklatch.api.body import validate
from tasklatch.api.errors import to_problem_details
from tasklatch.api.v1.reports.models import BatchedReportBody, BatchedReportResponse, HeartbeatResponse, ReportResponse
from tasklatch.api.v1.views import reported_task_view, retry_view
from tasklatch.domain.errors import TasklatchError
from tasklatch.domain.report import Report
from tasklatch.domain.results import HeartbeatResult, ReportResult
from tasklatch.domain.retry import decide_retry


def report_response(report: Report, result: ReportResult) -> ReportResponse:
    """Return the response to one report."""
    response: ReportResponse = {"verdict": result.verdict, "task": reported_task_view(result.task, report.attempt)}
    decision = decide_retry(result.task)
    if decision is not None:
        response["retry"] = retry_view(decision)
    return response


def heartbeat_response(result: HeartbeatResult, attempt: int | None) -> HeartbeatResponse:
    """Return the response to a heartbeat of an attempt; None for the current one."""
    response: HeartbeatResponse = {"continue": result.should_continue, "task": reported_task_view(result.task, attempt)}
    if result.reason is not None:
        response["reason"] = result.reason
    return response


def batched_report(value: Any, index: int, tenant: str, execution_id: str) -> Report | TasklatchError:
    """Return one report of a batch, or its error, which does not fail the others."""
    try:
        body = validate(BatchedReportBody, value, "statuses", index)
        return body.report(tenant, execution_id, body.taskId)
    except TasklatchError as error:
        return error


def batched_response(
    index: int, report: Report | None, result: ReportResult | TasklatchError, correlation_id: str
) -> BatchedReportResponse:
    """Return the response to one report of a batch; `report` is None if it is not valid."""
    response: BatchedReportResponse = {"index": index, "status": 200}
    if report is not None:
        response["taskId"] = report.task_id
    if isinstance(result, TasklatchError):
        problem = to_problem_details(result, correlation_id)
        response["status"] = problem["status"]
        response["problem"] = problem
    elif report is not None:
        response.update(report_response(report, result))  # type: ignore[typeddict-item]
    return response
