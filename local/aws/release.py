"""A deployment into an AWS account: parameters from all their sources, `sam build`, `sam deploy`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from local.aws.deployed import DeployedStack, read_stack
from local.aws.limits import Concurrency, fitting_load
from local.aws.parameters import DeployError, Parameters, declared_parameters, overrides
from local.cloud.stack import ROOT

DERIVED: Final = frozenset({"Tenants", "DeletionProtection"})
"""Parameters that are not carried over from the deployed stack or samconfig.toml."""


class Run(Protocol):
    """Runner of programs."""

    def __call__(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Run a program with more environment variables, and return its exit status."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Values of parameters by where they come from; of two values the later source's counts.

    Attributes
    ----------
    fitting
        Load that the account bears, for a stack that is to be created.
    deployed, saved
        The stack's present values, and those in samconfig.toml.
    explicit
        Values of a file, the environment, the command and the answers, for this deployment.
    """

    fitting: Parameters = field(default_factory=dict)
    deployed: Parameters = field(default_factory=dict)
    saved: Parameters = field(default_factory=dict)
    explicit: Parameters = field(default_factory=dict)

    def known(self) -> Parameters:
        """Return the values that hold without this deployment's own."""
        before = self.fitting | self.deployed | self.saved
        declared = declared_parameters()
        return {name: value for name, value in before.items() if name in declared and name not in DERIVED}

    def chosen(self) -> Parameters:
        """Return the values to deploy: tenants follow from the claim, and the table is protected by default."""
        values = self.known() | self.explicit
        tenants = "by-claim" if values.get("TenantClaim") else "one"
        protection = self.saved.get("DeletionProtection", "true")
        return {"Tenants": tenants, "DeletionProtection": protection} | values


@dataclass(frozen=True, slots=True)
class Target:
    """Destination of a deployment, and how to get there.

    Attributes
    ----------
    stack_name, region
        The stack and its region.
    sam_arguments
        More arguments of `sam deploy`, such as `--role-arn`.
    confirms
        True if `sam deploy` shows the changes and waits for a yes.
    """

    stack_name: str
    region: str
    sam_arguments: Sequence[str] = ()
    confirms: bool = True


def load_for(stack: DeployedStack, concurrency: Concurrency | None) -> Parameters:
    """Return the load parameters for a stack to be created; none for one that exists or where the quota is unknown."""
    return {} if stack.exists or concurrency is None else fitting_load(concurrency)


def with_defaults(parameters: Mapping[str, str]) -> Parameters:
    """Return every parameter of the template with the value that it will have."""
    return {name: str(declared["Default"]) for name, declared in declared_parameters().items()} | dict(parameters)


def build(parameters: Mapping[str, str], run: Run) -> None:
    """Build functions and layer for the Python version and the processor that the parameters name.

    Raises
    ------
    DeployError
        If `sam build` fails.
    """
    values = with_defaults(parameters)
    target = {
        "TASKLATCH_PYTHON": values["PythonVersion"].removeprefix("python"),
        "TASKLATCH_ARCH": values["Architecture"],
    }
    _sam(run, ["build"], target)


def changes(stack: DeployedStack, parameters: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each parameter whose value a deployment changes in a stack that exists."""
    before = stack.parameters if stack.exists else parameters
    for name, value in sorted(parameters.items()):
        if name in before and before[name] != value:
            yield f"{name}: {before[name] or 'empty'} becomes {value or 'empty'}"


def deploy(target: Target, cloudformation: Any, parameters: Mapping[str, str], run: Run) -> None:
    """Create or update the stack.

    A new stack is created with its table unprotected, so that a creation that fails can be undone; the protection
    follows as an update, unless the creation was answered with no.

    Raises
    ------
    DeployError
        If `sam deploy` fails.
    ClientError
        If CloudFormation refuses to say whether the stack exists.
    """
    is_new = not read_stack(cloudformation, target.stack_name).exists
    protected_later = is_new and parameters["DeletionProtection"] == "true"
    first = {**parameters, "DeletionProtection": "false"} if protected_later else parameters
    _sam(run, _deploy_command(target, first, confirms=target.confirms))
    # `sam deploy` ends well also where it asked and got no for an answer
    if protected_later and read_stack(cloudformation, target.stack_name).exists:
        _sam(run, _deploy_command(target, parameters, confirms=False))


def run_program(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program in the repository's root with its output on the terminal, and return its exit status."""
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=False).returncode


def _deploy_command(target: Target, parameters: Mapping[str, str], *, confirms: bool) -> list[str]:
    return [
        "deploy",
        *("--stack-name", target.stack_name),
        *("--region", target.region),
        *("--parameter-overrides", *overrides(parameters)),
        "--confirm-changeset" if confirms else "--no-confirm-changeset",
        "--no-fail-on-empty-changeset",
        *target.sam_arguments,
    ]


def _sam(run: Run, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    programs = Path(sys.executable).parent
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
    status = run(
        [sys.executable, "-m", "samcli", *arguments],
        {"PATH": path, "SAM_CLI_TELEMETRY": "0", **(environment or {})},
    )
    if status:
        raise DeployError(f"`sam {arguments[0]}` ended with status {status}.")
