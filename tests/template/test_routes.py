"""What API Gateway lets through to a function is what the function's code declares: the route, and the scope for it."""

from typing import Any

from local.handlers import load_handler
from tasklatch.http.routes import Routes
from tests.template.template import functions, resources, target

Known = dict[str, tuple[str, str | None]]


def _of_http_api(kind: str) -> dict[str, Any]:
    return {name: it for name, it in resources(kind).items() if target(it["ApiId"]) == "HttpApi"}


def _deployed() -> Known:
    """Give each route of the template with the function that it leads to and the one scope that it asks for."""
    names = {id(it): name for name, it in functions().items()}
    behind = {
        name: names[id(resources("AWS::Lambda::Function")[target(it["IntegrationUri"])])]
        for name, it in _of_http_api("AWS::ApiGatewayV2::Integration").items()
    }
    found: Known = {}
    for it in _of_http_api("AWS::ApiGatewayV2::Route").values():
        integration = it["Target"]["Fn::Sub"].removeprefix("integrations/${").removesuffix("}")
        scopes = it.get("AuthorizationScopes", [None])
        assert len(scopes) == 1
        assert (it["AuthorizationType"] == "JWT") == (scopes != [None])
        found[it["RouteKey"]] = behind[integration], scopes[0]
    return found


def _declared() -> Known:
    """Give each operation that a function's code serves, with its scope."""
    found: Known = {}
    for function in functions():
        routes = getattr(load_handler(function), "routes", None)
        if isinstance(routes, Routes):
            for key, operation in routes.operations.items():
                found[key] = function, operation.scope.value if operation.scope else None
    return found


def test_each_route_leads_to_the_function_that_serves_it_and_asks_for_the_scope_that_it_declares() -> None:
    declared = _declared()

    assert declared
    assert _deployed() == declared


def test_nothing_but_what_the_service_is_can_be_asked_without_a_token() -> None:
    open_to_all = {key for key, (_, scope) in _deployed().items() if scope is None}

    assert open_to_all == {"GET /v1/health", "GET /v1/openapi.json", "GET /v1/docs"}
