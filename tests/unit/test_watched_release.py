"""A release with rollback triggers: what is packaged, uploaded, asked of CloudFormation and waited for."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import WaiterError

from local.aws import watched_release
from local.aws.parameters import DeployError
from local.aws.release import Target
from local.aws.watched_release import TRIGGERS, Clients, release_watched
from tests.template.template import resources

TARGET: Final = Target("tasklatch", "eu-north-1")
PARAMETERS: Final = {"TenantClaim": "", "LogLevel": "INFO"}
STACK_ID: Final = "arn:aws:cloudformation:eu-north-1:123456789012:stack/tasklatch/1"


class Account:
    """CloudFormation and S3, which keep what they are asked; a waiter may fail for a reason."""

    def __init__(self, **reasons: str) -> None:
        self.reasons = reasons
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Any:
        def call(**arguments: Any) -> None:
            self.calls.append((operation, arguments))

        return call

    def describe_stack_resource(self, *, StackName: str, LogicalResourceId: str) -> dict[str, Any]:  # noqa: N803
        detail = {"StackId": STACK_ID, "PhysicalResourceId": f"{StackName}-{LogicalResourceId}"}
        return {"StackResourceDetail": detail}

    def get_paginator(self, _operation: str) -> "Account":
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        change = {"Action": "Modify", "ResourceType": "AWS::Lambda::Function", "LogicalResourceId": "NotifierFunction"}
        return [{"Changes": [{"ResourceChange": change}]}]

    def get_waiter(self, name: str) -> Any:
        account = self

        class Waiter:
            def wait(self, **arguments: Any) -> None:
                account.calls.append((name, arguments))
                if name in account.reasons:
                    raise WaiterError(name, "failed", {"StatusReason": account.reasons[name]})

        return Waiter()

    def arguments(self, operation: str) -> dict[str, Any]:
        [result] = [arguments for name, arguments in self.calls if name == operation]
        return result

    def operations(self) -> list[str]:
        return [operation for operation, _ in self.calls]


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "packaged.yaml"
    monkeypatch.setattr(watched_release, "_PACKAGED", path)
    return path


def release(account: Account, packaged: Path, *, minutes: int = 10, answer: bool = True) -> list[str]:
    shown: list[str] = []

    def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
        assert environment["SAM_CLI_TELEMETRY"] == "0"
        assert list(command[:4]) == [sys.executable, "-m", "samcli", "package"]
        packaged.write_text("CodeUri: s3://a-bucket/tasklatch/1234\n")
        return 0

    def confirm(text: str) -> bool:
        shown.append(text)
        return answer

    release_watched(TARGET, Clients(account, account), PARAMETERS, minutes, run, confirm)
    return shown


def test_release_is_watched_by_alarms_of_the_stack(packaged: Path) -> None:
    account = Account()

    shown = release(account, packaged)

    assert shown == ["Modify   AWS::Lambda::Function NotifierFunction"]
    change_set = account.arguments("create_change_set")
    rollback = change_set["RollbackConfiguration"]
    assert rollback["MonitoringTimeInMinutes"] == 10
    assert [trigger["Arn"] for trigger in rollback["RollbackTriggers"]] == [
        f"arn:aws:cloudwatch:eu-north-1:123456789012:alarm:tasklatch-{name}" for name in TRIGGERS
    ]
    upload = account.arguments("put_object")
    assert change_set["TemplateURL"] == f"https://a-bucket.s3.eu-north-1.amazonaws.com/{upload['Key']}"
    assert upload["Body"] == packaged.read_bytes()
    assert {item["ParameterKey"]: item["ParameterValue"] for item in change_set["Parameters"]} == PARAMETERS
    assert account.operations()[-2:] == ["execute_change_set", "stack_update_complete"]
    waited = account.arguments("stack_update_complete")["WaiterConfig"]
    assert waited["Delay"] * waited["MaxAttempts"] == 3600 + 10 * 60


def test_triggers_are_alarms_of_the_template_and_as_many_as_cloudformation_watches() -> None:
    assert set(TRIGGERS) <= set(resources("AWS::CloudWatch::Alarm"))
    assert len(set(TRIGGERS)) == 5


def test_release_that_an_alarm_takes_back_says_so(packaged: Path) -> None:
    with pytest.raises(DeployError, match="put back as it was"):
        release(Account(stack_update_complete="UPDATE_ROLLBACK_COMPLETE"), packaged)


@pytest.mark.parametrize("reason", ["", "The submitted information didn't contain changes."])
def test_nothing_is_executed_without_a_yes_or_a_change(packaged: Path, reason: str) -> None:
    account = Account(**({"change_set_create_complete": reason} if reason else {}))

    release(account, packaged, answer=False)

    assert account.operations()[-1] == "delete_change_set"
    assert "execute_change_set" not in account.operations()


def test_change_set_that_cannot_be_made_is_an_error(packaged: Path) -> None:
    with pytest.raises(DeployError, match="Requires capabilities"):
        release(Account(change_set_create_complete="Requires capabilities"), packaged)


@pytest.mark.parametrize("minutes", [0, -1, 181])
def test_minutes_are_those_that_cloudformation_takes(packaged: Path, minutes: int) -> None:
    account = Account()
    with pytest.raises(DeployError, match="from 1 to 180"):
        release(account, packaged, minutes=minutes)
    assert account.calls == []
