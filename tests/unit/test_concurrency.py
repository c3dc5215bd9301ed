"""Calls that go side by side: four at once, all awaited, their results in order."""

import threading
from typing import Any

import pytest

from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.notifications.broadcast import WatcherBroadcast
from tasklatch.notifications.websockets import WebSocketConnections
from tasklatch.runtime.concurrency import map_concurrently
from tests.factories import fixed_clock
from tests.integration.emulators import make_backoff
from tests.workflow_helpers import SETTINGS, FakeClient

LONGEST_WAIT = 10


def meeting(count: int) -> threading.Barrier:
    """Where calls wait for each other: they only go on if as many are made at once."""
    return threading.Barrier(count, timeout=LONGEST_WAIT)


def test_four_calls_are_made_at_once_and_answer_in_order() -> None:
    # given
    together = meeting(4)

    def call(value: int) -> int:
        together.wait()
        return value * 2

    # when
    results = map_concurrently(call, range(8))

    # then
    assert results == [0, 2, 4, 6, 8, 10, 12, 14]


def test_a_single_call_needs_no_thread() -> None:
    assert map_concurrently(lambda _: threading.current_thread(), ["one"]) == [threading.current_thread()]


def test_an_error_is_raised_when_all_calls_have_ended() -> None:
    # given
    may_end, ended = threading.Event(), list[int]()

    def call(value: int) -> None:
        if value == 0:
            may_end.set()
            raise LookupError("no")
        may_end.wait(LONGEST_WAIT)
        ended.append(value)

    # when
    with pytest.raises(LookupError, match="no"):
        map_concurrently(call, range(4))

    # then
    assert sorted(ended) == [1, 2, 3]


def test_hundred_items_are_put_by_four_calls_at_once() -> None:
    # given
    together = meeting(4)

    def put(**_: Any) -> dict[str, Any]:
        together.wait()
        return {"UnprocessedItems": {}}

    client: Any = FakeClient(batch_write_item=put)

    # when
    batch_put(client, "ledger", [{"pk": {"S": f"{number}"}} for number in range(100)], make_backoff())

    # then
    sizes = [len(request["RequestItems"]["ledger"]) for request in client.requests("batch_write_item")]
    assert sizes == [25, 25, 25, 25]


def test_watchers_of_four_executions_are_read_concurrently() -> None:
    # given
    together = meeting(4)

    def query(**_: Any) -> dict[str, Any]:
        together.wait()
        return {"Items": []}

    client: Any = FakeClient(query=query)
    callback: Any = FakeClient()
    messages = {("default", f"execution-{number}"): [{"type": "task.status"}] for number in range(4)}

    # when
    connections = WebSocketConnections(client, SETTINGS, fixed_clock, make_backoff())
    WatcherBroadcast(connections, lambda: callback, make_backoff()).broadcast(messages)

    # then
    assert len(client.requests("query")) == 4
    assert callback.calls == []
