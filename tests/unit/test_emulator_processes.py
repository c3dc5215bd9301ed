"""A queue is served by as many processes as one machine can use, and never by more than its mapping allows."""

from typing import Any

import pytest
from ministack.services import lambda_svc

from local.cloud.emulator_processes import bound_queue_processes
from local.cloud.stack import QUEUE_PROCESSES


@pytest.mark.parametrize(
    ("mapping", "queue", "expected"),
    [
        ({"ScalingConfig": {"MaximumConcurrency": 100}}, {}, QUEUE_PROCESSES),
        # As a parameter of a template gives it
        ({"ScalingConfig": {"MaximumConcurrency": "100"}}, {}, QUEUE_PROCESSES),
        ({}, {}, QUEUE_PROCESSES),
        ({}, {"is_fifo": True}, 1),
    ],
    ids=["as many as Lambda would", "a number as text", "as the emulator does by itself", "in order"],
)
def test_queue_is_served_by_no_more_processes_than_are_warm(
    mapping: dict[str, Any], queue: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lambda_svc, "_sqs_esm_concurrency", lambda_svc._sqs_esm_concurrency)
    bound_queue_processes()

    assert lambda_svc._sqs_esm_concurrency(mapping, {}, {}, queue) == expected
