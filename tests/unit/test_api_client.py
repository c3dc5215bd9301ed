"""The API client: response times include retries and waits; task ids that fit into a path."""

from typing import Final

import httpx
import pytest

from local.api_client import ApiClient, ApiError, fits_path
from local.cloud.stack import Client, Stack
from tasklatch.domain import addressing

URL: Final = "http://service"
ANSWER_SECONDS: Final = 4.0
STACK: Final = Stack(URL, f"{URL}/token", "", "", "", {"worker": Client("id", "secret", "tasklatch/report")}, "", "")


class Clock:
    """Time that passes only when somebody waits."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def client_of(clock: Clock, monkeypatch: pytest.MonkeyPatch, *statuses: int) -> ApiClient:
    """Make a client of a service that takes its time and answers each request with the next status."""
    left = list(statuses)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            return httpx.Response(200, json={"access_token": "token", "expires_in": 3600})
        clock.sleep(ANSWER_SECONDS)
        return httpx.Response(left.pop(0), json={"detail": "as arranged"})

    real = httpx.Client
    monkeypatch.setattr(
        "local.api_client.httpx.Client", lambda **_settings: real(transport=httpx.MockTransport(answer))
    )
    return ApiClient(STACK, sleep=clock.sleep, clock=clock.monotonic)


def test_wait_counts_from_the_first_try_to_the_answer(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of(clock, monkeypatch, 503, 502, 200) as client:
        reply = client.request("worker", "POST", "executions", body={})

    assert reply.sends == 3
    assert reply.seconds == clock.now > 3 * ANSWER_SECONDS


def test_answer_to_the_first_try_is_sent_once(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of(clock, monkeypatch, 200) as client:
        reply = client.request("worker", "POST", "executions", body={})

    assert (reply.sends, reply.seconds) == (1, ANSWER_SECONDS)


def test_error_has_the_number_of_sends(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of(clock, monkeypatch, 503, 409) as client, pytest.raises(ApiError) as refusal:
        client.request("worker", "POST", "executions", body={})

    assert refusal.value.sends == 2


@pytest.mark.parametrize(
    "task_id",
    [
        "plain",
        "a b",
        "a#b",
        "50%",
        "a/b",
        "a\\b",
        "a?b",
        "a;b",
        "a\ufffdb",
        ".",
        "..",
        "...",
        ".a",
        "naïve",
        "a+b",
        '"q"',
    ],
)
def test_client_and_service_agree_on_what_a_path_can_name(task_id: str) -> None:
    assert fits_path(task_id) == addressing.fits_path(task_id)
