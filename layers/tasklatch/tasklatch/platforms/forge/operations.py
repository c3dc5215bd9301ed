"""Operations of Forge's contract."""

from functools import partial
from http import HTTPStatus
from typing import Final

from tasklatch.api.authorization import Scope
from tasklatch.api.operation import Operation
from tasklatch.platforms.forge.errors import ERROR_FORMAT
from tasklatch.platforms.forge.models import ChildrenBody, ScanBody, ScanResponse, StatusUpdate, StatusUpdateResponse

_operation: Final = partial(Operation, error_format=ERROR_FORMAT)
_PROBLEMS: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)

UPDATE_TASK_STATUS: Final = _operation(
    name="forge_update_task_status",
    key="POST /forge/updateTaskStatus",
    summary="Report how one invocation of a Forge taskRunner ended",
    scope=Scope.REPORT,
    request=StatusUpdate,
    responses={HTTPStatus.OK: StatusUpdateResponse},
    problems=_PROBLEMS,
)
REGISTER_SCAN: Final = _operation(
    name="forge_register_scan",
    key="POST /forge/scans",
    summary="Register a Forge scan with its root tasks; the same request again changes nothing",
    scope=Scope.MANAGE,
    request=ScanBody,
    responses={HTTPStatus.CREATED: ScanResponse, HTTPStatus.OK: ScanResponse},
    problems=(HTTPStatus.CONFLICT,),
    headers=("Idempotency-Key",),
)
ADD_CHILDREN: Final = _operation(
    name="forge_add_children",
    key="POST /forge/children",
    summary="Add child tasks to a Forge scan; one that is there already stays as it is",
    scope=Scope.MANAGE,
    request=ChildrenBody,
    responses={HTTPStatus.OK: ScanResponse},
    problems=_PROBLEMS,
)
