"""The stack as it is deployed: its state, and the parameters that it has now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import ClientError

from local.aws.parameters import DeployError, Parameters

_EMPTY: Final = frozenset({"REVIEW_IN_PROGRESS", "DELETE_COMPLETE"})
_REMEDIES: Final = {
    "ROLLBACK_COMPLETE": "its creation failed and was undone. It holds nothing: delete it, then deploy again",
    "ROLLBACK_FAILED": "its creation failed and could not be undone: see its events, delete it, then deploy again",
    "CREATE_FAILED": "its creation failed: see its events, delete it, then deploy again",
    "DELETE_FAILED": "it could not be deleted: see its events, and delete it first",
    "UPDATE_ROLLBACK_FAILED": "its last update failed and could not be undone: continue that rollback first",
}


@dataclass(frozen=True, slots=True)
class DeployedStack:
    """A stack in CloudFormation; one that was never created has no status.

    Attributes
    ----------
    status
        CloudFormation's, such as UPDATE_COMPLETE; empty if there is no stack.
    parameters
        Values of its parameters, by name.
    """

    status: str = ""
    parameters: Parameters = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        """True if a deployment would update the stack and not create it."""
        return bool(self.status)

    def obstacle(self) -> str:
        """Return why the stack cannot be deployed to now, with the remedy; empty if it can."""
        if self.status.endswith("_IN_PROGRESS"):
            return f"{self.status}: it is being changed; wait until that is over"
        remedy = _REMEDIES.get(self.status)
        return f"{self.status}: {remedy}" if remedy else ""


def read_stack(cloudformation: Any, name: str) -> DeployedStack:
    """Read a stack's state and parameters.

    Raises
    ------
    ClientError
        If CloudFormation refuses to say.
    """
    try:
        described = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return DeployedStack()
    if described["StackStatus"] in _EMPTY:
        return DeployedStack()
    parameters = {item["ParameterKey"]: item["ParameterValue"] for item in described.get("Parameters", [])}
    return DeployedStack(described["StackStatus"], parameters)


def require_same_tenants(stack: DeployedStack, chosen: Parameters, *, may_change: bool) -> None:
    """Refuse to change whose tasks a caller sees, unless that is what is asked for.

    Raises
    ------
    DeployError
        If the stack is deployed with another tenant claim than the one chosen.
    """
    before, after = stack.parameters.get("TenantClaim", ""), chosen.get("TenantClaim", "")
    if not stack.exists or before == after or may_change:
        return
    effect = (
        "All callers would see the tasks of all tenants" if not after else "Callers would no longer see their tasks"
    )
    raise DeployError(
        f"TenantClaim of the deployed stack is {before or 'empty'}, here it is {after or 'empty'}. {effect}. "
        "To deploy that, repeat with CHANGE_TENANTS=yes."
    )
