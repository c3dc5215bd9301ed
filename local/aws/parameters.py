"""The template's parameters: their defaults, and values from a file, the environment, a command and samconfig.toml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from samcli.cli.types import CfnParameterOverridesType
from samcli.lib.config.samconfig import SamConfig
from samcli.yamlhelper import yaml_parse

from local.cloud.stack import ROOT

TEMPLATE: Final = ROOT / "template.yaml"
ENVIRONMENT_PREFIX: Final = "PARAMETER_"
DEFAULT_STACK: Final = "tasklatch"
Parameters = dict[str, str]

_COMMAND: Final = ["deploy"]
_SECTION: Final = "parameters"


class DeployError(Exception):
    """An error whose message is for the user: the cause, and the remedy."""


@cache
def declared_parameters() -> dict[str, dict[str, Any]]:
    """Return the template's declarations of its parameters, by name."""
    template: dict[str, Any] = yaml_parse(TEMPLATE.read_text(encoding="utf-8"))
    return dict(template["Parameters"])


def parse_assignments(lines: Iterable[str], source: str) -> Parameters:
    """Read lines of the form ``Name=value``; empty lines and those that begin with # are skipped.

    Raises
    ------
    DeployError
        If a line has another form or names no parameter of the template; the text names the source.
    """
    parameters = {}
    for line in (line.strip() for line in lines):
        if not line or line.startswith("#"):
            continue
        name, assigned, value = line.partition("=")
        if not assigned:
            raise DeployError(f"{source}: {line!r} is not of the form Name=value.")
        parameters[name.strip()] = value.strip().strip('"')
    return _checked(parameters, source)


def read_file(path: Path) -> Parameters:
    """Read the parameters in a file of ``Name=value`` lines.

    Raises
    ------
    DeployError
        If the file cannot be read, or a line of it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"The file of parameters cannot be read: {error}") from error
    return parse_assignments(lines, str(path))


def read_environment(environment: Mapping[str, str]) -> Parameters:
    """Read the parameters in variables such as ``PARAMETER_TenantClaim``; an empty variable counts as none.

    CI systems make empty variables of settings that nobody has set. A file can say that a parameter is empty.

    Raises
    ------
    DeployError
        If a variable names no parameter of the template.
    """
    parameters = {
        variable.removeprefix(ENVIRONMENT_PREFIX): value
        for variable, value in environment.items()
        if variable.startswith(ENVIRONMENT_PREFIX) and value
    }
    return _checked(parameters, f"environment, {ENVIRONMENT_PREFIX}*")


class SavedParameters:
    """The parameters of a stack that samconfig.toml holds, where `sam deploy` looks for them too.

    The default stack's are in the environment ``default`` of that file, another stack's in one of the stack's name.
    """

    def __init__(self, stack_name: str, folder: Path = ROOT) -> None:
        self.environment = "default" if stack_name == DEFAULT_STACK else stack_name
        self._folder = folder

    def read(self) -> Parameters:
        """Return the saved parameters; none if nothing was saved."""
        saved = self._options().get("parameter_overrides")
        return dict(CfnParameterOverridesType().convert(saved, None, None)) if saved else {}

    def region(self) -> str | None:
        """Return the region that is saved, if any."""
        region = self._options().get("region")
        return str(region) if region else None

    def save(self, parameters: Mapping[str, str]) -> None:
        """Replace the saved parameters; the file's other settings and its comments stay."""
        config = SamConfig(self._folder)
        config.put(_COMMAND, _SECTION, "parameter_overrides", overrides(parameters), env=self.environment)
        config.flush()

    def _options(self) -> dict[str, Any]:
        config: dict[str, Any] = SamConfig(self._folder).get_all(_COMMAND, _SECTION, env=self.environment)
        return config


def overrides(parameters: Mapping[str, str]) -> list[str]:
    """Return parameters in the form of `sam deploy --parameter-overrides`, sorted by name."""
    return [f'{name}="{value}"' for name, value in sorted(parameters.items())]


def _checked(parameters: Parameters, source: str) -> Parameters:
    unknown = sorted(parameters.keys() - declared_parameters().keys())
    if unknown:
        raise DeployError(f"{source}: the template has no parameter {', '.join(unknown)}.")
    quoted = sorted(name for name, value in parameters.items() if '"' in value or "\\" in value)
    if quoted:
        raise DeployError(f"{source}: {', '.join(quoted)} cannot contain a quotation mark or a backslash.")
    return parameters
