"""A deployed local stack: its addresses and the clients that may call it, as stored in `stack.json`."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local.backoff import DEADLINE_SECONDS, DeadlineBackoff
from local.retrying_client import RetryingClient

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
STACK_NAME = "tasklatch"
# Warm processes for a burst. For reports and for reads each: as many as the replay sends at once. For a function that a
# queue feeds, which gets no more than these: the minimum that AWS accepts as `MaximumConcurrency`
API_PROCESSES = 4
QUEUE_PROCESSES = 2
# The emulator accepts any credentials; real ones must never reach it, nor these reach AWS
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


class LocalCloudError(Exception):
    """An error whose message is for the user: the cause, and the remedy."""


@dataclass(frozen=True)
class Client:
    """A program that may request access tokens (OAuth client credentials)."""

    client_id: str
    client_secret: str
    scope: str


@dataclass(frozen=True)
class StateDir:
    """The folder that holds everything that the local cloud writes; deleting it removes the local cloud."""

    path: Path = ROOT / ".local"

    @property
    def state(self) -> Path:
        """The emulator's state that survives a restart."""
        return self.path / "state"

    @property
    def scratch(self) -> Path:
        """Files that the emulator unpacks for its functions' processes."""
        return self.path / "tmp"

    @property
    def build(self) -> Path:
        """Output of `sam build`."""
        return self.path / "sam" / "build"

    @property
    def layer(self) -> Path:
        """The built layer, with the same files as under `/opt` on Lambda."""
        return self.build / "TasklatchLayer"

    @property
    def deployed(self) -> Path:
        """Record of the deployed build and of the emulator's address at that time."""
        return self.path / "deployed"

    @property
    def log(self) -> Path:
        """The emulator's log, including the log lines of the functions."""
        return self.path / "ministack.log"

    @property
    def stack_file(self) -> Path:
        """Addresses and clients of the running stack."""
        return self.path / "stack.json"


@dataclass(frozen=True)
class Stack:
    """Addresses of a deployed stack and the clients that may call it.

    Attributes
    ----------
    work_queue_url
        URL of the queue from which workers take scheduled tasks.
    queues
        URLs of the service's own queues, by their names in the template.
    functions
        Names of the functions, by their folders.
    failures_bucket
        Name of the bucket for records of the table's stream that could not be processed.
    """

    api_url: str
    token_url: str
    region: str
    aws_endpoint_url: str
    table_name: str
    clients: Mapping[str, Client]
    live_url: str
    event_bus_name: str
    work_queue_url: str = ""
    queues: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)
    failures_bucket: str = ""

    def save(self, state_dir: StateDir) -> None:
        """Write `stack.json`, readable only by its owner: it holds the clients' secrets."""
        descriptor = os.open(state_dir.stack_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self), file, indent=2)
            file.write("\n")

    @classmethod
    def load(cls, state_dir: StateDir | None = None) -> Stack:
        """Read the running stack from `stack.json`.

        Raises
        ------
        LocalCloudError
            If no stack is running.
        """
        try:
            document: dict[str, Any] = json.loads((state_dir or StateDir()).stack_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise LocalCloudError("The local cloud is not running. Start it with `make up`.") from None
        clients = {name: Client(**client) for name, client in document.pop("clients").items()}
        return cls(clients=clients, **document)

    def aws(self, service: str, deadline_seconds: float = DEADLINE_SECONDS) -> Any:
        """Return a boto3 client of one AWS service of this stack; it retries calls up to the deadline, in seconds."""
        return aws_client(service, self.aws_endpoint_url, deadline_seconds)


def aws_client(service: str, endpoint_url: str, deadline_seconds: float = DEADLINE_SECONDS) -> Any:
    """Return a boto3 client of the emulator, independent of this machine's AWS configuration."""
    session = boto3.Session(
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
    )
    config = Config(proxies={}, retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60)
    make: Any = session.client
    return RetryingClient(make(service, endpoint_url=endpoint_url, config=config), DeadlineBackoff(deadline_seconds))


def clean_environment(**extra: str) -> dict[str, str]:
    """Return the environment of a program that must use neither the user's AWS account nor a proxy.

    Returns
    -------
    dict
        This process's environment without AWS settings, plus `extra`.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "SAM_CLI_")) and not name.lower().endswith("_proxy")
    }
    environment |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    environment |= {"AWS_EC2_METADATA_DISABLED": "true"}
    return environment | CREDENTIALS | {"AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION} | extra


def snake_case(logical_id: str) -> str:
    """Convert a logical id of the template to a folder name: ReportStatus to report_status."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", logical_id).lower()
