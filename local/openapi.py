"""The API description in OpenAPI 3.1, generated from the routes and their models."""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from tasklatch.api.ids import ExecutionId, PathParameter, QueueName
from tasklatch.api.messages import JSON
from tasklatch.api.operation import Operation

_REF: Final = "#/components/schemas/{model}"
_WITH_TOKEN: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE)
_WITH_BODY: Final = (
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
_ANY_ROUTE: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
"""Statuses that API Gateway itself returns if the requests exceed its limits or Lambda's."""

_GATEWAY_ERROR: Final = {"type": "object", "properties": {"message": {"type": "string"}}}
"""Schema of API Gateway's own error responses."""

_PATH_TYPES: Final[Mapping[str, Any]] = {
    "executionId": ExecutionId,
    "taskId": PathParameter,
    "queue": QueueName,
    "flow_execution_id": ExecutionId,
    "project": PathParameter,
    "workflowExternalId": PathParameter,
    "version": PathParameter,
    "scheduleId": PathParameter,
    "externalId": PathParameter,
}
_CONTRACTS: Final = {"/forge/": "Forge", "/api/v1/projects/": "Cognite", "/api/": "SuperAI"}
_HEADER_NOTES: Final = {
    "Idempotency-Key": "Names this request: sent again with it, it gives the same execution; another body is refused.",
    "If-None-Match": "The `ETag` of a copy: while that is current, the response is 304, without a body.",
}


def describe(operations: Iterable[Operation], *, version: str, extra: Iterable[type[BaseModel]] = ()) -> dict[str, Any]:
    """Generate the OpenAPI document.

    Parameters
    ----------
    version
        Version of this API.
    extra
        Models that other models refer to only by name.
    """
    operations = list(operations)
    schemas = _Schemas(operations, extra)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        method, _, path = operation.key.partition(" ")
        paths.setdefault(path, {})[method.lower()] = _describe_operation(operation, path, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tasklatch",
            "version": version,
            "summary": "A task-status service in which a success, once recorded, is final.",
        },
        # Relative to the document and its page, so that it is the base of the routes on any host and stage
        "servers": [{"url": ".."}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


class _Schemas:
    """The JSON schemas of all models, each generated once and referred to by name."""

    def __init__(self, operations: Iterable[Operation], extra: Iterable[type[BaseModel]]) -> None:
        adapters: dict[tuple[Any, JsonSchemaMode], TypeAdapter[Any]] = {}
        for operation in operations:
            if operation.request is not None:
                adapters[operation.request, "validation"] = TypeAdapter(operation.request)
            for response in (*operation.responses.values(), operation.error_format.body):
                if response is not None:
                    adapters[_hashable(response), "serialization"] = TypeAdapter(response)
        for model in extra:
            adapters[model, "validation"] = TypeAdapter(model)
        self._schemas, definitions = TypeAdapter.json_schemas(
            [(key, key[1], adapter) for key, adapter in adapters.items()],
            ref_template=_REF,
        )
        self.components: dict[str, Any] = definitions.get("$defs", {})

    def schema_for(self, kind: Any, mode: JsonSchemaMode) -> dict[str, Any]:
        return self._schemas[(_hashable(kind), mode), mode]


def _hashable(kind: Any) -> Any:
    return kind if isinstance(kind, type) else str(kind)


def _tag(operation: Operation) -> str:
    """Return the group of an operation: its contract or, in the native contract, the scope of its token."""
    contract = next((name for prefix, name in _CONTRACTS.items() if f" {prefix}" in operation.key), None)
    return contract or (operation.scope.value.removeprefix("tasklatch/") if operation.scope else "open")


def _describe_operation(operation: Operation, path: str, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [_tag(operation)],
        "summary": operation.summary,
        "parameters": _parameters(operation, path),
        "responses": _responses(operation, schemas),
    }
    if operation.request is not None:
        schema = schemas.schema_for(operation.request, "validation")
        # An empty body counts as an empty object
        required = any(field.is_required() for field in operation.request.model_fields.values())
        described["requestBody"] = {"required": required, "content": {JSON: {"schema": schema}}}
    # OpenAPI 3.1 allows scopes here for a bearer token
    described["security"] = [{"token": [operation.scope.value]}] if operation.scope else []
    return {key: value for key, value in described.items() if value != [] or key == "security"}


def _parameters(operation: Operation, path: str) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": TypeAdapter(_PATH_TYPES[name]).json_schema()}
        for name in re.findall(r"{(\w+)}", path)
    ]
    if operation.query is not None:
        schema = operation.query.model_json_schema(ref_template=_REF)
        needed = schema.get("required", [])
        parameters += [
            {"name": name, "in": "query", "required": name in needed, "schema": property_schema}
            for name, property_schema in schema["properties"].items()
        ]
    parameters += [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": _HEADER_NOTES[name],
            "schema": {"type": "string"},
        }
        for name in operation.headers
    ]
    return parameters


def _responses(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    request_id = {"X-Request-ID": {"schema": {"type": "string"}, "description": "Names this request in the logs."}}
    responses: dict[str, Any] = {}
    for status, kind in operation.responses.items():
        if kind is None:
            responses[str(status.value)] = {"description": status.phrase, "headers": request_id}
            continue
        media_type = JSON if kind is not str else "text/html"
        responses[str(status.value)] = {
            "description": status.phrase,
            "headers": request_id,
            "content": {media_type: {"schema": schemas.schema_for(kind, "serialization")}},
        }
    problems = set(operation.problems)
    if operation.scope is not None:
        # An operation that needs a token also needs the table, which can be busy: hence 503
        problems.update(_WITH_TOKEN)
    if operation.request is not None:
        problems.update(_WITH_BODY)
    if operation.query is not None or "{" in operation.key:
        problems.add(HTTPStatus.UNPROCESSABLE_ENTITY)
    problems.add(HTTPStatus.INTERNAL_SERVER_ERROR)
    error_format = operation.error_format
    for status in sorted(map(error_format.status, problems)):
        schema = schemas.schema_for(error_format.body, "serialization")
        content: dict[str, Any] = {error_format.media_type: {"schema": schema}}
        if status in _WITH_TOKEN:
            # API Gateway's authorizer or limits return these before any function runs
            content[JSON] = {
                "schema": {"anyOf": [schema, _GATEWAY_ERROR]} if error_format.media_type == JSON else _GATEWAY_ERROR
            }
        responses[str(status.value)] = {"description": status.phrase, "content": content}
    for status in _ANY_ROUTE:
        gateway_response = {"description": status.phrase, "content": {JSON: {"schema": _GATEWAY_ERROR}}}
        responses.setdefault(str(status.value), gateway_response)
    return responses
