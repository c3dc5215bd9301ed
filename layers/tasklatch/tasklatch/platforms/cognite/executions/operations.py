"""Operations on Cognite's sessions, workflow executions and tasks."""

from http import HTTPStatus
from typing import Final

from tasklatch.api.authorization import Scope
from tasklatch.platforms.cognite.errors import UNKNOWN_IS_BAD_REQUEST
from tasklatch.platforms.cognite.executions.models import (
    RunBody,
    SessionListView,
    SessionsBody,
    TaskExecutionView,
    TaskUpdateBody,
    WorkflowCancelBody,
    WorkflowExecutionDetailView,
    WorkflowExecutionListView,
    WorkflowExecutionsListBody,
    WorkflowExecutionView,
    WorkflowRetryBody,
)
from tasklatch.platforms.cognite.operations import PROJECT, project_operation

_EXECUTIONS: Final = f"{PROJECT}/workflows/executions"
_EXECUTION: Final = f"{_EXECUTIONS}/{{executionId}}"
_MISSING: Final = (HTTPStatus.NOT_FOUND,)

CREATE_SESSIONS: Final = project_operation(
    name="cognite_create_sessions",
    key=f"POST {PROJECT}/sessions",
    summary="Make sessions, whose nonces name runs of workflows",
    scope=Scope.MANAGE,
    request=SessionsBody,
    responses={HTTPStatus.OK: SessionListView},
)
RUN_WORKFLOW: Final = project_operation(
    name="cognite_run_workflow",
    key=f"POST {PROJECT}/workflows/{{workflowExternalId}}/versions/{{version}}/run",
    summary="Run a version of a workflow; again with the same nonce, it is the same execution",
    scope=Scope.MANAGE,
    request=RunBody,
    responses={HTTPStatus.OK: WorkflowExecutionView},
    problems=(*_MISSING, HTTPStatus.CONFLICT),
)
LIST_EXECUTIONS: Final = project_operation(
    name="cognite_list_executions",
    key=f"POST {_EXECUTIONS}/list",
    summary="List workflow executions, newest first",
    scope=Scope.READ,
    request=WorkflowExecutionsListBody,
    responses={HTTPStatus.OK: WorkflowExecutionListView},
)
GET_EXECUTION: Final = project_operation(
    name="cognite_get_execution",
    key=f"GET {_EXECUTION}",
    summary="Show a workflow execution with its definition and its tasks",
    scope=Scope.READ,
    responses={HTTPStatus.OK: WorkflowExecutionDetailView},
    problems=_MISSING,
    error_format=UNKNOWN_IS_BAD_REQUEST,
)
CANCEL_EXECUTION: Final = project_operation(
    name="cognite_cancel_execution",
    key=f"POST {_EXECUTION}/cancel",
    summary="Cancel a workflow execution; its open tasks are cancelled",
    scope=Scope.MANAGE,
    request=WorkflowCancelBody,
    responses={HTTPStatus.OK: WorkflowExecutionView},
    problems=(*_MISSING, HTTPStatus.CONFLICT),
)
RETRY_EXECUTION: Final = project_operation(
    name="cognite_retry_execution",
    key=f"POST {_EXECUTION}/retry",
    summary="Give what failed or was cancelled in a workflow execution one more attempt each",
    scope=Scope.MANAGE,
    request=WorkflowRetryBody,
    responses={HTTPStatus.OK: WorkflowExecutionView},
    problems=(*_MISSING, HTTPStatus.CONFLICT),
)
UPDATE_TASK: Final = project_operation(
    name="cognite_update_task",
    key=f"POST {PROJECT}/workflows/tasks/{{taskId}}/update",
    summary="Report how one attempt at a workflow's task ended",
    scope=Scope.REPORT,
    request=TaskUpdateBody,
    responses={HTTPStatus.OK: TaskExecutionView},
    problems=_MISSING,
)
