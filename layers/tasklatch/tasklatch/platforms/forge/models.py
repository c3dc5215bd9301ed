"""Atlassian Forge's ``updateTaskStatus``, and what registers scans and their tasks with it.

A scan is an execution. What Forge's own client checks before it sends is checked here too, in the same order and with
the same messages. Fields that are not known are let pass: the platform's client may send more.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from tasklatch.api.app import JSON, Operation
from tasklatch.api.authorization import Scope
from tasklatch.api.body import dump_json, validate
from tasklatch.api.errors import ErrorFormat, Problem, summarize_error
from tasklatch.api.ids import UUID_PATTERN, can_be_new_execution_id
from tasklatch.domain.attempt_id import decode_attempt
from tasklatch.domain.errors import AttemptNotOpenError, InvalidRequestError, NotFoundError, TasklatchError
from tasklatch.domain.execution import Execution, TaskDefinition
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.report import Report, Verdict, make_report
from tasklatch.domain.results import ReportResult
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import TaskStatus

MAX_TASKS_A_REQUEST: Final = 500
MAX_SCAN_ID_CHARACTERS: Final = 1024

_LENIENT: Final = ConfigDict(extra="ignore", strict=True, frozen=True)
_ENCODED: Final = "scan:"
_DIGEST: Final = "scan~"
_LONGEST_EXECUTION_ID: Final = 128

TaskUuid = Annotated[str, Field(pattern=UUID_PATTERN)]
Status = Literal["success", "failure"]


class ReportedTask(BaseModel):
    """The task that a report is of; its UUID can be of any version."""

    model_config = _LENIENT

    taskId: TaskUuid


class StatusUpdate(BaseModel):
    """How one invocation of a taskRunner ended.

    `scanId` and `taskExecutionId` are not checked. A `taskExecutionId` that this service did not issue for the task, as
    a duplicate delivery brings one, speaks about the current attempt.
    """

    model_config = _LENIENT

    scanId: Any = None
    taskExecutionId: Any = None
    connectionId: Annotated[str, Field(min_length=1)]
    status: Status
    task: ReportedTask
    failureReason: Annotated[FailureReason, Field(strict=False)] | None = None

    def report(self, tenant: str, execution_id: str) -> Report:
        """The report that the ledger takes."""
        return make_report(
            self.task.taskId,
            TaskStatus.COMPLETED if self.status == "success" else TaskStatus.FAILED,
            attempt=self._attempt(tenant, execution_id),
            failure_reason=self.failureReason,
        )

    def _attempt(self, tenant: str, execution_id: str) -> int | None:
        if not isinstance(self.taskExecutionId, str):
            return None
        try:
            return decode_attempt(self.taskExecutionId, tenant, execution_id, self.task.taskId)
        except AttemptNotOpenError:
            # It looks like one of ours and is of another task: to Forge all that is not this task's own is unknown.
            return None


class ScanTask(BaseModel):
    """One unit of work; with `taskMetadata` its runner is called."""

    model_config = _LENIENT

    taskId: TaskUuid
    taskType: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    taskMetadata: dict[str, Any] | None = None

    def definition(self, index: int, connection_id: str, scan_id: str) -> TaskDefinition:
        """The definition that the domain knows; `index` is its place in the request.

        Its input is what a taskRunner is called with.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If its metadata cannot be kept.
        """
        payload = {
            "connectionId": connection_id,
            "scanId": scan_id,
            "taskId": self.taskId,
            "taskType": self.taskType,
            "taskMetadata": self.taskMetadata or {},
        }
        task_input = {name: value for name, value in payload.items() if value is not None}
        return TaskDefinition(
            task_id=self.taskId,
            input=dump_json(task_input, "tasks", index, "taskMetadata"),
            includes_attempt_id=True,
        )


class _ScanTasks(BaseModel):
    model_config = _LENIENT

    connectionId: Annotated[str, Field(min_length=1, max_length=1024)]
    tasks: Annotated[list[ScanTask], Field(min_length=1, max_length=MAX_TASKS_A_REQUEST)]

    def definitions(self, scan_id: str) -> list[TaskDefinition]:
        """The definitions that the domain knows, in order."""
        return [task.definition(index, self.connectionId, scan_id) for index, task in enumerate(self.tasks)]


class ScanBody(_ScanTasks):
    """A scan to register, with its root tasks."""

    scanId: Annotated[str, Field(min_length=1, max_length=MAX_SCAN_ID_CHARACTERS)] | None = None


class ChildrenBody(_ScanTasks):
    """Tasks that a task of a scan has found to be done."""

    scanId: Annotated[str, Field(min_length=1, max_length=MAX_SCAN_ID_CHARACTERS)]


class StatusUpdateResponse(TypedDict):
    """The platform's answer to what it has taken."""

    status: Literal["ACCEPTED"]
    message: str


class ScanResponse(StatusUpdateResponse):
    """The scan, and the execution that it is in all other contracts."""

    scanId: str
    executionId: str


class Refusal(TypedDict):
    """The platform's answer to what it has not taken: ``error`` is to be branched on."""

    status: Literal["REJECTED"]
    message: str
    error: str
    originalError: NotRequired[Problem]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _task_id(body: Mapping[str, Any]) -> Any:
    task = body.get("task")
    return task.get("taskId") if isinstance(task, dict) else None


_CHECKS: Final[Sequence[tuple[Callable[[Mapping[str, Any]], bool], str]]] = (
    (lambda body: _is_text(body.get("connectionId")), "connectionId is required"),
    (lambda body: body.get("status") in ("success", "failure"), "status must be one of: success, failure"),
    (lambda body: _task_id(body) not in (None, ""), "task.taskId is required"),
    (
        lambda body: isinstance(_task_id(body), str) and re.fullmatch(UUID_PATTERN, _task_id(body)) is not None,
        "task.taskId must be a valid UUID format",
    ),
    (
        lambda body: body.get("failureReason") in (None, *FailureReason),
        f"failureReason must be one of: {', '.join(FailureReason)}",
    ),
)
"""What Forge documents that its client checks, in that order; the first message that applies is the answer."""


def parse_status_update(body: Any) -> StatusUpdate:
    """Check a report as Forge does.

    Raises
    ------
    InvalidRequestError
        With the documented message.
    """
    fields = body if isinstance(body, dict) else {}
    for holds, message in _CHECKS:
        if not holds(fields):
            raise InvalidRequestError(message)
    return validate(StatusUpdate, fields)


def execution_id_for_scan(scan_id: Any) -> str:
    """The id of the execution that a scan is: the same for the same scan, and never for two.

    What can be an execution id is one as it is. Any other is put into base64url behind ``scan:``, or, where that would
    be too long, into the hexadecimal SHA-256 behind ``scan~``; so is one that begins like that itself.

    Raises
    ------
    NotFoundError
        If it is no text: no scan can have it.
    """
    if not _is_text(scan_id):
        raise NotFoundError("execution", "that is no text")
    if can_be_new_execution_id(scan_id) and not scan_id.startswith((_ENCODED, _DIGEST)):
        return str(scan_id)
    raw = scan_id.encode()
    encoded = _ENCODED + base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return encoded if len(encoded) <= _LONGEST_EXECUTION_ID else _DIGEST + sha256(raw).hexdigest()


_IGNORED: Final[Mapping[Verdict, str]] = {
    Verdict.DUPLICATE: "Nothing new: as much is known of this attempt already",
    Verdict.IGNORED_AFTER_SUCCESS: "Recorded and ignored: the task has succeeded already",
    Verdict.STALE_ATTEMPT: "Recorded and ignored: a newer attempt is under way",
    Verdict.SEALED: "Recorded and ignored: the task is closed",
}


def status_update_response(result: ReportResult) -> StatusUpdateResponse:
    """Word what the ledger did; after a failure, whether it is retried and why."""
    message = _IGNORED.get(result.verdict)
    if message is None:
        decision = decide_retry(result.task)
        message = f"Task status updated: {decision.reason}" if decision else "Task status updated"
    return {"status": "ACCEPTED", "message": message}


def scan_response(scan_id: str, execution: Execution, tasks: int) -> ScanResponse:
    """Word what is registered."""
    noun = "task is" if tasks == 1 else "tasks are"
    return {
        "status": "ACCEPTED",
        "message": f"{tasks} {noun} registered",
        "scanId": scan_id,
        "executionId": execution.execution_id,
    }


_NOT_OPEN: Final = "Task is not open"
_MISSING: Final[Mapping[str, str]] = {"execution": "Scan not found", "task": "Task not found"}


def _to_refusal(error: TasklatchError, problem: Problem) -> Refusal:
    if isinstance(error, NotFoundError):
        message = _MISSING[error.kind]
    else:
        message = _NOT_OPEN if isinstance(error, AttemptNotOpenError) else summarize_error(error, problem)
    return {"status": "REJECTED", "message": message, "error": message, "originalError": problem}


_ERROR_FORMAT: Final = ErrorFormat(
    JSON, Refusal, _to_refusal, {HTTPStatus.UNPROCESSABLE_ENTITY: HTTPStatus.BAD_REQUEST}
)
_PROBLEMS: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)

UPDATE_TASK_STATUS: Final = Operation(
    name="forge_update_task_status",
    key="POST /forge/updateTaskStatus",
    summary="Report how one invocation of a Forge taskRunner ended",
    scope=Scope.REPORT,
    request=StatusUpdate,
    responses={HTTPStatus.OK: StatusUpdateResponse},
    problems=_PROBLEMS,
    error_format=_ERROR_FORMAT,
)
REGISTER_SCAN: Final = Operation(
    name="forge_register_scan",
    key="POST /forge/scans",
    summary="Register a Forge scan with its root tasks; the same request again changes nothing",
    scope=Scope.MANAGE,
    request=ScanBody,
    responses={HTTPStatus.CREATED: ScanResponse, HTTPStatus.OK: ScanResponse},
    problems=(HTTPStatus.CONFLICT,),
    headers=("Idempotency-Key",),
    error_format=_ERROR_FORMAT,
)
ADD_CHILDREN: Final = Operation(
    name="forge_add_children",
    key="POST /forge/children",
    summary="Add child tasks to a Forge scan; one that is there already stays as it is",
    scope=Scope.MANAGE,
    request=ChildrenBody,
    responses={HTTPStatus.OK: ScanResponse},
    problems=_PROBLEMS,
    error_format=_ERROR_FORMAT,
)
