"""What API Gateway lets through to a function is what the function's code declares: the route, and the scope for it."""

from local.handlers import load_handler
from tasklatch.api.app import HttpApp
from tests.template.template import functions, http_routes, resources

FunctionAndScope = tuple[str, str | None]


def _deployed() -> dict[str, FunctionAndScope]:
    """Return each route of the template with the function that it leads to and the one scope that it asks for."""
    names = {id(function): name for name, function in functions().items()}
    deployed: dict[str, FunctionAndScope] = {}
    for key, route in http_routes().items():
        assert len(route.scopes) == (0 if route.authorizer is None else 1)
        function = names[id(resources("AWS::Lambda::Function")[route.function])]
        deployed[key] = function, route.scopes[0] if route.scopes else None
    return deployed


def _declared() -> dict[str, FunctionAndScope]:
    """Return each operation that a function's code serves, with its scope."""
    declared: dict[str, FunctionAndScope] = {}
    for function in functions():
        routes = getattr(load_handler(function), "app", None)
        if isinstance(routes, HttpApp):
            for key, operation in routes.operations.items():
                declared[key] = function, operation.scope.value if operation.scope else None
    return declared


def test_each_route_leads_to_the_function_that_serves_it_and_asks_for_the_scope_that_it_declares() -> None:
    declared = _declared()

    assert declared
    assert _deployed() == declared


def test_nothing_but_what_the_service_is_can_be_asked_without_a_token() -> None:
    open_to_all = {key for key, (_, scope) in _deployed().items() if scope is None}

    assert open_to_all == {"GET /v1/health", "GET /v1/openapi.json", "GET /v1/docs"}
