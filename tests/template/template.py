"""The template as CloudFormation gets it: with the serverless resources expanded, and with default parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import boto3
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

ROOT: Final = Path(__file__).resolve().parents[2]
_PACKAGED: Final = {"CodeUri": "s3://bucket/code", "ContentUri": "s3://bucket/layer"}

HTTP_API: Final = "ServerlessHttpApi"
"""What SAM calls the API that it makes of the functions' `HttpApi` events."""

_FUNCTION_IN_URI: Final = re.compile(r"functions/\$\{(\w+)\.Arn\}/invocations$")

Resource = Mapping[str, Any]


@dataclass(frozen=True)
class Route:
    """A route of the HTTP API: the function behind it, the authorizer (None where it is open) and the scopes."""

    function: str
    authorizer: str | None
    scopes: tuple[str, ...]
    integration: Resource


@cache
def transformed() -> dict[str, Any]:
    """Expand `template.yaml` as the serverless transform does on deployment."""
    template = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    for resource in template["Resources"].values():
        # As `sam deploy` does before: code is uploaded, and the template tells where to
        resource["Properties"] |= {name: uri for name, uri in _PACKAGED.items() if name in resource["Properties"]}
    parameters = {name: str(parameter.get("Default", "")) for name, parameter in template["Parameters"].items()}
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name="us-east-1"))
    result: dict[str, Any] = translator.translate(sam_template=template, parameter_values=parameters)
    return result


def resources(kind: str) -> dict[str, Resource]:
    """Give the properties of every resource of one type, such as `AWS::Lambda::Function`, by logical id."""
    return {
        name: resource.get("Properties", {})
        for name, resource in transformed()["Resources"].items()
        if resource["Type"] == kind
    }


def http_api_definition() -> dict[str, Any]:
    """Return the OpenAPI definition from which API Gateway makes the HTTP API."""
    definition: dict[str, Any] = resources("AWS::ApiGatewayV2::Api")[HTTP_API]["Body"]
    return definition


def http_routes() -> dict[str, Route]:
    """Return the routes of the HTTP API by their keys, such as `GET /v1/health`."""
    return {
        f"{method.upper()} {path}": _route(operation)
        for path, operations in http_api_definition()["paths"].items()
        for method, operation in operations.items()
    }


def _route(operation: Resource) -> Route:
    integration = operation["x-amazon-apigateway-integration"]
    function = _FUNCTION_IN_URI.search(integration["uri"]["Fn::Sub"])
    assert function is not None
    [(authorizer, scopes)] = [pair for requirement in operation["security"] for pair in requirement.items()]
    return Route(function[1], None if authorizer == "NONE" else authorizer, tuple(scopes), integration)


def functions() -> dict[str, Resource]:
    """Give the properties of every function, by the name of its folder."""
    return {
        str(resource["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]): resource
        for resource in resources("AWS::Lambda::Function").values()
    }


def target(reference: Any) -> str:
    """Give the logical id that a Ref or a GetAtt points to."""
    if "Ref" in reference:
        return str(reference["Ref"])
    got = reference["Fn::GetAtt"]
    return str(got[0] if isinstance(got, list) else got.split(".")[0])


def role_of(function: Resource) -> Resource:
    """Give the role that a function runs as."""
    return resources("AWS::IAM::Role")[target(function["Role"])]


def grants(role: Resource) -> Iterator[tuple[str, str]]:
    """Give each action that a role allows, with the resource as compact JSON."""
    for policy in role["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            for action in listed(statement["Action"]):
                for resource in listed(statement["Resource"]):
                    yield action, compact(resource)


def when(condition: str, value: Any) -> Any:
    """Return what a value is where a condition holds, and make sure that it is nothing where the condition does not."""
    name, chosen, otherwise = value["Fn::If"]
    assert (name, otherwise) == (condition, {"Ref": "AWS::NoValue"})
    return chosen


def compact(resource: Any) -> str:
    """Write a resource of a statement, or what CloudFormation makes one of, on one line."""
    return resource if isinstance(resource, str) else json.dumps(resource, separators=(",", ":"))


def listed(value: Any) -> list[Any]:
    """Give what a policy has, one or many, as a list."""
    return value if isinstance(value, list) else [value]
