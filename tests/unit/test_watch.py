"""The watcher handles repeated and missed messages and lost connections."""

import json
from collections.abc import Iterator
from typing import Any, Self, cast

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidHandshake

from local import watch
from local.api_client import ApiClient, Reply
from local.backoff import DeadlineBackoff
from local.cloud.stack import LocalCloudError
from local.watch import ExecutionFeed, StatusUpdate, format_update

AT = "2026-01-17T22:58:44.456Z"


class Service:
    """An execution whose tasks are as the last message on them, or what was missed, says."""

    def __init__(self) -> None:
        self.tasks = {"a": ("PENDING", 1), "b": ("PENDING", 1)}
        self.status = "RUNNING"
        self.tickets = 0

    def request(self, client: str, method: str, *path: str, body: Any = None, query: Any = None) -> Reply:
        assert (client, path[:2], body, query) == ("reader", ("executions", "night"), None, None)
        if method == "POST":
            self.tickets += 1
            return Reply(200, {"url": f"ws://live?ticket={self.tickets}"}, {}, 1, 0.0)
        version = 1 if self.status == "RUNNING" else 2
        counts = {"PENDING": sum(status == "PENDING" for status, _ in self.tasks.values())}
        return Reply(200, {"status": self.status, "version": version, "updatedAt": AT, "counts": counts}, {}, 1, 0.0)

    def paginate(self, client: str, *path: str) -> Iterator[dict[str, Any]]:
        assert (client, path[-1]) == ("reader", "tasks")
        for name, (status, version) in self.tasks.items():
            yield {"taskId": name, "status": status, "version": version, "updatedAt": AT, "attempt": 1}


class Socket:
    """Plays a script: messages, and what happens to the service meanwhile."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.sent: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def send(self, message: str) -> None:
        self.sent.append(message)

    def recv(self, timeout: float) -> str:
        assert timeout > 0
        step = self.script.pop(0) if self.script else ConnectionClosedError(None, None)
        if callable(step):
            step()
            return self.recv(timeout)
        if isinstance(step, BaseException):
            raise step
        return json.dumps(step)


def _task(name: str, status: str, version: int) -> dict[str, Any]:
    messages = {"executionId": "night", "taskId": name, "status": status, "version": version, "attempt": 1, "at": AT}
    return {"type": "task.status", **messages}


def _end(status: str) -> dict[str, Any]:
    return {"type": "execution.status", "executionId": "night", "status": status, "version": 2, "at": AT}


def _updates(service: Service, sockets: list[Any], monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, str, int]]:
    def connect(url: str, **_: Any) -> Socket:
        assert url == f"ws://live?ticket={service.tickets}"
        socket = sockets.pop(0)
        if isinstance(socket, BaseException):
            raise socket
        return cast("Socket", socket)

    monkeypatch.setattr(watch, "connect", connect)
    monkeypatch.setattr(watch, "_POLL_SECONDS", 0.0)
    backoff = DeadlineBackoff(10.0, sleep=lambda _: None, clock=iter(range(1000)).__next__)
    result = list(ExecutionFeed(cast("ApiClient", service), "night", backoff).updates())
    return [(item.task_id, item.status, item.version) for item in result]


def _set(service: Service, **tasks: tuple[str, int]) -> Any:
    return lambda: service.tasks.update(tasks)


def _over(service: Service, status: str = "COMPLETED") -> Any:
    return lambda: setattr(service, "status", status)


FIRST = [("a", "PENDING", 1), ("b", "PENDING", 1), (None, "RUNNING", 1)]
DONE = {"a": ("COMPLETED", 3), "b": ("COMPLETED", 2)}


def test_repeated_update_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    messages = [
        _task("a", "SCHEDULED", 2),
        _task("a", "SCHEDULED", 2),
        _task("a", "PENDING", 1),
        _task("a", "COMPLETED", 3),
    ]
    socket = Socket(*messages, _task("b", "COMPLETED", 2), _set(service, **DONE), _over(service), _end("COMPLETED"))

    result = _updates(service, [socket], monkeypatch)

    assert result == [
        *FIRST,
        *(("a", "SCHEDULED", 2), ("a", "COMPLETED", 3), ("b", "COMPLETED", 2), (None, "COMPLETED", 2)),
    ]


def test_changes_that_were_missed_without_a_connection_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    broken = Socket(_task("a", "SCHEDULED", 2), _set(service, **DONE))
    second = Socket(_over(service), _end("COMPLETED"))

    result = _updates(service, [broken, second], monkeypatch)

    assert result == [
        *FIRST,
        *(("a", "SCHEDULED", 2), ("a", "COMPLETED", 3), ("b", "COMPLETED", 2), (None, "COMPLETED", 2)),
    ]
    assert service.tickets == 2


def test_without_messages_the_tasks_are_listed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    silent = Socket(_set(service, **DONE), _over(service), TimeoutError())

    result = _updates(service, [silent], monkeypatch)

    assert result == [*FIRST, ("a", "COMPLETED", 3), ("b", "COMPLETED", 2), (None, "COMPLETED", 2)]


@pytest.mark.parametrize(("every", "sent"), [(-1.0, 3), (3600.0, 0)])
def test_ping_keeps_the_connection(monkeypatch: pytest.MonkeyPatch, every: float, sent: int) -> None:
    service = Service()
    monkeypatch.setattr(watch, "_PING_SECONDS", every)
    socket = Socket(TimeoutError(), TimeoutError(), _set(service, **DONE), _over(service), _end("COMPLETED"))

    _updates(service, [socket], monkeypatch)

    assert socket.sent == ['{"action": "ping"}'] * sent


def test_task_that_is_cancelled_after_the_end_is_still_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    looks: list[None] = []
    call = service.request

    def calling(*arguments: Any, **names: Any) -> Reply:
        looks.append(None)
        if service.status == "FAILED" and len(looks) > 5:
            service.tasks["b"] = ("CANCELED", 2)
        return call(*arguments, **names)

    service.request = calling  # type: ignore[method-assign]
    socket = Socket(_set(service, a=("FAILED_WITH_TERMINAL_ERROR", 2)), _over(service, "FAILED"), _end("FAILED"))

    result = _updates(service, [socket], monkeypatch)

    assert result[-1] == ("b", "CANCELED", 2)


def test_refused_connection_is_retried_with_another_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    socket = Socket(_set(service, **DONE), _over(service), _end("COMPLETED"))

    result = _updates(service, [InvalidHandshake(), OSError("away"), socket], monkeypatch)

    assert result[-1] == ("b", "COMPLETED", 2)
    assert service.tickets == 3


def test_connection_that_is_always_refused_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LocalCloudError, match="refused the connection"):
        _updates(Service(), [OSError("away")] * 1000, monkeypatch)


def test_line_has_time_task_status_and_reason() -> None:
    update = StatusUpdate("expose [east]", "FAILED", 4, AT, attempt=2, reason="RATE_LIMITED")

    assert format_update(update) == r"22:58:44.456  expose \[east] #2 [red]FAILED[/red] RATE_LIMITED"
