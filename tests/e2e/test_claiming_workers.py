"""Workers that know only addresses, a client's id and its secret: they take work through, and one is killed at it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from local.api_client import ApiClient
from local.cloud.stack import ROOT, Stack
from tests.polling import poll

RETRY = {"initialSeconds": 0, "jitter": 0, "maxAttempts": 3}


@pytest.fixture
def api(stack: Stack) -> Iterator[ApiClient]:
    with ApiClient(stack) as api:
        yield api


@contextmanager
def running_worker(stack: Stack, queue: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker that has no AWS variable until the block ends."""
    client = stack.clients["worker"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS")} | {
        "TASKLATCH_URL": stack.api_url,
        "TASKLATCH_TOKEN_URL": stack.token_url,
        "TASKLATCH_CLIENT_ID": client.client_id,
        "TASKLATCH_CLIENT_SECRET": client.client_secret,
        "TASKLATCH_QUEUE": queue,
        "NO_PROXY": "*",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own
            [sys.executable, ROOT / "local" / "claiming_worker.py"], env=environment, stdout=out, stderr=out
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def test_workers_with_an_address_and_a_client_take_all_work_through_though_one_is_killed(
    stack: Stack, api: ApiClient, tmp_path: Path
) -> None:
    # given: more work than the first worker can do before it is killed
    execution_id, queue = f"replay-{uuid4()}", f"work-{uuid4()}"
    quick = [{"taskId": f"quick-{n}", "retryPolicy": RETRY, "heartbeatTimeoutSeconds": 30} for n in range(4)]
    slow = {"taskId": "slow", "priority": 9, "input": {"seconds": 600}, "heartbeatTimeoutSeconds": 5}
    last = {"taskId": "last", "dependsOn": [task["taskId"] for task in quick], "heartbeatTimeoutSeconds": 30}
    tasks = [*quick, {**slow, "retryPolicy": {**RETRY, "maxAttempts": 2}, "onFailure": "continue"}, last]
    body = {"executionId": execution_id, "queue": queue, "tasks": tasks}
    api.request("operator", "POST", "executions", body=body)

    def tasks_now() -> dict[str, dict[str, object]]:
        return {task["taskId"]: task for task in api.paginate("reader", "executions", execution_id, "tasks")}

    # when: the worker that has the urgent task dies with it, and another takes over
    with running_worker(stack, queue, tmp_path / "first") as first:
        poll(lambda: tasks_now()["slow"]["status"] == "IN_PROGRESS")
        first.send_signal(signal.SIGKILL)
        first.wait()
    poll(lambda: tasks_now()["slow"]["attempt"] == 2)
    with running_worker(stack, queue, tmp_path / "second"), running_worker(stack, queue, tmp_path / "third"):
        poll(lambda: all(task["status"] == "COMPLETED" for name, task in tasks_now().items() if name != "slow"))

    # then: nothing was handed out twice
    handed_out = [line for name in ("first", "second", "third") for line in (tmp_path / name).read_text().splitlines()]
    assert len(handed_out) == len(set(handed_out))
    assert f'["{execution_id}", "slow", 1]' in handed_out
    assert f'["{execution_id}", "slow", 2]' in handed_out
    history = list(api.paginate("reader", "executions", execution_id, "tasks", "slow", "history"))
    assert "TIMED_OUT" in [entry["status"] for entry in history]
