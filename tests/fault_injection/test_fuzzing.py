"""Every request to any route gets a response that the description allows, and never a 500."""

import os
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import ValidationError  # type: ignore[import-untyped]

from local.handlers import load_handler
from tasklatch.api.messages import Request, Response
from tasklatch.runtime import services
from tests.api_gateway import URL, HttpApi, operations
from tests.factories import ALL_SCOPES, Reply
from tests.fuzzing import (
    HostileRequest,
    Target,
    cases,
    check_case,
    check_reply,
    fuzz_settings,
    hostile_requests,
    keys_of_description,
    made_targets,
)
from tests.integration.emulators import create_table, new_client, running_ministack
from tests.schedule_helpers import FakeQueue, FakeScheduler
from tests.untrusted_input import MARKER, LogLines

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PROVING: Final = "TASKLATCH_PROVE" in os.environ
CASES_A_ROUTE: Final = 100 if PROVING else 10
KEYS: Final = keys_of_description()
GOOD: Final = f"good-{MARKER}"
TOKENS: Final = {GOOD: {"scope": ALL_SCOPES}}


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator["DynamoDBClient"]:
    """Yield a DynamoDB for the whole session, with the table in it."""
    with running_ministack(tmp_path_factory.mktemp("fuzzed")) as url:
        client = new_client(url)
        create_table(client, "ledger")
        yield client


@pytest.fixture
def api(emulator: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch) -> HttpApi:
    monkeypatch.setenv("AWS_ENDPOINT_URL", emulator.meta.endpoint_url)
    scheduler, queue = FakeScheduler(), FakeQueue()
    monkeypatch.setattr(services, "scheduler", lambda: scheduler)
    monkeypatch.setattr(services, "sqs", lambda: queue)
    return HttpApi(TOKENS)


@pytest.fixture
def session(api: HttpApi) -> httpx.Client:
    return api.caller(GOOD)


@pytest.fixture
def targets(session: httpx.Client) -> list[Target]:
    return made_targets(session)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> LogLines:
    return LogLines.capture(monkeypatch)


def reply_of(response: httpx.Response) -> Reply:
    return Reply(response.status_code, response.headers, response.text)


def check_log(log: LogLines) -> None:
    """Check that each line is one JSON object without secrets: the token, and secret fields of cases."""
    assert MARKER not in log.text
    assert log.objects()


def test_every_route_of_the_handlers_is_fuzzed() -> None:
    assert sorted(operations()) == KEYS


@pytest.mark.parametrize("key", KEYS)
def test_described_request_is_answered_as_described(
    key: str, api: HttpApi, targets: list[Target], log: LogLines, record_property: Any
) -> None:
    run = 0
    requests_session = api.session(GOOD)

    @fuzz_settings(CASES_A_ROUTE, repeatable=not PROVING)
    @given(cases(key, targets))
    def answered(drawn: tuple[Any, bool]) -> None:
        nonlocal run
        run += 1
        case, aimed = drawn
        response = case.call(base_url=URL, session=requests_session)
        assert api.crash() is None
        check_case(case, response, aimed=aimed)

    answered()
    check_log(log)
    answers = {status: count for (item, status), count in sorted(api.answers.items()) if item == key}
    record_property("cases", f"{run}, answered {answers}")


@pytest.mark.parametrize("bug", ["an error", "another shape", "another status"])
def test_bug_in_a_handler_is_detected(
    bug: str, api: HttpApi, targets: list[Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check the check itself, on three bugs of one route."""
    # given
    key = "GET /v1/executions/{executionId}"
    module = load_handler("executions")
    bugs: dict[str, Callable[[Request], Response]] = {
        "an error": lambda call: Response(call.path["nothing"]),
        "another shape": lambda call: Response({"executionId": call.path["executionId"]}),
        "another status": lambda _: Response({}, HTTPStatus.IM_A_TEAPOT),
    }
    monkeypatch.setitem(module.app._handlers, key, bugs[bug])

    # when, then
    with pytest.raises((AssertionError, KeyError, ValidationError)):
        test_described_request_is_answered_as_described(
            key, api, targets, LogLines.capture(monkeypatch), lambda *_: None
        )


@pytest.mark.parametrize("key", KEYS)
def test_hostile_request_is_answered_as_described(
    key: str, api: HttpApi, session: httpx.Client, targets: list[Target], log: LogLines, record_property: Any
) -> None:
    run = 0
    method, _, path = key.partition(" ")

    @fuzz_settings(CASES_A_ROUTE, repeatable=not PROVING)
    @given(hostile_requests(key, targets), st.sampled_from(targets))
    def answered(hostile: HostileRequest, target: Target) -> None:
        nonlocal run
        run += 1
        names = {name: quote(value, safe="") for name, value in target.names.items()}
        response = session.request(
            method,
            path.format(**names),
            headers=[(name.encode(), value.encode("latin-1")) for name, value in hostile.headers.items()],
            params=list(hostile.query),
            content=hostile.body,
        )
        assert api.crash() is None
        check_reply(key, reply_of(response))

    answered()
    check_log(log)
    answers = {status: count for (item, status), count in sorted(api.answers.items()) if item == key}
    record_property("cases", f"{run}, answered {answers}")
