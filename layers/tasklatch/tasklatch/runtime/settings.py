"""Settings of the deployment, read from the environment on first use and then cached."""

import os
from functools import cache
from typing import NamedTuple


class MissingSettingError(RuntimeError):
    """The function needs an environment variable that its deployment does not set."""


class Settings(NamedTuple):
    """Settings of one function. Those that it does not need are empty; `check_set` checks those that it needs.

    Attributes
    ----------
    table_name
        The ledger's DynamoDB table.
    tenant_claim
        The token's claim that names the tenant; empty if there is only one tenant.
    retention_days
        Retention of an item after its last write, in days; 0 keeps it for ever.
    event_bus_name
        The event bus to which changes are published.
    timer_queue_url
        The queue that receives due timers.
    advance_queue_url
        The queue of the workflow advancer.
    dead_letter_queue_url
        The dead-letter queue of a function that processes a queue.
    stream_failures_bucket
        The bucket for records of the table's stream that no attempt can process.
    trigger_queue_url, trigger_queue_arn, trigger_failures_arn
        The queue that receives the times of schedules, and the dead-letter queue for times that do not reach it.
    trigger_group, trigger_role_arn
        The schedule group for schedules, and the role with which they reach the queue.
    live_url
        The WebSocket address that watchers connect to.
    live_callback_url
        The address for sending to watchers' connections.
    attempt_id_secret
        ARN of the secret with which attempt ids are signed; empty if they are not.
    requires_attempt_ids
        True if a report must carry the signed id of its attempt.
    unnamed_queue
        The queue of tasks that name none; empty if workers cannot claim them.
    longest_claim_wait
        The longest time that a claim waits for work, in seconds, whatever the worker asks for.
    serves_description
        False if the API description and its page are answered 404.
    """

    table_name: str
    tenant_claim: str
    retention_days: int
    event_bus_name: str = ""
    timer_queue_url: str = ""
    advance_queue_url: str = ""
    dead_letter_queue_url: str = ""
    stream_failures_bucket: str = ""
    trigger_queue_url: str = ""
    trigger_queue_arn: str = ""
    trigger_failures_arn: str = ""
    trigger_group: str = ""
    trigger_role_arn: str = ""
    live_url: str = ""
    live_callback_url: str = ""
    attempt_id_secret: str = ""
    requires_attempt_ids: bool = False
    serves_description: bool = True
    unnamed_queue: str = ""
    longest_claim_wait: int = 0

    def check_set(self, *names: str) -> None:
        """Check that settings are not empty.

        Raises
        ------
        MissingSettingError
            If one is; the error names its environment variable.
        """
        for name in names:
            if not getattr(self, name):
                raise MissingSettingError(f"{name.upper()} is not set")

    def expires_at(self, now: int) -> int | None:
        """Return the expiry of an item that is written now.

        Parameters
        ----------
        now
            Milliseconds since the epoch.

        Returns
        -------
        int or None
            Seconds since the epoch (DynamoDB's TTL unit); None if items are kept for ever.
        """
        return now // 1000 + self.retention_days * 86_400 if self.retention_days else None


@cache
def get_settings() -> Settings:
    """Return the settings; the environment is read once.

    Raises
    ------
    MissingSettingError
        If there is no table: the deployment is wrong.
    """
    settings = Settings(
        table_name=os.environ.get("TABLE_NAME", ""),
        tenant_claim=os.environ.get("TENANT_CLAIM", ""),
        retention_days=int(os.environ.get("RETENTION_DAYS", "90")),
        event_bus_name=os.environ.get("EVENT_BUS_NAME", ""),
        timer_queue_url=os.environ.get("TIMER_QUEUE_URL", ""),
        advance_queue_url=os.environ.get("ADVANCE_QUEUE_URL", ""),
        dead_letter_queue_url=os.environ.get("DEAD_LETTER_QUEUE_URL", ""),
        stream_failures_bucket=os.environ.get("STREAM_FAILURES_BUCKET", ""),
        trigger_queue_url=os.environ.get("TRIGGER_QUEUE_URL", ""),
        trigger_queue_arn=os.environ.get("TRIGGER_QUEUE_ARN", ""),
        trigger_failures_arn=os.environ.get("TRIGGER_FAILURES_ARN", ""),
        trigger_group=os.environ.get("TRIGGER_GROUP", ""),
        trigger_role_arn=os.environ.get("TRIGGER_ROLE_ARN", ""),
        live_url=os.environ.get("LIVE_URL", ""),
        live_callback_url=os.environ.get("LIVE_CALLBACK_URL", ""),
        attempt_id_secret=os.environ.get("ATTEMPT_ID_SECRET", ""),
        requires_attempt_ids=os.environ.get("ATTEMPT_IDS", "") == "required",
        unnamed_queue=os.environ.get("UNNAMED_QUEUE", ""),
        longest_claim_wait=int(os.environ.get("LONGEST_CLAIM_WAIT", "0")),
        serves_description=os.environ.get("API_DOCS", "true") == "true",
    )
    settings.check_set("table_name")
    return settings
