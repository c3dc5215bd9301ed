"""Tables to run on: `table` on either emulator in turn, `statements_table` where PartiQL is needed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from moto import mock_aws

from local.handlers import load_handler
from tasklatch.runtime import services
from tasklatch.runtime.settings import Settings
from tests.api_gateway import HttpApi
from tests.factories import fresh_name
from tests.integration.emulators import Table, create_table, new_client, running_ministack
from tests.schedule_helpers import FakeQueue, FakeScheduler

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

RETENTION_DAYS = 90


def _table(client: "DynamoDBClient", name: str) -> Table:
    return Table(client, Settings(name, "", RETENTION_DAYS), tenant=fresh_name())


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator["DynamoDBClient"]:
    """A client of an emulator that runs for the whole session, with the table `ledger` in it."""
    folder: Path = tmp_path_factory.mktemp("ministack")
    with running_ministack(folder) as url:
        client = new_client(url)
        create_table(client, "ledger")
        yield client


@pytest.fixture
def statements_table(ministack: "DynamoDBClient") -> Table:
    """A table that takes PartiQL statements."""
    return _table(ministack, "ledger")


@pytest.fixture(scope="session")
def moto() -> "DynamoDBClient":
    """A client for moto: good only while `mock_aws` is in force."""
    return new_client()


@pytest.fixture(params=["moto", "ministack"])
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """A table for plain calls, on each emulator."""
    if request.param == "ministack":
        yield request.getfixturevalue("statements_table")
        return
    with mock_aws():
        client = request.getfixturevalue("moto")
        create_table(client, "ledger")
        yield _table(client, "ledger")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, "DynamoDBClient"], ModuleType]:
    """Load a function's handler with a client of the test's own."""

    def load_with(function: str, client: "DynamoDBClient") -> ModuleType:
        module = load_handler(function)
        monkeypatch.setattr(services, "dynamodb", lambda: client)
        return module

    return load_with


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> FakeScheduler:
    """EventBridge Scheduler in memory, with a queue for its checks."""
    scheduler, queue = FakeScheduler(), FakeQueue()
    monkeypatch.setattr(services, "scheduler", lambda: scheduler)
    monkeypatch.setattr(services, "sqs", lambda: queue)
    return scheduler


@pytest.fixture
def http_api(ministack: "DynamoDBClient", scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch) -> HttpApi:
    """The API as callers see it, over an emulated table; which tokens are good is up to the test."""
    assert scheduler.schedules == {}
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack.meta.endpoint_url)
    return HttpApi({})
