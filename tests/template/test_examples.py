"""The examples of deploying from GitHub: roles held to one stack, and a workflow without keys."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from samcli.yamlhelper import yaml_parse

from tests.template.template import ROOT, listed

EXAMPLES: Final = ROOT / "docs" / "examples"
WORKFLOW: Final = (EXAMPLES / "deploy.yml").read_text(encoding="utf-8")
# Services whose resources have ids that nobody knows before, or that are the account's
WITHOUT_NAMES: Final = {"Preflight", "WithoutNames"}


def _role(name: str) -> Any:
    return yaml_parse((EXAMPLES / "deploy-roles.yaml").read_text(encoding="utf-8"))["Resources"][name]["Properties"]


def _statements(name: str) -> dict[str, Any]:
    [policy] = _role(name)["Policies"]
    return {element["Sid"]: element for element in policy["PolicyDocument"]["Statement"] if "Sid" in element}


def test_cloudformation_would_take_the_roles() -> None:
    linted = subprocess.run(  # noqa: S603 - our own
        [Path(sys.executable).parent / "cfn-lint", "--regions", "us-east-1", "--", EXAMPLES / "deploy-roles.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (linted.returncode, linted.stdout) == (0, "")


def test_only_one_repositorys_environment_gets_the_workflows_role() -> None:
    [trust] = _role("GitHubRole")["AssumeRolePolicyDocument"]["Statement"]

    assert trust["Condition"] == {
        "StringEquals": {
            "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
            "token.actions.githubusercontent.com:sub": {"Fn::Sub": "repo:${Repository}:environment:${Environment}"},
        }
    }


def test_the_workflows_role_changes_nothing_but_through_cloudformation() -> None:
    statements = _statements("GitHubRole")
    services = {action.partition(":")[0] for name in statements for action in listed(statements[name]["Action"])}

    assert services == {"cloudformation", "s3", "iam", "lambda", "servicequotas"}
    assert statements["HandOver"]["Resource"] == {"Fn::GetAtt": ["DeployRole", "Arn"]}
    assert statements["HandOver"]["Condition"]["StringEquals"] == {
        "iam:PassedToService": "cloudformation.amazonaws.com"
    }


def test_all_resources_are_meant_only_where_there_are_no_names() -> None:
    for role in ("GitHubRole", "DeployRole"):
        for sid, statement in _statements(role).items():
            assert (statement["Resource"] == "*") == (sid in WITHOUT_NAMES)
            assert "*" not in listed(statement["Action"])


def test_the_workflow_holds_no_key_and_runs_a_target_that_exists() -> None:
    workflow = yaml_parse(WORKFLOW)
    [step] = [step["run"] for step in workflow["jobs"]["deploy"]["steps"] if "run" in step]
    target = re.findall(r"make ([a-z-]+)", step)

    assert workflow["permissions"] == {"contents": "read", "id-token": "write"}
    assert "secrets." not in WORKFLOW
    assert target == ["deploy-ci"]
    assert f"\n{target[0]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
