"""Operations for reports and heartbeats in the native contract."""

from http import HTTPStatus
from typing import Final

from tasklatch.api.authorization import Scope
from tasklatch.api.operation import Operation
from tasklatch.api.v1.reports.models import (
    BatchBody,
    BatchResponse,
    HeartbeatBody,
    HeartbeatResponse,
    NamedHeartbeatBody,
    ReportBody,
    ReportResponse,
)

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
