"""The functions that consume a queue or the stream, on a batch with nothing in it.

The local cloud starts their processes with one before they are needed.
"""

import pytest

from local.handlers import load_handler
from tests.factories import Context

CONSUMERS = ("notifier", "retry_dispatcher", "retry_scheduler", "workflow_advancer")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "us-east-1")
    for name in ("TABLE_NAME", "EVENT_BUS_NAME", "SCHEDULE_GROUP", "TIMER_QUEUE_ARN", "SCHEDULE_ROLE_ARN"):
        monkeypatch.setenv(name, "unused")
    for name in ("TIMER_QUEUE_URL", "DEAD_LETTER_QUEUE_URL", "LIVE_CALLBACK_URL"):
        monkeypatch.setenv(name, "https://unused.invalid/")


@pytest.mark.parametrize("function", CONSUMERS)
def test_an_empty_batch_has_no_failures(function: str) -> None:
    # when
    response = load_handler(function).handler({"Records": []}, Context())

    # then
    assert response == {"batchItemFailures": []}
