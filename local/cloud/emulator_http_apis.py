"""Emulator patch: import an HTTP API from its OpenAPI definition, as API Gateway does.

SAM writes the routes of an HTTP API into the `Body` of its resource. ministack 1.5 ignores the body: its API has
neither routes nor an authorizer, and returns 404 to every request. This patch imports the body. It supports the parts
of OpenAPI that SAM generates from this project's template; any other part is an error.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from ministack.services import apigateway
from ministack.services.cloudformation import provisioners

API_TYPE: Final = "AWS::ApiGatewayV2::Api"
INTEGRATION: Final = "x-amazon-apigateway-integration"
AUTHORIZER: Final = "x-amazon-apigateway-authorizer"
CORS: Final = "x-amazon-apigateway-cors"
OPEN: Final = "NONE"
# Parameters, responses and tags are accepted without import: they change no response
DEFINITION_KEYS: Final = {"openapi", "info", "paths", "components", "tags", CORS}
OPERATION_KEYS: Final = {INTEGRATION, "security", "parameters", "responses"}
INTEGRATION_KEYS: Final = {"type", "httpMethod", "uri", "payloadFormatVersion"}
AUTHORIZER_KEYS: Final = {"type", "identitySource", "jwtConfiguration"}

Definition = Mapping[str, Any]
# Physical id of a resource, and its GetAtt values
Created = tuple[str, dict[str, Any]]


class HttpApiImport:
    """Import of an OpenAPI definition: replaces the routes, integrations and authorizers of an API."""

    def __init__(self, api_id: str, definition: Definition) -> None:
        self._api_id = api_id
        self._definition = definition

    def run(self) -> None:
        """Import the definition.

        Raises
        ------
        ValueError
            If the definition has a part that this import does not support.
        """
        _refuse_unknown(self._definition, DEFINITION_KEYS, "definition")
        for store in (apigateway._routes, apigateway._integrations, apigateway._authorizers):  # noqa: SLF001
            store[self._api_id] = {}
        api = apigateway._apis[self._api_id]  # noqa: SLF001
        api["name"] = self._definition["info"]["title"]
        api["corsConfiguration"] = dict(self._definition.get(CORS, {}))
        schemes = self._definition.get("components", {}).get("securitySchemes", {})
        authorizers = {name: self._create_authorizer(name, scheme[AUTHORIZER]) for name, scheme in schemes.items()}
        for path, operations in self._definition["paths"].items():
            for method, operation in operations.items():
                self._create_route(f"{method.upper()} {path}", operation, authorizers)

    def _create_authorizer(self, name: str, authorizer: Definition) -> str:
        _refuse_unknown(authorizer, AUTHORIZER_KEYS, f"authorizer {name}")
        if authorizer["type"] != "jwt":
            raise ValueError(f"authorizer {name} is none for tokens: {authorizer['type']}")
        attributes = {
            "Name": name,
            "AuthorizerType": "JWT",
            "IdentitySource": [authorizer["identitySource"]],
            "JwtConfiguration": {key.capitalize(): value for key, value in authorizer["jwtConfiguration"].items()},
        }
        return self._create(provisioners._apigw_v2_authorizer_create, name, attributes)  # noqa: SLF001

    def _create_route(self, route_key: str, operation: Definition, authorizers: Mapping[str, str]) -> None:
        _refuse_unknown(operation, OPERATION_KEYS, route_key)
        integration = operation[INTEGRATION]
        _refuse_unknown(integration, INTEGRATION_KEYS, f"integration of {route_key}")
        integration_id = self._create(
            provisioners._apigw_v2_integration_create,  # noqa: SLF001
            route_key,
            {
                "IntegrationType": integration["type"].upper(),
                "IntegrationMethod": integration["httpMethod"],
                "IntegrationUri": integration["uri"],
                "PayloadFormatVersion": integration["payloadFormatVersion"],
            },
        )
        route = {"RouteKey": route_key, "Target": f"integrations/{integration_id}"}
        self._create(
            provisioners._apigw_v2_route_create,  # noqa: SLF001
            route_key,
            route | _authorization(operation.get("security", []), authorizers),
        )

    def _create(self, create: Callable[..., Created], name: str, properties: dict[str, Any]) -> str:
        return create(name, {"ApiId": self._api_id, **properties}, "")[0]


def import_http_apis() -> None:
    """Patch the emulator to import the body of each HTTP API that a stack creates or updates."""
    handlers = provisioners._RESOURCE_HANDLERS[API_TYPE]  # noqa: SLF001 - it has no other place for this
    create, update = handlers["create"], handlers["update"]

    def create_and_import(logical_id: str, properties: dict[str, Any], stack_name: str) -> Created:
        return _imported(create(logical_id, properties, stack_name), properties)

    def update_and_import(
        physical_id: str, old: dict[str, Any], new: dict[str, Any], *more: Any, **kwargs: Any
    ) -> Created:
        return _imported(update(physical_id, old, new, *more, **kwargs), new)

    handlers |= {"create": create_and_import, "update": update_and_import}


def _imported(created: Created, properties: Mapping[str, Any]) -> Created:
    if "Body" in properties:
        HttpApiImport(created[0], properties["Body"]).run()
    return created


def _authorization(security: list[Mapping[str, list[str]]], authorizers: Mapping[str, str]) -> dict[str, Any]:
    """Return a route's authorization: an authorizer with scopes, or none, which SAM writes as `NONE`."""
    requirements = [pair for requirement in security for pair in requirement.items()]
    if not requirements or requirements == [(OPEN, [])]:
        return {"AuthorizationType": OPEN}
    [(name, scopes)] = requirements
    return {"AuthorizationType": "JWT", "AuthorizerId": authorizers[name], "AuthorizationScopes": scopes}


def _refuse_unknown(part: Mapping[str, Any], understood: set[str], name: str) -> None:
    if unknown := sorted(part.keys() - understood):
        raise ValueError(f"the local cloud does not import {', '.join(unknown)} of {name}")
