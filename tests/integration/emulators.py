"""DynamoDB for the tests, from two independent emulators, with the table exactly as `template.yaml` declares it.

Adapters that use plain calls run on both, so that no test rests on what only one of them does. Statements in PartiQL
(creating executions, batches of reports) run on ministack alone: moto refuses a parameterised INSERT and leaves the
item out of a statement's error.
"""

import contextlib
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import boto3
import httpx
import yaml
from botocore.config import Config

from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.settings import Settings
from tests.factories import FakeTime
from tests.polling import poll

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ROOT: Final = Path(__file__).resolve().parents[2]
HOST: Final = "127.0.0.1"
_CONFIG: Final = Config(retries={"total_max_attempts": 1}, read_timeout=20)
_CREATED_WITH: Final = (
    "AttributeDefinitions",
    "BillingMode",
    "GlobalSecondaryIndexes",
    "KeySchema",
    "StreamSpecification",
)


class _TemplateLoader(yaml.SafeLoader):
    """Reads a template; what CloudFormation's functions (!Ref and the like) give is left open."""


_TemplateLoader.add_multi_constructor("!", lambda _loader, _tag, _node: None)


@cache
def table_schema() -> dict[str, Any]:
    """CreateTable's arguments, taken from the table in the template: tests and deployment cannot drift apart."""
    template = yaml.load((ROOT / "template.yaml").read_text(), _TemplateLoader)  # noqa: S506 - a safe one
    properties = template["Resources"]["LedgerTable"]["Properties"]
    schema = {name: properties[name] for name in _CREATED_WITH}
    schema["GlobalSecondaryIndexes"] = [
        {name: value for name, value in index.items() if value is not None}
        for index in schema["GlobalSecondaryIndexes"]
    ]
    schema["StreamSpecification"] = {**schema["StreamSpecification"], "StreamEnabled": True}
    return schema


@dataclass(frozen=True)
class Table:
    """A table of an emulator; `tenant` is one that no other test uses."""

    client: "DynamoDBClient"
    settings: Settings
    tenant: str

    def item(self, pk: str, sk: str) -> dict[str, Any] | None:
        key: Any = {"pk": {"S": pk}, "sk": {"S": sk}}
        answer = self.client.get_item(TableName=self.settings.table_name, Key=key, ConsistentRead=True)
        return cast("dict[str, Any] | None", answer.get("Item"))

    def items(self, pk: str) -> list[dict[str, Any]]:
        """All items of a partition, by sort key."""
        pages = self.client.get_paginator("query").paginate(
            TableName=self.settings.table_name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": pk}},
            ConsistentRead=True,
        )
        return [cast("dict[str, Any]", item) for page in pages for item in page["Items"]]

    def put(self, *items: Any) -> None:
        """Put items, as they are."""
        batch_put(self.client, self.settings.table_name, items, make_backoff())


def create_table(client: "DynamoDBClient", name: str) -> None:
    client.create_table(TableName=name, **table_schema())
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})


def new_client(url: str | None = None) -> "DynamoDBClient":
    return boto3.client(
        "dynamodb",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=_CONFIG,
    )


@contextlib.contextmanager
def running_ministack(folder: Path, *, enforce_iam: bool = False) -> Iterator[str]:
    """Run the emulator on a free port until the block ends; give its URL.

    Parameters
    ----------
    enforce_iam
        Refuse what the caller's role does not allow, with what the local cloud mends in the emulator for that.
    """
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    stored = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    url = f"http://{HOST}:{port}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own
            [sys.executable, "-m", "local.cloud.ministack_emulator" if enforce_iam else "ministack"],
            cwd=ROOT,
            env=stored
            | {
                "GATEWAY_PORT": str(port),
                "BIND_HOST": HOST,
                "IOT_MTLS_ENABLED": "0",
                "PERSIST_STATE": "0",
                "STATE_DIR": str(folder / "state"),
                "TMPDIR": str(folder),
                "S3_DATA_DIR": str(folder / "s3"),
                "LOG_LEVEL": "WARNING",
                "AUTH": str(enforce_iam).lower(),
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(trust_env=False, timeout=2) as client:
            poll(lambda: _answers(client, url) or process.poll() is not None, interval=0.05)
        if process.poll() is not None:
            raise RuntimeError(f"ministack did not start: {(folder / 'log').read_text()[-2000:]}")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/_ministack/health").is_success
    except httpx.TransportError:
        return False


def make_backoff(time_left: FakeTime | None = None) -> Backoff:
    """Patience that waits on a clock of its own: tests do not sleep."""
    fake = time_left or FakeTime()
    return Backoff(fake.remaining_ms, fake.sleep)


@contextlib.contextmanager
def counted_calls(client: "DynamoDBClient") -> Iterator[Counter[str]]:
    """Count the requests that are really sent, by operation, retries of the SDK's own included."""
    calls: Counter[str] = Counter()

    def count(**event: Any) -> None:
        calls[event["event_name"].rpartition(".")[2]] += 1

    client.meta.events.register("before-send.dynamodb", count)
    try:
        yield calls
    finally:
        client.meta.events.unregister("before-send.dynamodb", count)


Around = Callable[[str, Callable[[], Any], dict[str, Any]], Any]


class _Intercepted:
    def __init__(self, client: "DynamoDBClient", around: Around) -> None:
        self._client = client
        self._around = around

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        method = getattr(self._client, operation)

        def call(**arguments: Any) -> Any:
            return self._around(operation, lambda: method(**arguments), arguments)

        return call


def intercepted(client: "DynamoDBClient", around: Around) -> "DynamoDBClient":
    """A client whose every call goes through `around(operation, call, arguments)`."""
    return cast("DynamoDBClient", _Intercepted(client, around))
