"""What the deployment sets, read from the environment when it is first needed and then kept."""

import os
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Settings:
    """The parameters of a deployment. A function is given those that it needs; the others are empty.

    Attributes
    ----------
    table_name
        The ledger's DynamoDB table.
    tenant_claim
        The token's claim that names the tenant; empty where there is just one.
    retention_days
        How long an item is kept after it was last written, in days; 0 keeps it for ever.
    event_bus_name
        Where changes are announced.
    timer_queue_url, timer_queue_arn
        The queue that timers end in.
    dead_letter_queue_url
        Where a function that serves a queue sets messages aside.
    schedule_group, schedule_role_arn
        Where timers of more than fifteen minutes wait, and the role by which they reach the queue.
    live_url
        The WebSocket address that watchers connect to.
    live_callback_url
        The address at which their connections are reached.
    """

    table_name: str
    tenant_claim: str
    retention_days: int
    event_bus_name: str = ""
    timer_queue_url: str = ""
    timer_queue_arn: str = ""
    dead_letter_queue_url: str = ""
    schedule_group: str = ""
    schedule_role_arn: str = ""
    live_url: str = ""
    live_callback_url: str = ""

    def expires_at(self, now: int) -> int | None:
        """When an item that is written now is no longer needed, in seconds since the epoch (DynamoDB's TTL unit).

        Parameters
        ----------
        now
            Milliseconds since the epoch.
        """
        return now // 1000 + self.retention_days * 86_400 if self.retention_days else None


@cache
def get_settings() -> Settings:
    """Read the environment once.

    Raises
    ------
    KeyError
        If the table's name is missing: the deployment is wrong.
    """
    return Settings(
        table_name=os.environ["TABLE_NAME"],
        tenant_claim=os.environ.get("TENANT_CLAIM", ""),
        retention_days=int(os.environ.get("RETENTION_DAYS", "90")),
        event_bus_name=os.environ.get("EVENT_BUS_NAME", ""),
        timer_queue_url=os.environ.get("TIMER_QUEUE_URL", ""),
        timer_queue_arn=os.environ.get("TIMER_QUEUE_ARN", ""),
        dead_letter_queue_url=os.environ.get("DEAD_LETTER_QUEUE_URL", ""),
        schedule_group=os.environ.get("SCHEDULE_GROUP", ""),
        schedule_role_arn=os.environ.get("SCHEDULE_ROLE_ARN", ""),
        live_url=os.environ.get("LIVE_URL", ""),
        live_callback_url=os.environ.get("LIVE_CALLBACK_URL", ""),
    )
