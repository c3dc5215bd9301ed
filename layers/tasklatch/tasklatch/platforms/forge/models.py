"""Requests and responses of Atlassian Forge's ``updateTaskStatus``, and of the registration of scans and their tasks.

A scan is an execution. A report is checked as Forge's own client checks it before it sends, in the same order and with
the same messages. Unknown fields are ignored: the platform's client may send more.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from tasklatch.api.body import dump_json, validate
from tasklatch.api.ids import UUID_PATTERN
from tasklatch.domain.errors import AttemptNotOpenError, InvalidRequestError
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.report import Report, make_report
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.runtime.attempt_ids import attempt_ids

MAX_TASKS_A_REQUEST: Final = 500
MAX_SCAN_ID_CHARACTERS: Final = 1024

_LENIENT: Final = ConfigDict(extra="ignore", strict=True, frozen=True)

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
        """Return the attempt of the id; None for the current one.

        Raises
        ------
        AttemptIdRequiredError
            If this deployment requires the id, and there is none of this task.
        """
        value = self.taskExecutionId if isinstance(self.taskExecutionId, str) else None
        try:
            return attempt_ids().decode(value, tenant, execution_id, self.task.taskId)
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
