"""Requests about executions of which only so many run at once, through the functions that serve them."""

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import pytest

from tasklatch.domain.concurrency import MAX_SLOTS
from tasklatch.dynamodb import keys
from tasklatch.runtime import services
from tasklatch.runtime.settings import get_settings
from tests.factories import Context, fresh_name
from tests.integration.emulators import Table
from tests.integration.test_schedules import Api

CREATE: Final = "POST /v1/executions"
SHOW: Final = "GET /v1/executions/{executionId}"
LIMIT: Final = {"concurrencyKey": "customer-1", "maxConcurrentExecutions": 1}
BASE: Final = "/api/v1/projects/{project}/workflows"


class Queue:
    """Queue that keeps the messages that it gets."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        assert QueueUrl.endswith("/advance")
        self.bodies += [json.loads(entry["MessageBody"]) for entry in Entries]
        return {"Successful": []}


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    queue = Queue()
    monkeypatch.setattr(services, "sqs", lambda: queue)
    return queue


@pytest.fixture
def api(load: Callable[[str, Any], ModuleType], statements_table: Table, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("TENANT_CLAIM", "org")
    get_settings.cache_clear()
    return Api(load, statements_table)


def advance(api: Api, key: str) -> None:
    """Let the advancer give the slots of a key."""
    body = json.dumps({"kind": "slot", "tenant": api.tenant, "executionId": "", "concurrencyKey": key})
    handler = api.load("workflow_advancer", api.table.client).handler
    assert handler({"Records": [{"messageId": "1", "body": body}]}, Context(60_000)) == {"batchItemFailures": []}


def create(api: Api, execution_id: str, **fields: Any) -> Any:
    return api(CREATE, body={"executionId": execution_id, "tasks": [{"taskId": "a"}], **LIMIT, **fields})


def test_execution_that_waits_shows_for_what_and_its_position(api: Api) -> None:
    # given
    for name in ("first", "second", "third"):
        assert create(api, name).status == 201
    advance(api, "key:customer-1")

    # when
    first, third = (api(SHOW, name, query={}).body for name in ("first", "third"))

    # then
    assert (third["status"], third["concurrencyKey"]) == ("RUNNING", "customer-1")
    assert third["line"] == {"position": 2, "running": 1, "maxConcurrentExecutions": 1}
    assert third["waitingSince"] == third["createdAt"]
    assert "startedAt" not in third
    assert first["startedAt"] >= first["createdAt"]
    assert not {"line", "waitingSince"} & set(first)


@pytest.mark.parametrize("left_out", list(LIMIT))
def test_key_and_number_go_together(api: Api, left_out: str) -> None:
    fields = {name: None for name in LIMIT if name == left_out}

    reply = create(api, "first", **fields)

    assert reply.status == 422
    assert "go together" in reply.text


@pytest.mark.parametrize("number", [0, MAX_SLOTS + 1, 1.5, "1"])
def test_number_is_one_to_a_thousand(api: Api, number: Any) -> None:
    assert create(api, "first", maxConcurrentExecutions=number).status == 422


def test_repeat_is_the_same_execution_and_another_key_is_a_conflict(api: Api) -> None:
    assert create(api, "first").status == 201
    assert create(api, "first").status == 200
    assert create(api, "first", concurrencyKey="other").status == 409
    assert create(api, "first", concurrencyKey=None, maxConcurrentExecutions=None).status == 409


def test_tenants_do_not_share_a_key(api: Api) -> None:
    # given
    create(api, "first")
    advance(api, "key:customer-1")
    other = Api(api.load, api.table)

    # when
    create(other, "first")
    advance(other, "key:customer-1")

    # then
    assert "startedAt" in other(SHOW, "first", query={}).body


def workflow(api: Api, limit: int | None, name: str) -> None:
    item = {"externalId": name} if limit is None else {"externalId": name, "maxConcurrentExecutions": limit}
    assert api(f"POST {BASE}", body={"items": [item]}).status == 200


def run(api: Api, name: str) -> Any:
    body = {"authentication": {"nonce": fresh_name()}}
    return api(f"POST {BASE}/{{workflowExternalId}}/versions/{{version}}/run", name, "1", body=body).body


@pytest.fixture
def nightly(api: Api) -> str:
    """A workflow of one task."""
    task = {"externalId": "a", "type": "function", "parameters": {"function": {"externalId": "fn", "data": {}}}}
    version = {"workflowExternalId": "nightly", "version": "1", "workflowDefinition": {"tasks": [task]}}
    assert api(f"POST {BASE}/versions", body={"items": [version]}).status == 200
    return "nightly"


def test_limit_of_a_workflow_holds_and_a_change_has_those_that_fit_started(
    api: Api, nightly: str, queue: Queue
) -> None:
    # given
    workflow(api, 1, nightly)
    waits = run(api, nightly)

    # then
    assert waits["status"] == "RUNNING"
    assert "maxConcurrentExecutions" in waits["reasonForIncompletion"]
    assert "startTime" not in waits

    # when
    for limit in (5, None):
        workflow(api, limit, nightly)

    # then
    message = {"kind": "slot", "tenant": api.tenant, "executionId": "", "concurrencyKey": "workflow:nightly"}
    assert queue.bodies == [message] * 3
    slots = api.table.item(keys.slots_pk(api.tenant, "workflow:nightly"), keys.SLOTS_SK)
    assert slots is not None
    assert slots["maxExecutions"] == {"N": str(MAX_SLOTS)}


def test_workflow_without_a_limit_has_no_slots(api: Api, nightly: str, queue: Queue) -> None:
    # when
    workflow(api, None, nightly)
    started = run(api, nightly)

    # then
    assert "startTime" in started
    assert queue.bodies == []
    assert api.table.items(keys.slots_pk(api.tenant, "workflow:nightly")) == []


def test_limit_beyond_what_a_key_can_have_is_shown_as_it_is(api: Api, nightly: str) -> None:
    workflow(api, 2**31 - 1, nightly)
    run(api, nightly)

    shown = api(f"GET {BASE}/{{workflowExternalId}}", nightly).body
    slots = api.table.item(keys.slots_pk(api.tenant, "workflow:nightly"), keys.SLOTS_SK)
    assert shown["maxConcurrentExecutions"] == 2**31 - 1
    assert slots is not None
    assert slots["maxExecutions"] == {"N": str(MAX_SLOTS)}
