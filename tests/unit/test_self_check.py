"""`make up` fails with the cause if the API responds but the background functions do not run."""

from types import SimpleNamespace
from typing import Any, Final, Self, cast

import pytest

from local.api_client import ApiError
from local.cloud.self_check import PREFIX, check_background
from local.cloud.stack import LocalCloudError, Stack

SECONDS: Final = 0.05
STACK: Final = cast("Stack", None)


class Service:
    """A service whose API answers, and whose timers and dependents work or not."""

    def __init__(self, *, has_timers: bool = True, has_dependents: bool = True) -> None:
        self.has_timers = has_timers
        self.has_dependents = has_dependents
        self.calls: list[tuple[str, ...]] = []
        self.tasks = {"retried": ("SCHEDULED", 1), "dependent": ("PENDING", 1)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing is held."""

    def request(self, _client: str, method: str, *path: str, body: dict[str, Any] | None = None) -> SimpleNamespace:
        self.calls.append((method, *path))
        if path[-1] == "status":
            self._report(path[3], str((body or {})["status"]))
        status, attempt = self.tasks.get(path[-1], ("", 0))
        return SimpleNamespace(body={"status": status, "attempt": attempt})

    def _report(self, task_id: str, status: str) -> None:
        self.tasks[task_id] = (status, self.tasks[task_id][1])
        if status == "FAILED" and self.has_timers:
            self.tasks[task_id] = ("SCHEDULED", 2)
        if status == "COMPLETED" and task_id == "retried" and self.has_dependents:
            self.tasks["dependent"] = ("SCHEDULED", 1)


def check(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.cloud.self_check.ApiClient", lambda _stack, **_settings: service)
    check_background(STACK, SECONDS)


def test_check_leaves_an_execution_that_is_over_and_named_for_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()

    check(service, monkeypatch)

    assert {status for status, _ in service.tasks.values()} == {"COMPLETED"}
    assert all(call[2].startswith(PREFIX) for call in service.calls if len(call) > 2)


@pytest.mark.parametrize(
    ("service", "missing"),
    [
        (Service(has_timers=False), "a retry that was due after 1 s was not opened within 0.05 s"),
        (Service(has_dependents=False), "a task was not scheduled within 0.05 s of its dependency's end"),
    ],
    ids=["timers", "dependents"],
)
def test_what_does_not_come_is_named_and_the_execution_cancelled(
    service: Service, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LocalCloudError, match=missing):
        check(service, monkeypatch)

    assert service.calls[-1][-1] == "cancel"


def test_rejection_by_the_api_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    monkeypatch.setattr(service, "request", _refuse)

    with pytest.raises(LocalCloudError, match="does not work: POST /v1/executions: 500"):
        check(service, monkeypatch)


def _refuse(*_arguments: Any, **_body: Any) -> None:
    raise ApiError("POST /v1/executions", 500, {})
