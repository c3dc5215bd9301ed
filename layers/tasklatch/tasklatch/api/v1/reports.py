"""Reports and heartbeats in the native contract: request models, response models and operations."""

from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from tasklatch.api.app import Operation
from tasklatch.api.authorization import Scope
from tasklatch.api.body import dump_json, validate
from tasklatch.api.errors import Problem, to_problem_details
from tasklatch.api.ids import TaskId, round_to_millis
from tasklatch.api.v1.views import RetryView, TaskView, retry_view, task_view
from tasklatch.domain.attempt_id import decode_attempt
from tasklatch.domain.errors import InvalidRequestError, TasklatchError
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.report import Report, Verdict, make_report
from tasklatch.domain.results import HeartbeatResult, ReportResult
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import MAX_ATTEMPT, TaskStatus

MAX_REPORTS: Final = 100
MAX_SEQUENCE: Final = 2**53 - 1
"""Largest integer that every JSON parser reads exactly."""

_LONGEST_MESSAGE: Final = 100_000


class _Attempt(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    attempt: Annotated[int, Field(ge=1, le=MAX_ATTEMPT)] | None = None
    taskExecutionId: Annotated[str, Field(min_length=1, max_length=255)] | None = None

    def resolve_attempt(self, tenant: str, execution_id: str, task_id: str) -> int | None:
        """Return the attempt that the body names; None for the current one.

        Raises
        ------
        AttemptNotOpenError
            If the taskExecutionId was issued for another task.
        InvalidRequestError
            If attempt and taskExecutionId name different attempts.
        """
        if self.taskExecutionId is None:
            return self.attempt
        decoded = decode_attempt(self.taskExecutionId, tenant, execution_id, task_id)
        if decoded is not None and self.attempt not in (None, decoded):
            raise InvalidRequestError(
                "attempt and taskExecutionId name different attempts",
                [
                    {
                        "loc": ["body", "attempt"],
                        "msg": f"taskExecutionId is of attempt {decoded}",
                        "type": "mismatch",
                    }
                ],
            )
        return self.attempt if decoded is None else decoded


class ReportBody(_Attempt):
    """A report on one attempt at a task: the current attempt if it has neither attempt nor taskExecutionId."""

    status: Literal["IN_PROGRESS", "COMPLETED", "FAILED", "FAILED_WITH_TERMINAL_ERROR"]
    failureReason: Annotated[FailureReason, Field(strict=False)] | None = None
    message: Annotated[str, Field(max_length=_LONGEST_MESSAGE)] | None = None
    output: dict[str, Any] | None = None
    retryAfterSeconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None = None
    label: Annotated[str, Field(min_length=1, max_length=50)] | None = None
    sequence: Annotated[int, Field(ge=0, le=MAX_SEQUENCE)] | None = None

    def report(self, tenant: str, execution_id: str, task_id: str) -> Report:
        """Return the report to record in the ledger.

        Raises
        ------
        AttemptNotOpenError, InvalidRequestError, PayloadTooLargeError
            If it does not name an attempt of this task, or its output cannot be stored.
        """
        report = make_report(
            task_id,
            TaskStatus(self.status),
            attempt=self.resolve_attempt(tenant, execution_id, task_id),
            failure_reason=self.failureReason,
            message=self.message,
            output=dump_json(self.output, "output"),
            retry_after_seconds=round_to_millis(self.retryAfterSeconds),
            platform_status=self.label,
        )
        # A sequence number orders IN_PROGRESS reports only.
        return replace(report, sequence=self.sequence) if report.status is TaskStatus.IN_PROGRESS else report


class BatchedReportBody(ReportBody):
    """A report on an attempt at the named task."""

    taskId: TaskId


class BatchBody(BaseModel):
    """Up to 100 reports, recorded in order."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    # `Any`: each report is validated on its own, so that an invalid one does not fail the others.
    statuses: Annotated[
        list[Any],
        Field(
            min_length=1,
            max_length=MAX_REPORTS,
            json_schema_extra={"items": {"$ref": "#/components/schemas/BatchedReportBody"}},
        ),
    ]


class HeartbeatBody(_Attempt):
    """A heartbeat of an attempt."""

    progress: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None


class NamedHeartbeatBody(HeartbeatBody):
    """A heartbeat of an attempt at the named task."""

    taskId: TaskId


class ReportResponse(TypedDict):
    """The verdict on a report, the task after it and, after a failure, the decision on its retry."""

    verdict: Verdict
    task: TaskView
    retry: NotRequired[RetryView]


class BatchedReportResponse(TypedDict):
    """Result of one report of a batch: a verdict and the task, or a problem."""

    index: int
    status: int
    taskId: NotRequired[str]
    verdict: NotRequired[Verdict]
    task: NotRequired[TaskView]
    retry: NotRequired[RetryView]
    problem: NotRequired[Problem]


class BatchResponse(TypedDict):
    """Results of all reports of a batch, in order."""

    results: list[BatchedReportResponse]


HeartbeatResponse = TypedDict(
    "HeartbeatResponse",
    {"continue": bool, "reason": NotRequired[str], "task": TaskView},
)
HeartbeatResponse.__doc__ = "Whether the worker should go on; if not, why not."


def report_response(result: ReportResult) -> ReportResponse:
    """Return the response to one report."""
    response: ReportResponse = {"verdict": result.verdict, "task": task_view(result.task)}
    decision = decide_retry(result.task)
    if decision is not None:
        response["retry"] = retry_view(decision)
    return response


def heartbeat_response(result: HeartbeatResult) -> HeartbeatResponse:
    """Return the response to a heartbeat."""
    response: HeartbeatResponse = {"continue": result.should_continue, "task": task_view(result.task)}
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
    index: int, task_id: str | None, result: ReportResult | TasklatchError, correlation_id: str
) -> BatchedReportResponse:
    """Return the response to one report of a batch."""
    response: BatchedReportResponse = {"index": index, "status": 200}
    if task_id is not None:
        response["taskId"] = task_id
    if isinstance(result, TasklatchError):
        problem = to_problem_details(result, correlation_id)
        response["status"] = problem["status"]
        response["problem"] = problem
    else:
        response.update(report_response(result))  # type: ignore[typeddict-item]
    return response


_EXECUTION: Final = "/v1/executions/{executionId}"
_TASK: Final = f"{_EXECUTION}/tasks/{{taskId}}"
_STATUSES: Final = f"POST {_EXECUTION}/statuses"
_HEARTBEATS: Final = f"POST {_EXECUTION}/heartbeats"
_PROBLEMS: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)

REPORT_STATUS: Final = Operation(
    name="report_status",
    key=f"POST {_TASK}/status",
    summary="Report how an attempt at a task went",
    scope=Scope.REPORT,
    request=ReportBody,
    responses={HTTPStatus.OK: ReportResponse},
    problems=_PROBLEMS,
    body_route=_STATUSES,
)
REPORT_STATUSES: Final = Operation(
    name="report_statuses",
    key=_STATUSES,
    summary="Report on up to 100 attempts, in order; each gets an answer of its own",
    scope=Scope.REPORT,
    request=BatchBody,
    responses={HTTPStatus.OK: BatchResponse},
)
SEND_HEARTBEAT: Final = Operation(
    name="send_heartbeat",
    key=f"POST {_TASK}/heartbeat",
    summary="Say that an attempt is alive, and learn whether to go on",
    scope=Scope.REPORT,
    request=HeartbeatBody,
    responses={HTTPStatus.OK: HeartbeatResponse},
    problems=_PROBLEMS,
    body_route=_HEARTBEATS,
)
SEND_NAMED_HEARTBEAT: Final = Operation(
    name="send_named_heartbeat",
    key=_HEARTBEATS,
    summary="Say that an attempt is alive, for a task whose id cannot stand in a path",
    scope=Scope.REPORT,
    request=NamedHeartbeatBody,
    responses={HTTPStatus.OK: HeartbeatResponse},
    problems=_PROBLEMS,
)
