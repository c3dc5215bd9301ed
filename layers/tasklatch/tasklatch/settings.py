"""What the deployment sets, read from the environment when it is first needed and then kept."""

import os
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Settings:
    """The parameters of a deployment.

    Attributes
    ----------
    table_name
        The ledger's DynamoDB table.
    tenant_claim
        The token's claim that names the tenant; empty where there is just one.
    retention_days
        How long an item is kept after it was last written, in days; 0 keeps it for ever.
    """

    table_name: str
    tenant_claim: str
    retention_days: int

    def expires_at(self, now: int) -> int | None:
        """When an item that is written now is no longer needed, in seconds since the epoch (DynamoDB's TTL unit).

        Parameters
        ----------
        now
            Milliseconds since the epoch.
        """
        return now // 1000 + self.retention_days * 86_400 if self.retention_days else None


@cache
def settings() -> Settings:
    """Read the environment once.

    Raises
    ------
    KeyError
        If a variable that has no default is missing: the deployment is wrong.
    """
    return Settings(
        table_name=os.environ["TABLE_NAME"],
        tenant_claim=os.environ.get("TENANT_CLAIM", ""),
        retention_days=int(os.environ.get("RETENTION_DAYS", "90")),
    )
