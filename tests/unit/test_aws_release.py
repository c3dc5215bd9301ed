"""The calls of `sam` that a deployment makes, in their order."""

import sys
from collections.abc import Mapping, Sequence

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from local.aws.deployed import DeployedStack, read_stack
from local.aws.parameters import DeployError
from local.aws.release import Target, build, deploy

TARGET = Target("tasklatch", "eu-north-1", ("--role-arn", "arn:aws:iam::123456789012:role/x"))
PARAMETERS = {"DeletionProtection": "true", "TenantClaim": ""}


class Sam:
    """A runner of programs that keeps what it was called with."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.commands: list[list[str]] = []
        self.environments: list[Mapping[str, str]] = []

    def __call__(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        assert list(command[:3]) == [sys.executable, "-m", "samcli"]
        self.commands.append(list(command[3:]))
        self.environments.append(environment)
        return self.status

    def protections(self) -> list[str]:
        words = [word for command in self.commands for word in command]
        return [word for word in words if word.startswith("DeletionProtection=")]


def _cloudformation(*statuses: str) -> object:
    """Return a client that describes the stack with one status after the other; none where the status is empty."""
    client = boto3.Session("test", "test", region_name="eu-north-1").client("cloudformation")
    stub = Stubber(client)
    for status in statuses:
        if status:
            stack = {"StackName": "tasklatch", "CreationTime": 0, "StackStatus": status}
            stub.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": "tasklatch"})
        else:
            stub.add_client_error("describe_stacks", "ValidationError", "Stack with id tasklatch does not exist")
    stub.activate()
    return client


def test_a_new_stack_is_created_unprotected_then_protected() -> None:
    sam = Sam()

    deploy(TARGET, _cloudformation("", "CREATE_COMPLETE"), PARAMETERS, sam)

    assert sam.protections() == ['DeletionProtection="false"', 'DeletionProtection="true"']
    assert "--confirm-changeset" in sam.commands[0]
    assert "--no-confirm-changeset" in sam.commands[1]


@pytest.mark.parametrize("status", ["", "REVIEW_IN_PROGRESS"])
def test_a_creation_that_was_answered_with_no_is_not_made_up_for(status: str) -> None:
    sam = Sam()

    deploy(TARGET, _cloudformation("", status), PARAMETERS, sam)

    assert sam.protections() == ['DeletionProtection="false"']


def test_an_update_is_one_call_and_never_lifts_the_protection() -> None:
    sam = Sam()

    deploy(TARGET, _cloudformation("UPDATE_COMPLETE"), PARAMETERS, sam)

    assert sam.protections() == ['DeletionProtection="true"']


def test_a_stack_that_is_not_to_be_protected_is_created_in_one_call() -> None:
    sam = Sam()

    deploy(TARGET, _cloudformation(""), PARAMETERS | {"DeletionProtection": "false"}, sam)

    assert sam.protections() == ['DeletionProtection="false"']


def test_every_parameter_and_argument_is_handed_on() -> None:
    sam = Sam()

    deploy(TARGET, _cloudformation("UPDATE_COMPLETE"), PARAMETERS, sam)

    [command] = sam.commands
    assert command[:5] == ["deploy", "--stack-name", "tasklatch", "--region", "eu-north-1"]
    assert command[5:8] == ["--parameter-overrides", 'DeletionProtection="true"', 'TenantClaim=""']
    assert command[-2:] == ["--role-arn", "arn:aws:iam::123456789012:role/x"]


def test_a_deployment_that_fails_says_so_and_stops() -> None:
    sam = Sam(status=1)

    with pytest.raises(DeployError, match="sam deploy"):
        deploy(TARGET, _cloudformation(""), PARAMETERS, sam)
    assert len(sam.commands) == 1


@pytest.mark.parametrize(
    ("parameters", "python", "architecture"),
    [({}, "3.13", "arm64"), ({"PythonVersion": "python3.12", "Architecture": "x86_64"}, "3.12", "x86_64")],
)
def test_the_build_is_for_what_is_deployed(parameters: dict[str, str], python: str, architecture: str) -> None:
    sam = Sam()

    build(parameters, sam)

    [environment] = sam.environments
    assert sam.commands == [["build"]]
    assert (environment["TASKLATCH_PYTHON"], environment["TASKLATCH_ARCH"]) == (python, architecture)


@pytest.mark.parametrize("status", ["", "REVIEW_IN_PROGRESS", "DELETE_COMPLETE"])
def test_a_stack_of_which_there_is_nothing_does_not_exist(status: str) -> None:
    assert read_stack(_cloudformation(status), "tasklatch") == DeployedStack()


def test_a_stack_that_may_not_be_read_is_not_taken_for_a_new_one() -> None:
    client = boto3.Session("test", "test", region_name="eu-north-1").client("cloudformation")
    with Stubber(client) as stub:
        stub.add_client_error("describe_stacks", "AccessDenied")

        with pytest.raises(ClientError, match="AccessDenied"):
            read_stack(client, "tasklatch")
