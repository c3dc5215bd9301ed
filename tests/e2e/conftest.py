"""A local cloud for the tests alone: own folder, own ports, functions held to their roles, stopped at the end."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from local.__main__ import start, stop
from local.cloud.stack import Stack, StateDir
from local.cloud.tokens import fetch_token

HERE = Path(__file__).parent
REFUSED: Final = re.compile(r"assumed-role/[\w-]+?-(\w+)-\w+/\S+ is not authorized to perform: (\S+)")
# What `test_iam.py` takes away for a while
TAKEN_AWAY: Final = ("ReportStatusRole", "dynamodb:UpdateItem")
# For the commands too that tests run
os.environ["TASKLATCH_ENFORCE_IAM"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs against the cloud."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    """The folder of the tests' own cloud."""
    return StateDir(tmp_path_factory.mktemp("cloud"))


@pytest.fixture(scope="session")
def stack(state_dir: StateDir) -> Iterator[Stack]:
    """The service, deployed from the template into the tests' own cloud; at the end nothing had been refused to it."""
    try:
        yield start(state_dir)
    finally:
        stop(state_dir)
    # Much is tried again until it succeeds, or is driven on by something else: a test alone might not notice
    refused = set(REFUSED.findall(state_dir.log.read_text(encoding="utf-8", errors="replace")))
    assert refused <= {TAKEN_AWAY}


@pytest.fixture
def work_queue_url(stack: Stack) -> str:
    """The queue of the stack's workers, without what other tests have left in it."""
    stack.aws("sqs").purge_queue(QueueUrl=stack.work_queue_url)
    return stack.work_queue_url


@pytest.fixture
def worker(stack: Stack) -> Iterator[httpx.Client]:
    """What a worker calls the service with."""
    with _caller(stack, "worker") as client:
        yield client


@pytest.fixture
def reader(stack: Stack) -> Iterator[httpx.Client]:
    """What a monitoring program calls the service with."""
    with _caller(stack, "reader") as client:
        yield client


@pytest.fixture
def operator(stack: Stack) -> Iterator[httpx.Client]:
    """What those who run work call the service with."""
    with _caller(stack, "operator") as client:
        yield client


def _caller(stack: Stack, client: str) -> httpx.Client:
    token = fetch_token(stack, client)
    return httpx.Client(
        base_url=stack.api_url, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False
    )
