"""An Idempotency-Key belongs to the first request that came with it: the same again is answered, another refused."""

import gzip
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from types import ModuleType
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from botocore.exceptions import ClientError

from tasklatch.dynamodb import keys
from tests.api_gateway import HttpApi
from tests.factories import ALL_SCOPES, api_event, call_api, fresh_name
from tests.integration.emulators import Table, counted_calls

TOKEN: Final = "good"
EXECUTIONS: Final = "/v1/executions"
SCANS: Final = "/forge/scans"
FLOWS: Final = "/api/flow-executions"
REUSED: Final = "urn:tasklatch:problem:idempotency-key-reused"
BODY: Final[dict[str, Any]] = {"tasks": [{"taskId": "t", "input": {"x": 1, "y": 2}}]}


@pytest.fixture
def session(http_api: HttpApi) -> httpx.Client:
    http_api.tokens = {TOKEN: {"scope": ALL_SCOPES}}
    return http_api.caller(TOKEN)


def keyed(key: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": key or fresh_name()}


def scan_body(**fields: Any) -> dict[str, Any]:
    return {"connectionId": "c", "tasks": [{"taskId": str(uuid4())}], **fields}


def flow_body(**fields: Any) -> dict[str, Any]:
    return {"flow_id": str(uuid4()), "input": {}, **fields}


# ---------------------------------------------------------------- another body


def test_key_used_again_with_an_execution_id_added_is_refused_and_nothing_is_created(session: httpx.Client) -> None:
    # given
    headers, other = keyed(), fresh_name()
    first = session.post(EXECUTIONS, json=BODY, headers=headers)

    # when
    refused = session.post(EXECUTIONS, json={**BODY, "executionId": other}, headers=headers)

    # then
    assert (first.status_code, refused.status_code, refused.json()["type"]) == (201, 409, REUSED)
    assert session.get(f"{EXECUTIONS}/{other}").status_code == 404


def test_key_used_again_without_the_execution_id_is_refused_and_nothing_is_created(
    session: httpx.Client, ministack: Any
) -> None:
    # given
    headers = keyed()
    session.post(EXECUTIONS, json={**BODY, "executionId": fresh_name()}, headers=headers)
    before = ministack.scan(TableName="ledger", Select="COUNT", ConsistentRead=True)["Count"]

    # when
    refused = session.post(EXECUTIONS, json=BODY, headers=headers)

    # then
    assert (refused.status_code, refused.json()["type"]) == (409, REUSED)
    assert ministack.scan(TableName="ledger", Select="COUNT", ConsistentRead=True)["Count"] == before


@pytest.mark.parametrize("ids", [("one", "other"), (None, "other"), ("one", None), (None, None)], ids=str)
def test_key_of_one_scan_is_refused_for_another(session: httpx.Client, ids: tuple[str | None, str | None]) -> None:
    # given
    headers, salt = keyed(), fresh_name()
    bodies = [scan_body(**({"scanId": f"{salt}-{name}"} if name else {})) for name in ids]

    # when
    first, refused = (session.post(SCANS, json=body, headers=headers) for body in bodies)

    # then
    assert (first.status_code, refused.status_code) == (201, 409)
    assert refused.json()["originalError"]["type"] == REUSED


def test_key_of_one_flow_execution_is_refused_for_another(session: httpx.Client) -> None:
    headers = keyed()

    first, refused = (session.post(FLOWS, json=flow_body(), headers=headers) for _ in range(2))

    assert (first.status_code, refused.status_code, refused.json()["error"]["code"]) == (201, 409, "conflict")


def test_key_of_one_contract_is_refused_in_another(session: httpx.Client) -> None:
    headers = keyed()
    assert session.post(EXECUTIONS, json=BODY, headers=headers).status_code == 201

    refused = [
        session.post(path, json=body, headers=headers) for path, body in ((SCANS, scan_body()), (FLOWS, flow_body()))
    ]

    assert [item.status_code for item in refused] == [409, 409]


# ---------------------------------------------------------------- the same body


def written_otherwise() -> dict[str, tuple[bytes, dict[str, str]]]:
    turned = {"tasks": [{"input": {"y": 2, "x": 1}, "taskId": "t"}]}
    spaced = json.dumps(BODY, indent=4).encode()
    return {
        "keys in another order": (json.dumps(turned).encode(), {}),
        "other white space": (b" \n" + spaced, {}),
        "escaped": (json.dumps(BODY).replace('"t"', '"\\u0074"').encode(), {}),
        "packed": (gzip.compress(spaced), {"Content-Encoding": "gzip"}),
    }


@pytest.mark.parametrize(("content", "more"), written_otherwise().values(), ids=written_otherwise())
def test_same_body_written_otherwise_is_the_same_request(
    session: httpx.Client, content: bytes, more: dict[str, str]
) -> None:
    # given
    headers = keyed() | {"Content-Type": "application/json"}
    first = session.post(EXECUTIONS, content=json.dumps(BODY).encode(), headers=headers)

    # when
    again = session.post(EXECUTIONS, content=content, headers=headers | more)

    # then
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()


def test_repeat_with_an_execution_id_gives_the_same_execution(session: httpx.Client) -> None:
    headers, body = keyed(), {**BODY, "executionId": fresh_name()}

    first, again = (session.post(EXECUTIONS, json=body, headers=headers) for _ in range(2))

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()


def test_repeat_after_the_execution_has_ended_shows_how_it_ended(session: httpx.Client) -> None:
    # given
    headers = keyed()
    first = session.post(EXECUTIONS, json=BODY, headers=headers).json()
    session.post(f"{EXECUTIONS}/{first['executionId']}/cancel", json={})

    # when
    again = session.post(EXECUTIONS, json=BODY, headers=headers)
    other = session.post(EXECUTIONS, json={**BODY, "name": "n"}, headers=headers)

    # then
    assert (again.status_code, again.json()["executionId"]) == (200, first["executionId"])
    assert again.json()["status"] == "TERMINATED"
    assert (other.status_code, other.json()["type"]) == (409, REUSED)


def test_repeat_after_the_flow_execution_was_deleted_brings_it_not_back(session: httpx.Client) -> None:
    # given
    headers, body = keyed(), flow_body(task_names=["a"])
    first = session.post(FLOWS, json=body, headers=headers).json()
    assert session.delete(f"{FLOWS}/{first['id']}").status_code == 204

    # when
    again = session.post(FLOWS, json=body, headers=headers)

    # then
    assert (again.json()["id"], again.json()["status"]) == (first["id"], "cancelled")
    assert session.get(f"{FLOWS}/{first['id']}").status_code == 404


# ---------------------------------------------------------------- what binds a key


def test_request_that_is_wrong_in_itself_binds_no_key(session: httpx.Client) -> None:
    # given
    headers = keyed()
    circle = {"tasks": [{"taskId": "a", "dependsOn": ["a"]}]}
    wrong = [{"tasks": []}, circle, {**BODY, "metadata": {"x": "y" * 20_000}}]
    assert [session.post(EXECUTIONS, json=body, headers=headers).status_code for body in wrong] == [422, 422, 413]

    # when it is put right
    created = session.post(EXECUTIONS, json=BODY, headers=headers)

    # then
    assert created.status_code == 201


def test_execution_id_that_another_key_created_is_the_same_for_the_same_tasks_only(session: httpx.Client) -> None:
    # given
    body = {**BODY, "executionId": fresh_name()}
    assert session.post(EXECUTIONS, json=body, headers=keyed()).status_code == 201

    # when
    same = session.post(EXECUTIONS, json=body, headers=keyed())
    other = session.post(EXECUTIONS, json={**body, "name": "n"}, headers=keyed())

    # then: it is the id that is taken, not the key
    assert (same.status_code, other.status_code) == (200, 409)
    assert other.json()["type"] == "urn:tasklatch:problem:conflict"


def test_of_two_requests_that_race_for_a_key_one_is_taken(session: httpx.Client) -> None:
    # given
    headers, ids = keyed(), [fresh_name(), fresh_name()]

    # when
    with ThreadPoolExecutor(len(ids)) as pool:
        bodies = [{**BODY, "executionId": name} for name in ids]
        replies = list(pool.map(lambda body: session.post(EXECUTIONS, json=body, headers=headers), bodies))

    # then
    assert sorted(reply.status_code for reply in replies) == [201, 409]
    shown = [session.get(f"{EXECUTIONS}/{name}").status_code for name in ids]
    assert shown == [200 if reply.status_code == 201 else 404 for reply in replies]


def test_two_same_requests_that_race_make_one_execution(session: httpx.Client) -> None:
    headers = keyed()

    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda _: session.post(EXECUTIONS, json=BODY, headers=headers), range(2)))

    assert {reply.status_code for reply in replies} <= {200, 201}
    assert len({reply.json()["executionId"] for reply in replies}) == 1


def test_request_that_was_interrupted_goes_on_when_it_comes_again(
    session: httpx.Client,
    statements_table: Table,
    load: Callable[[str, Any], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given one that ended after its key was bound
    headers, other = keyed(), {**BODY, "name": "n"}
    with monkeypatch.context() as interrupted:
        refuse = ClientError({"Error": {"Code": "InternalFailure"}}, "GetItem")
        client = statements_table.client
        interrupted.setattr(client, "get_item", lambda **_: (_ for _ in ()).throw(refuse))
        handler = load("executions", client).handler
        event = api_event("POST /v1/executions", body=BODY, headers={"idempotency-key": headers["Idempotency-Key"]})
        assert call_api(handler, event).status == HTTPStatus.INTERNAL_SERVER_ERROR

    # when
    refused = session.post(EXECUTIONS, json=other, headers=headers)
    again = session.post(EXECUTIONS, json=BODY, headers=headers)

    # then
    assert (refused.status_code, again.status_code) == (409, 201)


def test_key_is_kept_as_a_digest_for_as_long_as_what_it_made(session: httpx.Client, ministack: Any) -> None:
    # given
    headers = keyed("s3cr3t " + fresh_name())
    key = headers["Idempotency-Key"]

    # when
    session.post(EXECUTIONS, json=BODY, headers=headers)

    # then
    pk = keys.idempotency_pk("default", key)
    item = ministack.get_item(TableName="ledger", Key={"pk": {"S": pk}, "sk": {"S": keys.IDEMPOTENCY_SK}})["Item"]
    assert key not in json.dumps(item)


def test_key_costs_one_write_and_no_key_costs_nothing(
    statements_table: Table, load: Callable[[str, Any], ModuleType]
) -> None:
    # given
    handler, used = load("executions", statements_table.client).handler, []

    # when
    for headers in ({}, {"idempotency-key": fresh_name()}):
        event = api_event("POST /v1/executions", body=BODY, headers=headers)
        with counted_calls(statements_table.client) as calls:
            assert call_api(handler, event).status == 201
        used.append(calls)

    # then
    assert used[1] - used[0] == {"PutItem": 1}
    assert not used[0] - used[1]
