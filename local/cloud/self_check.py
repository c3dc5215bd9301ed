"""Self-check of the local cloud's background functions: a timer opens a retry, and a dependent task is scheduled.

A response of the API does not prove this: the steps after a report run behind streams and queues, and no error appears
if those feed no function.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

from local.api_client import ApiClient, ApiError
from local.cloud.stack import LocalCloudError, Stack

PREFIX: Final = "self-check-"
"""Prefix of the ids of executions that `make up` creates."""

_SECONDS: Final = 120.0
_CALL_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1
_RETRY_POLICY: Final = {"maxAttempts": 2, "initialSeconds": 1, "maxSeconds": 1, "jitter": 0}


def check_background(stack: Stack, seconds: float = _SECONDS) -> None:
    """Fail an attempt, wait for its retry, complete it and wait for the task that depends on it.

    Parameters
    ----------
    seconds
        Time limit of each of the two waits.

    Raises
    ------
    LocalCloudError
        If a wait exceeds the time limit, or the API rejects a request.
    """
    with ApiClient(stack, deadline_seconds=_CALL_SECONDS) as api:
        execution_id = f"{PREFIX}{uuid4()}"
        try:
            _run(api, execution_id, seconds)
        except (ApiError, LocalCloudError) as error:
            with suppress(ApiError, LocalCloudError):
                api.request("operator", "POST", "executions", execution_id, "cancel", body={})
            raise LocalCloudError(f"The local cloud does not work: {error}") from error


def _run(api: ApiClient, execution_id: str, seconds: float) -> None:
    tasks = [{"taskId": "retried", "retryPolicy": _RETRY_POLICY}, {"taskId": "dependent", "dependsOn": ["retried"]}]
    body = {"executionId": execution_id, "name": "self-check of make up", "tasks": tasks}
    api.request("operator", "POST", "executions", body=body)
    _report(api, execution_id, "retried", attempt=1, status="FAILED")
    if not _is_scheduled(api, execution_id, "retried", attempt=2, seconds=seconds):
        raise LocalCloudError(f"a retry that was due after 1 s was not opened within {seconds:g} s ({execution_id})")
    _report(api, execution_id, "retried", attempt=2, status="COMPLETED")
    if not _is_scheduled(api, execution_id, "dependent", attempt=1, seconds=seconds):
        raise LocalCloudError(f"a task was not scheduled within {seconds:g} s of its dependency's end ({execution_id})")
    _report(api, execution_id, "dependent", attempt=1, status="COMPLETED")


def _report(api: ApiClient, execution_id: str, task_id: str, **report: Any) -> None:
    api.request("worker", "POST", "executions", execution_id, "tasks", task_id, "status", body=report)


def _is_scheduled(api: ApiClient, execution_id: str, task_id: str, *, attempt: int, seconds: float) -> bool:
    """Wait until an attempt is open; return False if it does not open in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        task: Mapping[str, Any] = api.request("reader", "GET", "executions", execution_id, "tasks", task_id).body
        if (task["status"], task["attempt"]) == ("SCHEDULED", attempt):
            return True
        time.sleep(_POLL_SECONDS)
    return False
