"""Local programs retry transient failures, and no longer than their deadline."""

import io
from collections.abc import Callable
from typing import Any, Final

import boto3
import httpx
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from local.api_client import ApiClient, ApiError
from local.backoff import DeadlineBackoff, TransientError
from local.cloud.stack import Client, Stack
from local.retrying_client import RetryingClient

URL: Final = "https://sqs.us-east-1.amazonaws.com/1/work"
Step = Exception | tuple[int, str]
TAKEN: Final = (200, "{}")
THROTTLED: Final = (400, '{"__type": "com.amazonaws.sqs#RequestThrottled"}')
UNAVAILABLE: Final = (503, "<html>no json</html>")
REFUSED: Final = (400, '{"__type": "com.amazonaws.sqs#ReceiptHandleIsInvalid"}')


class Clock:
    """Time that passes only by being slept away."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def backoff(self, deadline_seconds: float = 60.0) -> DeadlineBackoff:
        return DeadlineBackoff(deadline_seconds, sleep=self.sleep, clock=self)


class Body(io.BytesIO):
    def stream(self, **_: object) -> list[bytes]:
        return [self.read()]


class Wire:
    """What a real SQS client gets instead of a connection: one step a request, the last one for all that follow."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests = 0

    def __call__(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        self.requests += 1
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return AWSResponse(request.url, step[0], HTTPHeaders(), Body(step[1].encode()))

    def client(self, backoff: DeadlineBackoff) -> Any:
        config = Config(retries={"total_max_attempts": 1})
        session = boto3.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
        make: Callable[..., Any] = session.client
        client = make("sqs", config=config)
        client.meta.events.register("before-send.sqs", self)
        return RetryingClient(client, backoff)


@pytest.mark.parametrize(
    "failure",
    [
        EndpointConnectionError(endpoint_url=URL),
        ConnectionClosedError(endpoint_url=URL),
        ConnectTimeoutError(endpoint_url=URL),
        ReadTimeoutError(endpoint_url=URL),
        UNAVAILABLE,
        (500, '{"__type": "InternalFailure"}'),
        THROTTLED,
        (429, '{"__type": "TooManyRequestsException"}'),
    ],
    ids=str,
)
def test_aws_call_that_fails_for_a_cause_that_passes_is_made_again(failure: Step) -> None:
    # given
    wire = Wire(failure, failure, TAKEN)
    sqs = wire.client(Clock().backoff())

    # when
    sqs.delete_message(QueueUrl=URL, ReceiptHandle="r")

    # then
    assert wire.requests == 3


@pytest.mark.parametrize("failure", [EndpointConnectionError(endpoint_url=URL), THROTTLED], ids=str)
def test_aws_call_fails_at_its_deadline_with_the_original_error(failure: Step) -> None:
    # given
    clock = Clock()
    wire = Wire(failure)

    # when
    with pytest.raises((BotoCoreError, ClientError)) as raised:
        wire.client(clock.backoff(30)).delete_message(QueueUrl=URL, ReceiptHandle="r")

    # then
    assert not isinstance(raised.value, TransientError)
    assert 27 <= clock.now <= 30
    assert wire.requests > 10


def test_aws_call_that_is_refused_is_not_made_again() -> None:
    wire = Wire(REFUSED, TAKEN)

    with pytest.raises(ClientError, match="ReceiptHandleIsInvalid"):
        wire.client(Clock().backoff()).delete_message(QueueUrl=URL, ReceiptHandle="r")

    assert wire.requests == 1


def test_client_can_do_what_a_plain_one_can_besides_calls() -> None:
    sqs = Wire(TAKEN).client(Clock().backoff())

    assert sqs.meta.service_model.service_name == "sqs"
    assert sqs.can_paginate("list_queues")
    assert issubclass(sqs.exceptions.QueueDoesNotExist, ClientError)


def test_every_client_of_the_stack_is_patient() -> None:
    stack = Stack("http://api", "http://token", "us-east-1", "http://127.0.0.1:1", "ledger", {}, "ws://live", "bus")

    assert isinstance(stack.aws("sqs"), RetryingClient)


def test_token_and_request_are_retried_while_the_service_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    token = {"access_token": "t", "expires_in": 3600}
    steps: list[httpx.Response | Exception] = [
        httpx.ConnectError("away"),
        httpx.Response(503),
        httpx.Response(200, json=token),
        httpx.Response(429, headers={"retry-after": "0"}),
        httpx.ReadError("reset"),
        httpx.Response(200, json={"items": []}),
    ]

    def answer(_: httpx.Request) -> httpx.Response:
        step = steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    stack = Stack(
        "http://api", "http://token", "us-east-1", "http://aws", "ledger", {"reader": Client("i", "s", "x")}, "ws", "b"
    )
    clock = Clock()
    api = ApiClient(stack, sleep=clock.sleep, clock=clock)
    monkeypatch.setattr(api, "_http", httpx.Client(transport=httpx.MockTransport(answer)))
    monkeypatch.setattr(api._tokens["reader"], "_http", api._http)

    # when
    reply = api.request("reader", "GET", "executions")

    # then
    assert reply.body == {"items": []}
    assert reply.sends == 5
    assert steps == []


def test_rejected_token_request_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(
        "http://api", "http://token", "us-east-1", "http://aws", "ledger", {"reader": Client("i", "s", "x")}, "ws", "b"
    )
    api = ApiClient(stack)
    refusing = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(401)))
    monkeypatch.setattr(api._tokens["reader"], "_http", refusing)

    with pytest.raises(ApiError, match="401"):
        api.request("reader", "GET", "executions")


def test_wait_is_as_long_as_the_service_requests() -> None:
    # given
    clock = Clock()
    failures = [TransientError(ValueError("busy"), 7.0)]

    def attempt(number: int) -> int:
        if failures:
            raise failures.pop()
        return number

    # when, then
    assert clock.backoff().run(attempt) == 2
    assert clock.now == 7.0
