"""What `make deploy`, `make deploy-ci` and `make preflight` do: with answers, with refusals, and without an account."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from local.aws import __main__ as command
from local.aws.parameters import SavedParameters

ISSUER = "https://login.example.com/"


class Cloud:
    """An account with one stack or none, and `sam`, which deploys what it is told to."""

    def __init__(self, region: str | None = "eu-north-1") -> None:
        self.region_name = region
        self.meta = SimpleNamespace(region_name=region)
        self.deployed: dict[str, str] | None = None
        self.calls: list[str] = []
        self.has_credentials = True

    def client(self, _name: str) -> "Cloud":
        return self

    def describe_stacks(self, **_requested: str) -> Any:
        if not self.has_credentials:
            raise NoCredentialsError
        if self.deployed is None:
            raise ClientError({"Error": {"Code": "ValidationError"}}, "DescribeStacks")
        parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in self.deployed.items()]
        return {"Stacks": [{"StackStatus": "UPDATE_COMPLETE", "Parameters": parameters}]}

    def get_caller_identity(self) -> Any:
        return {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/me"}

    def get_account_settings(self) -> Any:
        return {"AccountLimit": {"ConcurrentExecutions": 1_000, "UnreservedConcurrentExecutions": 1_000}}

    def get_account(self) -> Any:
        return {}

    def get_paginator(self, _operation: str) -> Any:
        return SimpleNamespace(paginate=lambda **_requested: [{"Quotas": []}])

    def sam(self, arguments: Sequence[str], _environment: Mapping[str, str]) -> int:
        words = list(arguments[3:])
        self.calls.append(words[0])
        if words[0] == "deploy":
            pairs = (word.partition("=") for word in words if word.endswith('"'))
            self.deployed = (self.deployed or {}) | {name: value.strip('"') for name, _, value in pairs}
        return 0


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cloud:
    account = Cloud()
    monkeypatch.setattr("boto3.Session", lambda **_region: account)
    monkeypatch.setattr(command, "run_program", account.sam)
    monkeypatch.setattr(command, "SavedParameters", lambda name: SavedParameters(name, tmp_path))
    monkeypatch.setattr("builtins.input", lambda prompt: ISSUER if "JwtIssuer [" in prompt else "")
    return account


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["local.aws", *arguments])
    return command.main()


def test_a_first_deployment_asks_and_is_fitted_to_the_account(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(monkeypatch, "deploy", "--parameters", "JwtAudience=a,b") == 0

    assert cloud.calls == ["build", "deploy", "deploy"]
    assert cloud.deployed is not None
    assert cloud.deployed["JwtIssuer"] == ISSUER
    assert (cloud.deployed["ThrottlingRate"], cloud.deployed["DeletionProtection"]) == ("1000", "true")
    assert SavedParameters("tasklatch", tmp_path).read() == cloud.deployed


def test_questions_that_nobody_answers_deploy_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", closed)

    assert run(monkeypatch, "deploy") == 1
    assert cloud.calls == []


def test_a_second_deployment_asks_nothing_and_changes_what_is_said(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.deployed = {"JwtIssuer": ISSUER, "JwtAudience": "a,b", "TenantClaim": "org_id", "ThrottlingRate": "7"}
    monkeypatch.setattr("builtins.input", lambda _prompt: pytest.fail("asked"))
    before = dict(cloud.deployed)

    assert run(monkeypatch, "deploy", "--parameters", "ThrottlingRate=70") == 0

    assert cloud.deployed.items() >= {**before, "ThrottlingRate": "70", "Tenants": "by-claim"}.items()
    assert "change   ThrottlingRate: 7 becomes 70" in capsys.readouterr().out


def test_a_pipeline_is_asked_nothing_and_saves_nothing(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "production"
    file.write_text("LogLevel=DEBUG\nRetentionDays=30\n")
    monkeypatch.setenv("PARAMETER_RetentionDays", "60")
    monkeypatch.setattr("builtins.input", lambda _prompt: pytest.fail("asked"))

    assert run(monkeypatch, "deploy", "--no-questions", "--file", str(file)) == 0

    assert cloud.deployed is not None
    assert (cloud.deployed["LogLevel"], cloud.deployed["RetentionDays"]) == ("DEBUG", "60")
    assert SavedParameters("tasklatch", tmp_path).read() == {}


def test_tenants_are_not_merged_and_nothing_is_built(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.deployed = {"TenantClaim": "org_id"}

    assert run(monkeypatch, "deploy", "--no-questions", "--parameters", "TenantClaim=") == 1

    assert cloud.calls == []
    assert "CHANGE_TENANTS=yes" in capsys.readouterr().err


def test_tenants_are_merged_where_that_is_asked_for(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.deployed = {"TenantClaim": "org_id"}

    assert run(monkeypatch, "deploy", "--no-questions", "--parameters", "TenantClaim=", "--change-tenants") == 0

    assert (cloud.deployed["TenantClaim"], cloud.deployed["Tenants"]) == ("", "one")


@pytest.mark.parametrize("name", ["preflight", "deploy"])
def test_a_problem_ends_it_before_anything_is_built(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    cloud.deployed = {}

    assert run(monkeypatch, name, "--parameters", "LiveAccessLogs=true") == 1
    assert cloud.calls == []


def test_a_preflight_without_problems_changes_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "preflight") == 0

    assert (cloud.calls, cloud.deployed) == ([], None)


def test_without_credentials_or_region_it_says_so(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.has_credentials = False
    assert run(monkeypatch, "preflight") == 2

    cloud.region_name = None
    assert run(monkeypatch, "preflight") == 2
    assert "AWS refuses or cannot be reached" in (messages := capsys.readouterr().err)
    assert "AWS_REGION" in messages
