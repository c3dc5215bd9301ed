"""Requests and responses for reports and heartbeats in the native contract."""

from dataclasses import replace
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from tasklatch.api.body import dump_json
from tasklatch.api.errors import Problem
from tasklatch.api.ids import TaskId, round_to_millis
from tasklatch.api.v1.views import ReportedTaskView, RetryView
from tasklatch.domain.errors import InvalidRequestError
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.report import Report, Verdict, make_report
from tasklatch.domain.status import MAX_ATTEMPT, TaskStatus
from tasklatch.runtime.attempt_ids import attempt_ids

MAX_REPORTS: Final = 100
MAX_SEQUENCE: Final = 2**53 - 1
"""Largest integer that every JSON parser reads exactly."""

_LONGEST_MESSAGE: Final = 100_000


# A model is built when it is first used: a cold start needs one of them
_STRICT: Final = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class AttemptBody(BaseModel):
    """The attempt that a body is about: the current one if it has neither attempt nor taskExecutionId."""

    model_config = _STRICT

    attempt: Annotated[int, Field(ge=1, le=MAX_ATTEMPT)] | None = None
    taskExecutionId: Annotated[str, Field(min_length=1, max_length=255)] | None = None

    def resolve_attempt(self, tenant: str, execution_id: str, task_id: str) -> int | None:
        """Return the attempt that the body names; None for the current one.

        Raises
        ------
        AttemptIdRequiredError
            If this deployment requires the taskExecutionId, and the body has none of this task.
        AttemptNotOpenError
            If the taskExecutionId was issued for another task.
        InvalidRequestError
            If attempt and taskExecutionId name different attempts.
        """
        if self.taskExecutionId is None and not attempt_ids().are_required:
            return self.attempt
        decoded = attempt_ids().decode(self.taskExecutionId, tenant, execution_id, task_id)
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


class ReportBody(AttemptBody):
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
        AttemptIdRequiredError, AttemptNotOpenError, InvalidRequestError, PayloadTooLargeError
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

    model_config = _STRICT

    # `Any`: each report is validated on its own, so that an invalid one does not fail the others.
    statuses: Annotated[
        list[Any],
        Field(
            min_length=1,
            max_length=MAX_REPORTS,
            json_schema_extra={"items": {"$ref": "#/components/schemas/BatchedReportBody"}},
        ),
    ]


class HeartbeatBody(AttemptBody):
    """A heartbeat of an attempt."""

    progress: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None


class NamedHeartbeatBody(HeartbeatBody):
    """A heartbeat of an attempt at the named task."""

    taskId: TaskId


class ReportResponse(TypedDict):
    """The verdict on a report, the task after it and, after a failure, the decision on its retry."""

    verdict: Verdict
    task: ReportedTaskView
    retry: NotRequired[RetryView]


class BatchedReportResponse(TypedDict):
    """Result of one report of a batch: a verdict and the task, or a problem."""

    index: int
    status: int
    taskId: NotRequired[str]
    verdict: NotRequired[Verdict]
    task: NotRequired[ReportedTaskView]
    retry: NotRequired[RetryView]
    problem: NotRequired[Problem]


class BatchResponse(TypedDict):
    """Results of all reports of a batch, in order."""

    results: list[BatchedReportResponse]


HeartbeatResponse = TypedDict(
    "HeartbeatResponse",
    {"continue": bool, "reason": NotRequired[str], "task": ReportedTaskView},
)
HeartbeatResponse.__doc__ = "Whether the worker should go on; if not, why not."
