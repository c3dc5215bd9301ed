"""What the SAM CLI makes of the template as it is: what `sam local invoke` can run, `sam local start-api` serve."""

from typing import Any, Final

import pytest
from samcli.lib.providers.api_provider import ApiProvider
from samcli.lib.providers.sam_function_provider import SamFunctionProvider
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider

from tests.template.template import ROOT, http_routes, resources

# The CLI's own
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TEMPLATE: Final = ROOT / "template.yaml"


@pytest.fixture(scope="module")
def stacks() -> Any:
    """The template, as the CLI reads it: without an account, a flag or parameters."""
    matches, remote = SamLocalStackProvider.get_stacks(str(TEMPLATE))
    assert remote == []
    return matches


def test_every_function_can_be_invoked(stacks: Any) -> None:
    functions = {function.name: function for function in SamFunctionProvider(stacks).get_all()}

    assert set(functions) == set(resources("AWS::Lambda::Function"))
    for name, function in functions.items():
        deployed = resources("AWS::Lambda::Function")[name]
        assert (ROOT / function.codeuri / "handler.py").is_file()
        assert (function.handler, function.memory, function.timeout) == (
            deployed["Handler"],
            deployed["MemorySize"],
            deployed["Timeout"],
        )
        assert [layer.name for layer in function.layers] == ["TasklatchLayer"]


def test_every_route_is_served(stacks: Any) -> None:
    served = {
        (f"{method} {route.path}", route.function_name)
        for route in ApiProvider(stacks).api.routes
        for method in route.methods
        # What the CLI answers to browsers: it does not know the condition under which the template lets them in
        if method != "OPTIONS"
    }

    assert served == {(key, route.function) for key, route in http_routes().items()}


def test_the_template_needs_no_opt_in_and_no_other_macro_or_template() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")

    assert text.count("Transform:") == 1
    assert "Fn::ForEach" not in text
    assert "AWS::CloudFormation::Stack" not in text
    assert "AWS::Serverless::Connector" not in text
