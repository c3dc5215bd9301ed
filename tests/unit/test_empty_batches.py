"""The functions that consume a queue or the stream, on a batch with nothing in it.

The local cloud starts their processes with one before they are needed.
"""

import pytest

from local.handlers import load_handler
from tests.factories import Context

CONSUMERS = ("notifier", "retry_dispatcher", "retry_scheduler", "workflow_advancer")


@pytest.mark.parametrize("function", CONSUMERS)
def test_an_empty_batch_has_no_failures(function: str) -> None:
    # when
    response = load_handler(function).handler({"Records": []}, Context())

    # then
    assert response == {"batchItemFailures": []}
