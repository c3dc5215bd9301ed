"""Waiting out a busy table, on a clock that only moves when someone sleeps."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from botocore.loaders import Loader

from tasklatch.domain.errors import ServiceBusyError
from tasklatch.runtime.aws_errors import BUSY_CODES
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tests.factories import FakeTime

URL = "http://localhost"


def refused(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "UpdateItem",
    )


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = [times]

    def request() -> str:
        if left[0]:
            left[0] -= 1
            raise error
        return "done"

    return request


PASSING: list[Any] = [
    *(pytest.param(refused(code), id=code) for code in sorted(BUSY_CODES)),
    pytest.param(refused("Whatever", 500), id="any 500"),
    pytest.param(refused("503", 503), id="any 503"),
    ReadTimeoutError(endpoint_url=URL),
    ConnectTimeoutError(endpoint_url=URL),
    EndpointConnectionError(endpoint_url=URL),
    ConnectionClosedError(endpoint_url=URL),
]


@pytest.mark.parametrize("error", PASSING)
def test_call_is_made_again_while_the_table_is_busy(error: Exception) -> None:
    time = FakeTime(left_ms=60_000)
    assert Backoff(time.remaining_ms, time.sleep).run(failing(4, error)) == "done"
    assert len(time.slept) == 4


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("dynamodb", "ProvisionedThroughputExceededException"),
        ("dynamodb", "ThrottlingException"),
        ("events", "ThrottlingException"),
        ("sqs", "RequestThrottled"),
        ("apigatewaymanagementapi", "LimitExceededException"),
    ],
)
def test_throttling_error_of_every_service_is_recognized(service: str, code: str) -> None:
    # given: a service that calls it so
    shapes = Loader().load_service_model(service, "service-2")["shapes"]
    assert shapes[code]["exception"]

    # then
    assert code in BUSY_CODES


@pytest.mark.parametrize("code", ["ConditionalCheckFailedException", "ValidationException", "AccessDeniedException"])
def test_refusal_for_another_cause_is_passed_on_at_once(code: str) -> None:
    time = FakeTime()
    with pytest.raises(ClientError):
        Backoff(time.remaining_ms, time.sleep).run(failing(1, refused(code)))
    assert time.slept == []


@pytest.mark.parametrize("left_ms", [0, 4_000, 8_000, 15_000, 29_000])
def test_it_gives_up_while_there_is_time_to_answer(left_ms: int) -> None:
    # given
    time = FakeTime(left_ms=left_ms)

    # when
    with pytest.raises(ServiceBusyError) as caught:
        Backoff(time.remaining_ms, time.sleep).run(failing(10_000, refused("ThrottlingException")))

    # then
    assert time.left_ms >= min(left_ms, 1_000)
    assert caught.value.retry_after_seconds >= 1
    assert sum(time.slept) * 1000 <= left_ms


def test_no_call_starts_that_might_not_end_in_time() -> None:
    # given
    time = FakeTime(left_ms=4_000)
    created: list[str] = []

    # when
    with pytest.raises(ServiceBusyError):
        Backoff(time.remaining_ms, time.sleep).run(lambda: created.append("call"))

    # then
    assert not created


@pytest.mark.parametrize("draw", [0.0, 1.0])
def test_waits_are_drawn_from_nothing_up_to_a_ceiling_that_doubles(
    monkeypatch: pytest.MonkeyPatch, draw: float
) -> None:
    # given
    monkeypatch.setattr(random, "uniform", lambda low, high: low + (high - low) * draw)
    time = FakeTime(left_ms=60_000)

    # when
    Backoff(time.remaining_ms, time.sleep).run(failing(9, refused("ThrottlingException")))

    # then
    ceilings = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert time.slept == pytest.approx([ceiling * draw for ceiling in ceilings])


def test_function_that_has_more_to_do_is_called_again_until_its_time_is_up() -> None:
    # given a function whose work is never done
    time = FakeTime(left_ms=20_000)
    calls: list[int] = []

    def work() -> None:
        calls.append(len(calls))
        if len(calls) == 5:
            time.left_ms = 0
        raise TryAgainError

    # when
    with pytest.raises(ServiceBusyError):
        Backoff(time.remaining_ms, time.sleep).run(work)

    # then
    assert calls == [0, 1, 2, 3, 4]
    assert len(time.slept) == 4


def test_function_within_a_function_is_called_again_alone() -> None:
    # given a function that sends a request at a busy service
    time = FakeTime()
    backoff = Backoff(time.remaining_ms, time.sleep)
    request = failing(2, refused("ThrottlingException"))
    calls: list[str] = []

    # when
    backoff.run(lambda: calls.append(backoff.run(request)))

    # then
    assert calls == ["done"]


def test_conditional_write_tells_whether_its_condition_held() -> None:
    # given
    time = FakeTime()
    backoff = Backoff(time.remaining_ms, time.sleep)
    busy, failed = failing(2, refused("ThrottlingException")), failing(1, refused("ConditionalCheckFailedException"))

    # then
    assert backoff.run_conditional(busy)
    assert not backoff.run_conditional(failed)
    with pytest.raises(ClientError):
        backoff.run_conditional(failing(1, refused("ValidationException")))
