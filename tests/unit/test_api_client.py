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


def requests_of(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """Serve all requests, and return the list that they are added to."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"access_token": "requested", "expires_in": 3600})

    real = httpx.Client
    monkeypatch.setattr("local.api_client.httpx.Client", lambda **_: real(transport=httpx.MockTransport(answer)))
    return requests


def test_access_token_that_exists_is_sent_and_none_is_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = requests_of(monkeypatch)

    with ApiClient(STACK, access_tokens={"worker": "of the user"}) as client:
        client.request("worker", "GET", "executions")

    [request] = requests
    assert request.headers["authorization"] == "Bearer of the user"


def test_request_of_nobody_has_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = requests_of(monkeypatch)

    with ApiClient(STACK) as client:
        client.request(None, "GET", "health")

    [request] = requests
    assert "authorization" not in request.headers


def test_base_and_headers_are_sent_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = requests_of(monkeypatch)

    with ApiClient(STACK) as client:
        client.request("worker", "GET", "a/b", headers={"Idempotency-Key": "k"}, base="api/v1/projects/p")

    assert requests[-1].url.raw_path == b"/api/v1/projects/p/a%2Fb"
    assert requests[-1].headers["idempotency-key"] == "k"
    assert requests[-1].headers["authorization"] == "Bearer requested"


def test_response_without_a_body_has_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            return httpx.Response(200, json={"access_token": "token", "expires_in": 3600})
        return httpx.Response(204, headers={"content-type": "application/json"})

    real = httpx.Client
    monkeypatch.setattr("local.api_client.httpx.Client", lambda **_: real(transport=httpx.MockTransport(answer)))
    with ApiClient(STACK) as client:
        reply = client.request("worker", "DELETE", "flow-executions", "id", base="api")

    assert (reply.status, reply.body) == (204, "")
