"""Operations of SuperAI's contract."""

from functools import partial
from http import HTTPStatus
from typing import Final

from tasklatch.api.authorization import Scope
from tasklatch.api.operation import Operation
from tasklatch.platforms.superai.errors import ERROR_FORMAT
from tasklatch.platforms.superai.models import (
    FlowExecutionCreate,
    FlowExecutionQuery,
    FlowExecutionsQuery,
    FlowExecutionView,
    TaskExecutionList,
    TaskExecutionsQuery,
    TaskStatuses,
    TaskStatusView,
)

_operation: Final = partial(Operation, error_format=ERROR_FORMAT)
_FLOWS: Final = "/api/flow-executions"
_FLOW: Final = f"{_FLOWS}/{{flow_execution_id}}"
_MISSING: Final = (HTTPStatus.NOT_FOUND,)

ADD_TASK_STATUSES: Final = _operation(
    name="superai_add_task_statuses",
    key=f"POST {_FLOW}/task-status",
    summary="Record up to 100 status updates of a SuperAI flow execution's tasks, in order",
    scope=Scope.REPORT,
    request=TaskStatuses,
    responses={HTTPStatus.OK: list[TaskStatusView]},
    problems=(HTTPStatus.BAD_REQUEST, *_MISSING, HTTPStatus.CONFLICT),
)
CREATE_FLOW_EXECUTION: Final = _operation(
    name="superai_create_flow_execution",
    key=f"POST {_FLOWS}",
    summary="Create a SuperAI flow execution",
    scope=Scope.MANAGE,
    request=FlowExecutionCreate,
    responses={HTTPStatus.CREATED: FlowExecutionView},
    problems=(HTTPStatus.CONFLICT,),
    headers=("Idempotency-Key",),
)
LIST_FLOW_EXECUTIONS: Final = _operation(
    name="superai_list_flow_executions",
    key=f"GET {_FLOWS}",
    summary="List the executions of a SuperAI flow, newest first",
    scope=Scope.READ,
    query=FlowExecutionsQuery,
    repeatable=frozenset({"status"}),
    responses={HTTPStatus.OK: list[FlowExecutionView]},
)
GET_FLOW_EXECUTION: Final = _operation(
    name="superai_get_flow_execution",
    key=f"GET {_FLOW}",
    summary="Show a SuperAI flow execution",
    scope=Scope.READ,
    query=FlowExecutionQuery,
    responses={HTTPStatus.OK: FlowExecutionView},
    problems=_MISSING,
)
DELETE_FLOW_EXECUTION: Final = _operation(
    name="superai_delete_flow_execution",
    key=f"DELETE {_FLOW}",
    summary="Cancel and hide a SuperAI flow execution; the native contract still shows it",
    scope=Scope.MANAGE,
    responses={HTTPStatus.NO_CONTENT: None},
    problems=_MISSING,
)
CANCEL_FLOW_EXECUTION: Final = _operation(
    name="superai_cancel_flow_execution",
    key=f"POST {_FLOW}/cancel",
    summary="Cancel a SuperAI flow execution; its open tasks are cancelled",
    scope=Scope.MANAGE,
    responses={HTTPStatus.NO_CONTENT: None},
    problems=(*_MISSING, HTTPStatus.CONFLICT),
)
LIST_TASK_EXECUTIONS: Final = _operation(
    name="superai_list_task_executions",
    key="GET /api/task-executions",
    summary="List the task executions of a SuperAI flow execution, newest first",
    scope=Scope.READ,
    query=TaskExecutionsQuery,
    responses={HTTPStatus.OK: TaskExecutionList},
)
