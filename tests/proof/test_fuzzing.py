"""Whatever is sent to any route is answered as the description says, and never with a 500."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api_gateway import URL, HttpApi, operations
from tests.factories import ALL_SCOPES, Reply, fresh_name
from tests.fuzzing import (
    HostileRequest,
    Target,
    cases,
    check_case,
    check_reply,
    fuzz_settings,
    good_body,
    hostile_requests,
    keys_of_description,
)
from tests.integration.emulators import create_table, new_client, running_ministack

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PROVING: Final = "TASKLATCH_PROVE" in os.environ
CASES_A_ROUTE: Final = 600 if PROVING else 25
KEYS: Final = keys_of_description()
GOOD: Final = "good"
TOKENS: Final = {
    GOOD: {"scope": ALL_SCOPES},
    "without-scopes": {"scope": "openid"},
    "of-another-scope": {"scope": "tasklatch/other"},
}
UUID: Final = "0b6f5a52-7d0e-4a53-9a52-5c2f1e7d9010"


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator["DynamoDBClient"]:
    """A DynamoDB for the whole session, with the table in it."""
    with running_ministack(tmp_path_factory.mktemp("fuzzed")) as url:
        client = new_client(url)
        create_table(client, "ledger")
        yield client


@pytest.fixture
def api(emulator: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch) -> HttpApi:
    monkeypatch.setenv("AWS_ENDPOINT_URL", emulator.meta.endpoint_url)
    return HttpApi(TOKENS)


@pytest.fixture
def session(api: HttpApi) -> httpx.Client:
    return api.caller(GOOD)


@pytest.fixture
def targets(session: httpx.Client) -> list[Target]:
    """What exists: an execution, a Forge scan and a flow execution, with tasks."""
    execution_id, scan_id = fresh_name(), fresh_name()
    names = {"executionId": execution_id, "taskId": "fetch"}
    tasks = [{"taskId": "fetch", "input": {"x": 1}}, {"taskId": "parse", "dependsOn": ["fetch"]}]
    scan = {"connectionId": "c", "scanId": scan_id, "tasks": [{"taskId": UUID}]}
    flow = good_body("POST /api/flow-executions", names) | {"task_names": ["fetch"]}
    assert session.post("/v1/executions", json={"executionId": execution_id, "tasks": tasks}).status_code == 201
    assert session.post("/forge/scans", json=scan).status_code == 201
    flow_id = session.post("/api/flow-executions", json=flow).json()["id"]
    return [
        _target(execution_id, "fetch"),
        _target(execution_id, "parse"),
        _target(scan_id, UUID),
        _target(flow_id, "fetch"),
    ]


def _target(execution_id: str, task_id: str) -> Target:
    names = dict.fromkeys(("executionId", "flow_execution_id", "scanId"), execution_id)
    return Target({**names, "taskId": task_id, "task_name": task_id})


def reply_of(response: httpx.Response) -> Reply:
    return Reply(response.status_code, response.headers, response.text)


def test_every_route_of_the_handlers_is_fuzzed() -> None:
    assert sorted(operations()) == KEYS


@pytest.mark.parametrize("key", KEYS)
def test_whatever_the_description_leads_to_is_answered_as_described(
    key: str, api: HttpApi, targets: list[Target], record_property: Any
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
    record_property("cases", run)
    record_property("answers", {status: count for (_, status), count in sorted(api.answers.items())})


@pytest.mark.parametrize("key", KEYS)
def test_hostile_request_is_answered_as_described(
    key: str, api: HttpApi, session: httpx.Client, targets: list[Target], record_property: Any
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
    record_property("cases", run)
