"""Translation between Cognite's workflows and the domain.

A definition is stored as the platform shows it, with all defaults filled in; the tasks of a run are created from it.
"""

import json
from collections.abc import Callable
from hashlib import sha256

from tasklatch.api.body import validate
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.domain.workflow_definition import Workflow, WorkflowVersion
from tasklatch.platforms.cognite.definitions.models import VersionView, WorkflowView
from tasklatch.platforms.cognite.definitions.task_models import DefinitionBody, DefinitionView

VersionReader = Callable[[str, str, str], WorkflowVersion]
"""Function of a tenant, the external id of a workflow, and a version; raises `NotFoundError` if there is none."""


def run_definitions(version: WorkflowVersion, read_version: VersionReader) -> list[TaskDefinition]:
    """Return the definitions of a run's tasks; a subworkflow that is named has the tasks that its version has now.

    Parameters
    ----------
    read_version
        Reads a version of a workflow of a tenant.

    Raises
    ------
    NotFoundError
        If the version of a subworkflow does not exist.
    DuplicateNameError, InvalidRequestError, PayloadTooLargeError
        If the tasks do not fit together, or cannot be stored.
    """
    definition = json.loads(version.definition)
    for task in definition["tasks"]:
        subworkflow = task["parameters"].get("subworkflow") if task["type"] == "subworkflow" else None
        if subworkflow is not None and "tasks" not in subworkflow:
            embedded = read_version(version.tenant, subworkflow["workflowExternalId"], subworkflow["version"])
            subworkflow["tasks"] = json.loads(embedded.definition)["tasks"]
    return validate(DefinitionBody, definition, "workflowDefinition").definitions()


def workflow_view(workflow: Workflow) -> WorkflowView:
    """Return the view of a workflow."""
    view: WorkflowView = {
        "externalId": workflow.external_id,
        "createdTime": workflow.created_at,
        "lastUpdatedTime": workflow.updated_at,
    }
    if workflow.description is not None:
        view["description"] = workflow.description
    if workflow.data_set_id is not None:
        view["dataSetId"] = workflow.data_set_id
    if workflow.max_concurrent_executions is not None:
        view["maxConcurrentExecutions"] = workflow.max_concurrent_executions
    return view


def definition_view(text: str) -> DefinitionView:
    """Return the view of a definition that is stored as JSON text."""
    definition: DefinitionView = json.loads(text)
    return {**definition, "hash": sha256(text.encode()).hexdigest()[:32]}


def version_view(version: WorkflowVersion) -> VersionView:
    """Return the view of a version."""
    return {
        "workflowExternalId": version.external_id,
        "version": version.version,
        "createdTime": version.created_at,
        "lastUpdatedTime": version.updated_at,
        "workflowDefinition": definition_view(version.definition),
    }
