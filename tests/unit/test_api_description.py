"""The API description: what is committed is what the code serves, and it is a valid OpenAPI 3.1 document."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from aws_lambda_powertools.event_handler.openapi.models import OpenAPI

from local.describe import DESCRIPTION, description_text
from local.handlers import load_handler
from tasklatch.api.v1.reports.models import BatchedReportBody, ReportBody
from tests.api_description import check_schemas, description
from tests.factories import api_event, call_api

METHODS = {"get", "post", "put", "delete", "patch"}


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for item in node.values():
            yield from nodes(item)
    elif isinstance(node, list):
        for item in node:
            yield from nodes(item)


def operations() -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in description()["paths"].items()
        for method, operation in methods.items()
    }


def test_committed_description_is_made_from_this_code() -> None:
    assert DESCRIPTION.read_text() == description_text(), "make it anew: python -m local describe"


def test_description_is_openapi_3_1() -> None:
    assert description()["openapi"].startswith("3.1")
    OpenAPI.model_validate(description())
    for path, methods in description()["paths"].items():
        assert path.startswith("/")
        assert set(methods) <= METHODS


def test_every_schema_is_valid_and_every_reference_leads_somewhere() -> None:
    document = description()
    schemas = document["components"]["schemas"]
    check_schemas()
    referred = {node["$ref"] for node in nodes(document) if "$ref" in node}
    assert referred == {f"#/components/schemas/{name}" for name in schemas}, "none missing, none left over"


def test_operations_have_names_of_their_own_and_say_what_they_do() -> None:
    result = operations().values()
    assert len({item["operationId"] for item in result}) == len(result)
    assert all(element["summary"] for element in result)


def test_path_parameters_are_described() -> None:
    for key, operation in operations().items():
        described = [item["name"] for item in operation.get("parameters", []) if item["in"] == "path"]
        assert described == re.findall(r"{(\w+)}", key)


def test_all_but_the_description_itself_needs_a_scope() -> None:
    free = {key for key, operation in operations().items() if not operation["security"]}
    assert free == {"GET /v1/health", "GET /v1/openapi.json", "GET /v1/docs"}
    for key in set(operations()) - free:
        operation = operations()[key]
        ((scheme, scopes),) = operation["security"][0].items()
        assert scheme in description()["components"]["securitySchemes"]
        assert len(scopes) == 1
        assert {"401", "403"} <= set(operation["responses"])


def test_errors_are_described_as_problems_in_the_native_contract_and_in_json_elsewhere() -> None:
    for key, operation in operations().items():
        media_type = "application/problem+json" if " /v1/" in key else "application/json"
        for status, response in operation["responses"].items():
            if status.startswith(("4", "5")) and operation["security"] and status != "429":
                assert media_type in response["content"], key


def test_what_api_gateway_answers_alone_is_described_everywhere() -> None:
    for key, operation in operations().items():
        for status in ("429", "503", *(("401", "403") if operation["security"] else ())):
            assert "application/json" in operation["responses"][status]["content"], (key, status)


@pytest.mark.parametrize(
    ("key", "required"),
    [
        ("POST /v1/executions", True),
        ("POST /v1/executions/{executionId}/cancel", False),
        ("POST /v1/executions/{executionId}/tasks/{taskId}/heartbeat", False),
    ],
)
def test_body_that_may_say_nothing_need_not_be_there(key: str, required: bool) -> None:
    assert operations()[key]["requestBody"]["required"] is required


def test_batched_report_is_a_report_with_a_task() -> None:
    alone, batched = set(ReportBody.model_fields), set(BatchedReportBody.model_fields)
    assert batched - alone == {"taskId"}


def test_description_is_served_as_it_is_and_the_page_is_swagger_ui() -> None:
    handler = load_handler("api_description").handler
    assert call_api(handler, api_event("GET /v1/openapi.json")).text == DESCRIPTION.read_text()
    page = call_api(handler, api_event("GET /v1/docs"))
    assert page.headers["content-type"].startswith("text/html")
    assert "SwaggerUIBundle" in page.text


@pytest.mark.parametrize("name", ["ReportBody", "ExecutionBody", "HeartbeatBody", "TasksBody"])
def test_requests_allow_no_unknown_field(name: str) -> None:
    assert description()["components"]["schemas"][name]["additionalProperties"] is False
