"""Emulator against which the explorer's table is compared, and on which the stateful property tests run."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.integration.emulators import create_table, new_client, running_ministack

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator["DynamoDBClient"]:
    """Yield a client of an emulator that runs for the whole session, with the table `ledger` in it."""
    with running_ministack(tmp_path_factory.mktemp("ministack")) as url:
        client = new_client(url)
        create_table(client, "ledger")
        yield client
