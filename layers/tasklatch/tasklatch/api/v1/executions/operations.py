"""Operations on executions and their tasks in the native contract."""

from http import HTTPStatus
from typing import Final

from tasklatch.api.authorization import Scope
from tasklatch.api.operation import Operation
from tasklatch.api.v1.executions.models import (
    CountsQuery,
    ExecutionBody,
    ExecutionDetailView,
    ExecutionList,
    ExecutionsQuery,
    ExecutionView,
    HistoryList,
    HistoryQuery,
    NamedHistoryBody,
    NamedTaskBody,
    TaskList,
    TasksQuery,
)
from tasklatch.api.v1.executions.task_models import TasksBody
from tasklatch.api.v1.views import TaskDetailView

_EXECUTION: Final = "/v1/executions/{executionId}"
_TASK: Final = f"{_EXECUTION}/tasks/{{taskId}}"
_READ_TASK: Final = f"POST {_EXECUTION}/tasks/read"
_READ_HISTORY: Final = f"POST {_EXECUTION}/tasks/history"
_MISSING: Final = (HTTPStatus.NOT_FOUND,)
_CONFLICT: Final = (HTTPStatus.CONFLICT,)

CREATE_EXECUTION: Final = Operation(
    name="create_execution",
    key="POST /v1/executions",
    summary="Create an execution with its tasks; the same request again returns the same execution",
    scope=Scope.MANAGE,
    request=ExecutionBody,
    responses={HTTPStatus.CREATED: ExecutionView, HTTPStatus.OK: ExecutionView},
    problems=_CONFLICT,
    headers=("Idempotency-Key",),
)
ADD_TASKS: Final = Operation(
    name="add_tasks",
    key=f"POST {_EXECUTION}/tasks",
    summary="Add tasks to a running execution; one that is there already stays as it is",
    scope=Scope.MANAGE,
    request=TasksBody,
    responses={HTTPStatus.OK: TaskList},
    problems=(*_MISSING, *_CONFLICT),
)
LIST_EXECUTIONS: Final = Operation(
    name="list_executions",
    key="GET /v1/executions",
    summary="List executions, newest first",
    scope=Scope.READ,
    query=ExecutionsQuery,
    responses={HTTPStatus.OK: ExecutionList},
)
GET_EXECUTION: Final = Operation(
    name="get_execution",
    key=f"GET {_EXECUTION}",
    summary="Show an execution and count its tasks by status",
    scope=Scope.READ,
    query=CountsQuery,
    responses={HTTPStatus.OK: ExecutionDetailView},
    problems=_MISSING,
)
LIST_TASKS: Final = Operation(
    name="list_tasks",
    key=f"GET {_EXECUTION}/tasks",
    summary="List an execution's tasks by id",
    scope=Scope.READ,
    query=TasksQuery,
    responses={HTTPStatus.OK: TaskList},
    problems=_MISSING,
)
GET_TASK: Final = Operation(
    name="get_task",
    key=f"GET {_TASK}",
    summary="Show a task with its input, its output and the decision on its retry",
    scope=Scope.READ,
    responses={HTTPStatus.OK: TaskDetailView},
    problems=_MISSING,
    body_route=_READ_TASK,
)
GET_NAMED_TASK: Final = Operation(
    name="get_named_task",
    key=_READ_TASK,
    summary="Show a task whose id cannot stand in a path",
    scope=Scope.READ,
    request=NamedTaskBody,
    responses={HTTPStatus.OK: TaskDetailView},
    problems=_MISSING,
)
LIST_HISTORY: Final = Operation(
    name="list_history",
    key=f"GET {_TASK}/history",
    summary="List every change of a task, and every report that changed nothing with its verdict",
    scope=Scope.READ,
    query=HistoryQuery,
    responses={HTTPStatus.OK: HistoryList},
    problems=_MISSING,
    body_route=_READ_HISTORY,
)
LIST_NAMED_HISTORY: Final = Operation(
    name="list_named_history",
    key=_READ_HISTORY,
    summary="List the history of a task whose id cannot stand in a path",
    scope=Scope.READ,
    request=NamedHistoryBody,
    responses={HTTPStatus.OK: HistoryList},
    problems=_MISSING,
)
