"""What those who define work in Cognite Data Fusion's words call: workflows and their versions."""

from tasklatch.aws.clients import dynamodb
from tasklatch.aws.definitions import Definitions
from tasklatch.aws.patience import Patience
from tasklatch.clock import system_clock
from tasklatch.http import cognite_definition_contract as contract
from tasklatch.http.routes import Answer, Call, Routes, page_answer
from tasklatch.settings import settings

routes = Routes()
handler = routes.serve


@routes.serves(contract.UPSERT_WORKFLOWS)
def upsert_workflows(call: Call) -> Answer:
    definitions = _definitions(call)
    made = [
        definitions.put_workflow(call.tenant, body.externalId, description=body.description, data_set_id=body.dataSetId)
        for body in call.checked_body(contract.WorkflowsBody).checked()
    ]
    return Answer({"items": [contract.workflow_view(workflow) for workflow in made]})


@routes.serves(contract.LIST_WORKFLOWS)
def list_workflows(call: Call) -> Answer:
    query = call.checked_query(contract.WorkflowsQuery)
    found, cursor = _definitions(call).list_workflows(call.tenant, limit=query.page, cursor=query.cursor)
    return page_answer([contract.workflow_view(workflow) for workflow in found], cursor)


@routes.serves(contract.GET_WORKFLOW)
def get_workflow(call: Call) -> Answer:
    return Answer(contract.workflow_view(_definitions(call).workflow(call.tenant, call.path["workflowExternalId"])))


@routes.serves(contract.DELETE_WORKFLOWS)
def delete_workflows(call: Call) -> Answer:
    query, names = call.checked_query(contract.DeleteQuery), call.checked_body(contract.WorkflowNames).names()
    _definitions(call).delete_workflows(call.tenant, names, ignore_unknown=query.ignoreUnknownIds)
    return Answer({})


@routes.serves(contract.UPSERT_VERSIONS)
def upsert_versions(call: Call) -> Answer:
    bodies = call.checked_body(contract.VersionsBody).checked()
    texts = [(body, body.definition_text()) for body in bodies]
    definitions = _definitions(call)
    made = [definitions.put_version(call.tenant, body.workflowExternalId, body.version, text) for body, text in texts]
    return Answer({"items": [contract.version_view(version) for version in made]})


@routes.serves(contract.LIST_VERSIONS)
def list_versions(call: Call) -> Answer:
    body = call.checked_body(contract.VersionsListBody)
    found, cursor = _definitions(call).list_versions(call.tenant, body.wanted(), limit=body.page, cursor=body.cursor)
    return page_answer([contract.version_view(version) for version in found], cursor)


@routes.serves(contract.GET_VERSION)
def get_version(call: Call) -> Answer:
    version = _definitions(call).version(call.tenant, call.path["workflowExternalId"], call.path["version"])
    return Answer(contract.version_view(version))


@routes.serves(contract.DELETE_VERSIONS)
def delete_versions(call: Call) -> Answer:
    query, names = call.checked_query(contract.DeleteQuery), call.checked_body(contract.NamedVersions).names()
    _definitions(call).delete_versions(call.tenant, names, ignore_unknown=query.ignoreUnknownIds)
    return Answer({})


def _definitions(call: Call) -> Definitions:
    return Definitions(dynamodb(), settings(), system_clock, Patience(call.remaining_ms))
