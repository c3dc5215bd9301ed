"""The template as CloudFormation gets it: with the serverless resources expanded, and with default parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import boto3
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

ROOT: Final = Path(__file__).resolve().parents[2]
_PACKAGED: Final = {"CodeUri": "s3://bucket/code", "ContentUri": "s3://bucket/layer"}

Resource = Mapping[str, Any]


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


def functions() -> dict[str, Resource]:
    """Give the properties of every function, by the name of its folder."""
    return {
        str(it["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]): it
        for it in resources("AWS::Lambda::Function").values()
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


def compact(resource: Any) -> str:
    """Write a resource of a statement, or what CloudFormation makes one of, on one line."""
    return resource if isinstance(resource, str) else json.dumps(resource, separators=(",", ":"))


def listed(value: Any) -> list[Any]:
    """Give what a policy has, one or many, as a list."""
    return value if isinstance(value, list) else [value]
