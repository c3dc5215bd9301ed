"""Operations on Cognite's workflows and their versions."""

from http import HTTPStatus
from typing import Final

from tasklatch.api.authorization import Scope
from tasklatch.platforms.cognite.definitions.models import (
    DeleteQuery,
    EmptyObject,
    VersionListView,
    VersionRefs,
    VersionsBody,
    VersionsListBody,
    VersionView,
    WorkflowListView,
    WorkflowRefs,
    WorkflowsBody,
    WorkflowsQuery,
    WorkflowView,
)
from tasklatch.platforms.cognite.operations import PROJECT, project_operation

_WORKFLOWS: Final = f"{PROJECT}/workflows"
_VERSIONS: Final = f"{_WORKFLOWS}/versions"
_MISSING: Final = (HTTPStatus.NOT_FOUND,)

UPSERT_WORKFLOWS: Final = project_operation(
    name="cognite_upsert_workflows",
    key=f"POST {_WORKFLOWS}",
    summary="Create or replace workflows",
    scope=Scope.MANAGE,
    request=WorkflowsBody,
    responses={HTTPStatus.OK: WorkflowListView},
    problems=(HTTPStatus.CONFLICT,),
)
LIST_WORKFLOWS: Final = project_operation(
    name="cognite_list_workflows",
    key=f"GET {_WORKFLOWS}",
    summary="List workflows",
    scope=Scope.READ,
    query=WorkflowsQuery,
    responses={HTTPStatus.OK: WorkflowListView},
)
GET_WORKFLOW: Final = project_operation(
    name="cognite_get_workflow",
    key=f"GET {_WORKFLOWS}/{{workflowExternalId}}",
    summary="Show a workflow",
    scope=Scope.READ,
    responses={HTTPStatus.OK: WorkflowView},
    problems=_MISSING,
)
DELETE_WORKFLOWS: Final = project_operation(
    name="cognite_delete_workflows",
    key=f"POST {_WORKFLOWS}/delete",
    summary="Delete workflows with their versions; refused while one of them runs",
    scope=Scope.MANAGE,
    request=WorkflowRefs,
    query=DeleteQuery,
    responses={HTTPStatus.OK: EmptyObject},
    problems=(*_MISSING, HTTPStatus.CONFLICT),
)
UPSERT_VERSIONS: Final = project_operation(
    name="cognite_upsert_versions",
    key=f"POST {_VERSIONS}",
    summary="Create or replace versions of workflows",
    scope=Scope.MANAGE,
    request=VersionsBody,
    responses={HTTPStatus.OK: VersionListView},
    problems=(HTTPStatus.CONFLICT,),
)
LIST_VERSIONS: Final = project_operation(
    name="cognite_list_versions",
    key=f"POST {_VERSIONS}/list",
    summary="List versions of workflows",
    scope=Scope.READ,
    request=VersionsListBody,
    responses={HTTPStatus.OK: VersionListView},
)
GET_VERSION: Final = project_operation(
    name="cognite_get_version",
    key=f"GET {_WORKFLOWS}/{{workflowExternalId}}/versions/{{version}}",
    summary="Show a version of a workflow",
    scope=Scope.READ,
    responses={HTTPStatus.OK: VersionView},
    problems=_MISSING,
)
DELETE_VERSIONS: Final = project_operation(
    name="cognite_delete_versions",
    key=f"POST {_VERSIONS}/delete",
    summary="Delete versions of workflows; refused while one of them runs",
    scope=Scope.MANAGE,
    request=VersionRefs,
    query=DeleteQuery,
    responses={HTTPStatus.OK: EmptyObject},
    problems=(*_MISSING, HTTPStatus.CONFLICT),
)
