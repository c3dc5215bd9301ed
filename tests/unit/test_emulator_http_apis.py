"""The local cloud's import of an HTTP API, of the very definition that SAM makes of the template."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from ministack.services import apigateway
from ministack.services.cloudformation import provisioners

from local.cloud.emulator_http_apis import API_TYPE, CORS, HttpApiBodies
from tests.template.template import http_api_definition, http_routes

UNMET: Final = {"FleetsHaveClients"}
"""Conditions that do not hold here."""


def resolved(value: Any) -> Any:
    """Do as CloudFormation does before it hands a property over: functions become what they give."""
    if isinstance(value, list):
        return [resolved(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "Fn::If" in value:
        condition, chosen, otherwise = value["Fn::If"]
        return resolved(otherwise if condition in UNMET else chosen)
    if "Fn::Sub" in value:
        return re.sub(r"\$\{(\w+)\.Arn\}", r"arn:aws:lambda:us-east-1:000000000000:function:\1", value["Fn::Sub"])
    return value.get("Ref") or {name: resolved(item) for name, item in value.items()}


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the emulator calls for an API of a stack, mended."""
    patched = dict(provisioners._RESOURCE_HANDLERS[API_TYPE])
    monkeypatch.setitem(provisioners._RESOURCE_HANDLERS, API_TYPE, patched)
    HttpApiBodies().install()
    yield patched
    apigateway.reset()


def stored(api_id: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the routes of an API by their keys, its integrations and its authorizers by their ids."""
    routes = {route["routeKey"]: route for route in apigateway._routes[api_id].values()}
    return routes, apigateway._integrations[api_id], apigateway._authorizers[api_id]


def test_every_route_leads_to_its_function_and_asks_for_its_scope(handlers: dict[str, Any]) -> None:
    # when
    api_id, attributes = handlers["create"]("ServerlessHttpApi", {"Body": resolved(http_api_definition())}, "tasklatch")

    # then
    routes, integrations, authorizers = stored(api_id)
    assert attributes["ApiId"] == api_id
    assert set(routes) == set(http_routes())
    for key, route in http_routes().items():
        integration = integrations[routes[key]["target"].removeprefix("integrations/")]
        assert integration["integrationUri"].endswith(f":function:{route.function}/invocations")
        assert (integration["integrationType"], integration["payloadFormatVersion"]) == ("AWS_PROXY", "2.0")
        if route.authorizer is None:
            assert routes[key]["authorizationType"] == "NONE"
        else:
            assert routes[key]["authorizationType"] == "JWT"
            assert authorizers[routes[key]["authorizerId"]]["name"] == route.authorizer
            assert routes[key]["authorizationScopes"] == list(route.scopes)


def test_tokens_are_checked_by_issuer_and_audience(handlers: dict[str, Any]) -> None:
    api_id, _ = handlers["create"]("ServerlessHttpApi", {"Body": resolved(http_api_definition())}, "tasklatch")

    [authorizer] = stored(api_id)[2].values()
    assert authorizer["authorizerType"] == "JWT"
    assert authorizer["identitySource"] == ["$request.header.Authorization"]
    assert authorizer["jwtConfiguration"] == {
        "issuer": "https://${UserPool.ProviderName}",
        "audience": ["WorkerClient", "ReaderClient", "OperatorClient"],
    }


def test_browsers_are_let_in_as_the_definition_says_and_no_longer_than_it_does(handlers: dict[str, Any]) -> None:
    # given
    body = resolved(http_api_definition()) | {CORS: {"allowOrigins": ["https://app.example.com"]}}
    without = {name: part for name, part in body.items() if name != CORS}

    # when
    api_id, _ = handlers["create"]("ServerlessHttpApi", {"Body": body}, "tasklatch")
    created = apigateway._apis[api_id]["corsConfiguration"]
    handlers["update"](api_id, {"Body": body}, {"Body": without}, "tasklatch")

    # then
    assert created == {"allowOrigins": ["https://app.example.com"]}
    assert apigateway._apis[api_id]["corsConfiguration"] == {}


def test_an_update_leaves_nothing_of_the_old_definition(handlers: dict[str, Any]) -> None:
    # given
    before = {"Body": resolved(http_api_definition())}
    api_id, _ = handlers["create"]("ServerlessHttpApi", before, "tasklatch")
    after = copy.deepcopy(before)
    del after["Body"]["paths"]["/v1/docs"]

    # when
    updated, _ = handlers["update"](api_id, before, after, "tasklatch", logical_id="ServerlessHttpApi")

    # then
    routes, integrations, authorizers = stored(api_id)
    assert updated == api_id
    assert set(routes) == set(http_routes()) - {"GET /v1/docs"}
    assert len(integrations) == len(routes)
    assert len(authorizers) == 1


def test_an_api_without_a_definition_is_made_as_before(handlers: dict[str, Any]) -> None:
    api_id, _ = handlers["create"]("LiveApi", {"Name": "live", "ProtocolType": "WEBSOCKET"}, "tasklatch")

    assert apigateway._apis[api_id]["name"] == "live"
    assert apigateway._routes[api_id] == {}


@pytest.mark.parametrize(
    ("index", "name"),
    [
        ([], "x-amazon-apigateway-importexport-version"),
        (["paths", "/v1/docs", "get"], "x-amazon-apigateway-request-validator"),
        (["paths", "/v1/docs", "get", "x-amazon-apigateway-integration"], "timeoutInMillis"),
        (["components", "securitySchemes", "access-token", "x-amazon-apigateway-authorizer"], "enableSimpleResponses"),
    ],
)
def test_what_the_import_does_not_understand_is_refused(handlers: dict[str, Any], index: list[str], name: str) -> None:
    # given
    body = json.loads(json.dumps(resolved(http_api_definition())))
    part = body
    for step in index:
        part = part[step]
    part[name] = {}

    # when
    with pytest.raises(ValueError, match=name) as refused:
        handlers["create"]("ServerlessHttpApi", {"Body": body}, "tasklatch")

    # then
    assert "does not import" in str(refused.value)
