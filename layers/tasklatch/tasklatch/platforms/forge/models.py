"""Atlassian Forge's ``updateTaskStatus``, and the registration of scans and their tasks.

A scan is an execution. A report is checked as Forge's own client checks it before it sends, in the same order and with
the same messages. Unknown fields are ignored: the platform's client may send more.
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
from tasklatch.domain.execution import Execution
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.report import Report, Verdict, make_report
from tasklatch.domain.results import ReportResult
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task_definition import TaskDefinition

MAX_TASKS_A_REQUEST: Final = 500
MAX_SCAN_ID_CHARACTERS: Final = 1024

_LENIENT: Final = ConfigDict(extra="ignore", strict=True, frozen=True)
_ENCODED: Final = "scan:"
_DIGEST: Final = "scan~"
_LONGEST_EXECUTION_ID: Final = 128

TaskUuid = Annotated[str, Field(pattern=UUID_PATTERN)]
Status = Literal["success", "failure"]


class ReportedTask(BaseModel):
    """The reported task; its UUID can have any version."""

    model_config = _LENIENT

    taskId: TaskUuid


class StatusUpdate(BaseModel):
    """Result of one invocation of a taskRunner.

    `scanId` and `taskExecutionId` are not validated. With a `taskExecutionId` that this service did not issue for the
    task, as in a duplicate delivery, the report is for the current attempt.
    """

    model_config = _LENIENT

    scanId: Any = None
    taskExecutionId: Any = None
    connectionId: Annotated[str, Field(min_length=1)]
    status: Status
    task: ReportedTask
    failureReason: Annotated[FailureReason, Field(strict=False)] | None = None

    def report(self, tenant: str, execution_id: str) -> Report:
        """Return the report to record in the ledger."""
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
            # A well-formed id of another task: to Forge, every id that is not of this task is an unknown one.
            return None


class ScanTask(BaseModel):
    """A task of a scan; its taskRunner is called with `taskMetadata`."""

    model_config = _LENIENT

    taskId: TaskUuid
    taskType: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    taskMetadata: dict[str, Any] | None = None

    def definition(self, index: int, connection_id: str, scan_id: str) -> TaskDefinition:
        """Return the domain's definition of the task; `index` is its position in the request.

        Its input is the payload of the taskRunner.

        Raises
        ------
        InvalidRequestError, PayloadTooLargeError
            If its metadata cannot be stored.
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
        """Return the domain's definitions of the tasks, in order."""
        return [task.definition(index, self.connectionId, scan_id) for index, task in enumerate(self.tasks)]


class ScanBody(_ScanTasks):
    """A scan to register, with its root tasks."""

    scanId: Annotated[str, Field(min_length=1, max_length=MAX_SCAN_ID_CHARACTERS)] | None = None


class ChildrenBody(_ScanTasks):
    """Child tasks that a task of a scan adds to the scan."""

    scanId: Annotated[str, Field(min_length=1, max_length=MAX_SCAN_ID_CHARACTERS)]


class StatusUpdateResponse(TypedDict):
    """Response of the platform to an accepted request."""

    status: Literal["ACCEPTED"]
    message: str


class ScanResponse(StatusUpdateResponse):
    """A scan, and its execution id in all other contracts."""

    scanId: str
    executionId: str


class Refusal(TypedDict):
    """Response of the platform to a rejected request: ``error`` is for programs to branch on."""

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
"""Checks that Forge documents for its client, in that order; the first that fails gives the response's message."""


def parse_status_update(body: Any) -> StatusUpdate:
    """Check a report as Forge does, and return it.

    Raises
    ------
    InvalidRequestError
        If a check fails; the error has the documented message.
    """
    fields = body if isinstance(body, dict) else {}
    for holds, message in _CHECKS:
        if not holds(fields):
            raise InvalidRequestError(message)
    return validate(StatusUpdate, fields)


def execution_id_for_scan(scan_id: Any) -> str:
    """Return the execution id of a scan: always the same for one scan, and never shared by two.

    A scan id that is a valid execution id is used unchanged. Any other, and one that begins with ``scan:`` or
    ``scan~``, becomes ``scan:`` and its base64url form or, if that is too long, ``scan~`` and its hexadecimal SHA-256.

    Raises
    ------
    NotFoundError
        If the scan id is not text, or empty: no scan can have it.
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
    """Return the response to a report; after a failure, its message gives the retry decision and the reason."""
    message = _IGNORED.get(result.verdict)
    if message is None:
        decision = decide_retry(result.task)
        message = f"Task status updated: {decision.reason}" if decision else "Task status updated"
    return {"status": "ACCEPTED", "message": message}


def scan_response(scan_id: str, execution: Execution, tasks: int) -> ScanResponse:
    """Return the response to a registration."""
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
