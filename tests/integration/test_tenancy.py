"""Tenants are apart: no route lets one see, change or even ask for what is another's, whatever the ids."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from local.handlers import load_handler
from tasklatch.api import app
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.runtime import clients, services
from tasklatch.runtime.clock import system_clock
from tasklatch.runtime.settings import get_settings
from tests.api_gateway import HttpApi, operations
from tests.factories import ALL_SCOPES, Context, Reply, fresh_name
from tests.fuzzing import check_reply, good_body
from tests.integration.emulators import create_table, make_backoff
from tests.workflow_helpers import FakeClient

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MINE: Final = fresh_name()
OTHER: Final = fresh_name()
SECRET: Final = "this-is-of-the-other-tenant"
PROTECTED: Final = sorted(key for key, (_, operation) in operations().items() if operation.scope is not None)
TOUCHES_NOTHING: Final = "POST /api/v1/projects/{project}/sessions"
"""It neither reads nor writes anything."""

REACHING: Final = [key for key in PROTECTED if key != TOUCHES_NOTHING]
SCHEDULES: Final = "/v1/schedules"
SCHEDULE: Final = f"{SCHEDULES}/{{scheduleId}}"
QUEUED: Final = "queued"
"""Task that a queue with the name of its execution hands out."""

WORKFLOWS: Final = "/api/v1/projects/{project}/workflows"
MAKES_ONES_OWN: Final = {
    "POST /v1/executions": 201,
    "POST /v1/schedules": 201,
    "POST /forge/scans": 201,
    "POST /api/flow-executions": 201,
    f"POST {WORKFLOWS}": 200,
    f"POST {WORKFLOWS}/versions": 200,
}
"""These create, with the names of what is another's too, since each tenant has names of its own; with what status."""

LISTS: Final = frozenset(
    {
        "GET /v1/executions",
        "POST /v1/queues/{queue}/claim",
        "GET /v1/schedules",
        "GET /api/flow-executions",
        "GET /api/task-executions",
        f"GET {WORKFLOWS}",
        f"GET {WORKFLOWS}/triggers",
        f"POST {WORKFLOWS}/versions/list",
        f"POST {WORKFLOWS}/executions/list",
    }
)
"""These answer with a list, which is empty."""

UNKNOWN_IS_BAD_REQUEST: Final = f"GET {WORKFLOWS}/executions/{{executionId}}"
"""Here what is not there is a 400, as the platform's client knows it."""


@dataclass(frozen=True)
class Names:
    """By what a tenant's things are called: the same shape whether they exist or not."""

    execution_id: str
    scan_id: str
    flow_execution_id: str
    task_id: str
    flow_id: str
    task_execution_id: str
    workflow: str
    run_id: str
    run_attempt: str


@dataclass(frozen=True)
class Request:
    """What is sent to a route."""

    query: Mapping[str, str]
    body: Mapping[str, Any] | None


@dataclass(frozen=True)
class Tenants:
    """Two tenants of one deployment, and what the other one has."""

    api: HttpApi
    client: "DynamoDBClient"
    mine: str
    other: str
    theirs: Names

    def session(self, tenant: str) -> httpx.Client:
        return self.api.caller(tenant)

    def items(self) -> dict[tuple[str, str], Any]:
        """All of the table, but what the tenant who calls has of his own."""
        return {key: item for key, item in self._all_items().items() if f"#{self.mine}#" not in key[0]}

    def own_items(self) -> list[str]:
        return [pk for pk, _ in self._all_items() if f"#{self.mine}#" in pk]

    def _all_items(self) -> dict[tuple[str, str], Any]:
        pages = self.client.get_paginator("scan").paginate(TableName=get_settings().table_name, ConsistentRead=True)
        return {(item["pk"]["S"], item["sk"]["S"]): item for page in pages for item in page["Items"]}


@pytest.fixture
def deployment(http_api: HttpApi, ministack: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpApi]:
    """An API with tenants, over a table of the test's own: it is compared as a whole, and is as small as can be."""
    table_name = f"tenancy-{fresh_name()}"
    create_table(ministack, table_name)
    monkeypatch.setenv("TABLE_NAME", table_name)
    monkeypatch.setenv("TENANT_CLAIM", "org")
    get_settings.cache_clear()
    yield http_api
    ministack.delete_table(TableName=table_name)


@dataclass(frozen=True)
class Belongings:
    """What a tenant has: its names, and the items that it is in the table."""

    names: Names
    items: list[Any]


@pytest.fixture(scope="module")
def belongings() -> list[Belongings]:
    """Hold what the other tenant has, once the API has made it: to put the items again is faster."""
    return []


@pytest.fixture
def tenants(deployment: HttpApi, ministack: "DynamoDBClient", belongings: list[Belongings]) -> Tenants:
    """Two tenants; the other one has an execution, a Forge scan and a flow execution, all of which have gone on."""
    deployment.tokens = {name: {"scope": ALL_SCOPES, "org": name} for name in (MINE, OTHER)}
    if not belongings:
        names = furnish(deployment.caller(OTHER), OTHER)
        result = Tenants(deployment, ministack, MINE, OTHER, names)
        belongings.append(Belongings(names, list(result.items().values())))
        return result
    batch_put(ministack, get_settings().table_name, belongings[0].items, make_backoff())
    return Tenants(deployment, ministack, MINE, OTHER, belongings[0].names)


def furnish(session: httpx.Client, other: str) -> Names:
    """Give a tenant something of each kind that the service stores; return by what it is called."""
    names = some_names()
    tasks = [
        {"taskId": names.task_id, "input": {"text": SECRET}},
        {"taskId": "waits", "dependsOn": [names.task_id]},
        {"taskId": QUEUED, "queue": names.execution_id, "input": {"text": SECRET}},
    ]
    created = session.post(
        "/v1/executions",
        json={"executionId": names.execution_id, "name": SECRET, "metadata": {"text": SECRET}, "tasks": tasks},
    )
    assert created.status_code == 201
    path = f"/v1/executions/{names.execution_id}/tasks/{names.task_id}"
    done = {"status": "COMPLETED", "message": SECRET, "output": {"text": SECRET}, "label": SECRET}
    reported = session.post(f"{path}/status", json=done).json()
    late = {"status": "FAILED", "attempt": 1, "message": SECRET}
    assert session.post(f"{path}/status", json=late).json()["verdict"] == "ignored_after_success"
    scheduled = {"everyMinutes": 5, "execution": {"metadata": {"text": SECRET}, "tasks": [{"taskId": names.task_id}]}}
    assert session.post("/v1/schedules", json={"scheduleId": names.execution_id, **scheduled}).status_code == 201
    scan = {"connectionId": SECRET, "scanId": names.scan_id, "tasks": [{"taskId": names.task_id}]}
    assert session.post("/forge/scans", json=scan).status_code == 201
    flow = {"flow_id": names.flow_id, "input": {"text": SECRET}, "task_names": [names.task_id]}
    flow_execution_id = session.post("/api/flow-executions", json=flow).json()["id"]
    workflow = {"project": other, "workflowExternalId": names.workflow, "version": "1"}
    for path in ("", "/versions", "/triggers"):
        body = good_body(f"POST {WORKFLOWS}{path}", workflow)
        assert session.post(WORKFLOWS.format(project=other) + path, json=body).status_code == 200
    run = {"authentication": {"nonce": "n"}, "input": {"x": SECRET}, "metadata": {"x": SECRET}}
    path = f"{WORKFLOWS.format(project=other)}/{names.workflow}/versions/1/run"
    run_id = session.post(path, json=run).json()["id"]
    attempt = session.get(f"/v1/executions/{run_id}/tasks").json()["items"][0]["taskExecutionId"]
    return replace(
        names,
        flow_execution_id=flow_execution_id,
        task_execution_id=reported["task"]["taskExecutionId"],
        run_id=run_id,
        run_attempt=attempt,
    )


def some_names() -> Names:
    """Names that exist nowhere; the id of the attempt is of the shape that the service issues."""
    return Names(
        execution_id=fresh_name(),
        scan_id=fresh_name(),
        flow_execution_id=str(uuid4()),
        task_id=str(uuid4()),
        flow_id=str(uuid4()),
        task_execution_id="00000100-0000-8000-8000-000000000000",
        workflow=fresh_name(),
        run_id=str(uuid4()),
        run_attempt="00000101-0000-8000-8000-000000000000",
    )


def request_on(key: str, names: Names) -> Request:
    """A good request to a route about these names.

    Raises
    ------
    KeyError
        If there is no case for the route: a new one needs a case here.
    """
    executed = {"executionId": names.execution_id, "taskId": names.task_id}
    scanned = {"executionId": names.scan_id, "taskId": names.task_id}
    task = {"taskId": names.task_id}
    of_flow = {"flow_execution_id": names.flow_execution_id, "task_name": names.task_id}
    result: dict[str, Request] = {
        "POST /v1/executions": Request({}, {"executionId": names.execution_id, "tasks": [task]}),
        "POST /v1/executions/{executionId}/tasks": Request({}, {"tasks": [{**task, "dependsOn": [names.task_id]}]}),
        "POST /v1/executions/{executionId}/cancel": Request({}, {}),
        "POST /v1/executions/{executionId}/retry": Request({}, None),
        "POST /v1/executions/{executionId}/watch": Request({}, None),
        "POST /v1/queues/{queue}/claim": Request({}, {"max": 10, "claimId": "mine"}),
        "POST /v1/queues/{queue}/release": Request({}, {**executed, "taskId": QUEUED, "attempt": 1}),
        "GET /v1/executions": Request({}, None),
        "GET /v1/executions/{executionId}": Request({}, None),
        "GET /v1/executions/{executionId}/tasks": Request({}, None),
        "GET /v1/executions/{executionId}/tasks/{taskId}": Request({}, None),
        "GET /v1/executions/{executionId}/tasks/{taskId}/history": Request({}, None),
        "POST /v1/executions/{executionId}/tasks/{taskId}/status": Request({}, {"status": "FAILED", "attempt": 1}),
        "POST /v1/executions/{executionId}/tasks/{taskId}/heartbeat": Request({}, {"attempt": 1}),
        "POST /v1/executions/{executionId}/tasks/read": Request({}, task),
        "POST /v1/executions/{executionId}/tasks/history": Request({}, task),
        "POST /v1/executions/{executionId}/heartbeats": Request({}, {**task, "attempt": 1}),
        "POST /v1/executions/{executionId}/statuses": Request(
            {},
            {
                "statuses": [
                    {**task, "status": "FAILED", "attempt": 1},
                    {**task, "status": "COMPLETED"},
                    {**task, "status": "COMPLETED", "taskExecutionId": names.task_execution_id},
                ]
            },
        ),
        "POST /forge/updateTaskStatus": Request({}, good_body("POST /forge/updateTaskStatus", scanned)),
        "POST /forge/scans": Request({}, good_body("POST /forge/scans", scanned)),
        "POST /forge/children": Request({}, good_body("POST /forge/children", scanned)),
        "POST /api/flow-executions": Request(
            {}, {"flow_id": names.flow_id, "input": {}, "task_names": [names.task_id]}
        ),
        "GET /api/flow-executions": Request({"flow_id": names.flow_id}, None),
        "GET /api/flow-executions/{flow_execution_id}": Request({}, None),
        "DELETE /api/flow-executions/{flow_execution_id}": Request({}, None),
        "POST /api/flow-executions/{flow_execution_id}/cancel": Request({}, None),
        "POST /api/flow-executions/{flow_execution_id}/task-status": Request(
            {}, good_body("POST /api/flow-executions/{flow_execution_id}/task-status", executed)
        ),
        "GET /api/task-executions": Request(of_flow, None),
        "GET /v1/schedules": Request({}, None),
    }
    for item in (f"POST {SCHEDULES}", f"PUT {SCHEDULE}"):
        result[item] = Request({}, good_body(item, executed))
    for item in (f"GET {SCHEDULE}", f"DELETE {SCHEDULE}", f"GET {SCHEDULE}/history"):
        result[item] = Request({}, None)
    for change in ("pause", "resume"):
        result[f"POST {SCHEDULE}/{change}"] = Request({}, None)
        result[f"POST {WORKFLOWS}/triggers/{{externalId}}/{change}"] = Request({}, None)
    result[f"GET {WORKFLOWS}/triggers/{{externalId}}/history"] = Request({}, None)
    workflow = {"workflowExternalId": names.workflow, "version": "1"}
    for method, path in (
        ("GET", ""),
        ("POST", ""),
        ("POST", "/delete"),
        ("POST", "/versions"),
        ("POST", "/versions/delete"),
        ("POST", "/versions/list"),
        ("POST", "/executions/list"),
        ("GET", "/executions/{executionId}"),
        ("POST", "/executions/{executionId}/cancel"),
        ("POST", "/executions/{executionId}/retry"),
        ("POST", "/tasks/{taskId}/update"),
        ("GET", "/triggers"),
        ("POST", "/triggers"),
        ("POST", "/triggers/delete"),
        ("GET", "/{workflowExternalId}"),
        ("GET", "/{workflowExternalId}/versions/{version}"),
        ("POST", "/{workflowExternalId}/versions/{version}/run"),
    ):
        item = f"{method} {WORKFLOWS}{path}"
        result[item] = Request({}, good_body(item, workflow) if method == "POST" else None)
    result[TOUCHES_NOTHING] = Request({}, good_body(TOUCHES_NOTHING, workflow))
    return result[key]


def call(session: httpx.Client, key: str, names: Names, project: str) -> Reply:
    """Send a route a good request about these names; `project` stands in the paths that name one."""
    method, _, path = key.partition(" ")
    requested = request_on(key, names)
    values = {
        "executionId": names.execution_id,
        "flow_execution_id": names.flow_execution_id,
        "taskId": names.task_id,
    }
    if WORKFLOWS in key:
        values |= {"executionId": names.run_id, "taskId": names.run_attempt}
    values |= {"project": project, "workflowExternalId": names.workflow, "version": "1"}
    values |= {"queue": names.execution_id, "scheduleId": names.execution_id, "externalId": names.workflow}
    url = path.format(**{name: quote(value, safe="") for name, value in values.items()})
    response = session.request(method, url, params=requested.query, json=requested.body)
    reply = Reply(response.status_code, response.headers, response.text)
    check_reply(key, reply)
    return reply


def shape(reply: Reply, names: Names) -> tuple[int, str]:
    """An answer without what is told apart by name, time or request."""
    text = reply.text
    for name in sorted(vars(names).values(), key=len, reverse=True):
        text = text.replace(name, "NAME")
    text = text.replace(str(reply.headers["x-request-id"]), "REQUEST")
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID", text)
    return reply.status, re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z|\b\d{13}\b", "TIME", text)


@contextmanager
def requests_to_the_table() -> Iterator[list[str]]:
    """What the handlers ask the table for, as text."""
    requested: list[str] = []
    events = clients.dynamodb().meta.events

    def note(params: dict[str, Any], **_: Any) -> None:
        requested.append(json.dumps(params, default=str))

    events.register("provide-client-params.dynamodb", note)
    try:
        yield requested
    finally:
        events.unregister("provide-client-params.dynamodb", note)


def check_nothing_of_the_other(tenants: Tenants, key: str, project: str) -> None:
    """Call a route about what is the other tenant's, and check that it makes no difference that it is there."""
    session = tenants.session(tenants.mine)
    nowhere = some_names()
    before = tenants.items()
    with requests_to_the_table() as requested:
        met = call(session, key, tenants.theirs, project)
        missed = call(session, key, nowhere, project)
    if key in MAKES_ONES_OWN:
        assert met.status == MAKES_ONES_OWN[key]
    elif key in LISTS:
        assert (met.status, next(iter(met.body.values())) if isinstance(met.body, dict) else met.body) == (200, [])
    elif key == "POST /v1/executions/{executionId}/statuses":
        assert [result["status"] for result in met.body["results"]] == [404, 404, 409]
    else:
        assert met.status == (400 if key == UNKNOWN_IS_BAD_REQUEST else 404)
    assert shape(met, tenants.theirs) == shape(missed, nowhere), "as if it existed nowhere"
    assert SECRET not in met.text
    assert tenants.other not in met.text + str(met.headers)
    assert tenants.items() == before, "nothing is written"
    assert requested
    assert tenants.other not in "".join(requested), "nor asked for"
    if key not in MAKES_ONES_OWN:
        assert tenants.own_items() == [], "nothing is begun for oneself either"


@pytest.mark.parametrize("key", REACHING)
def test_no_route_reaches_what_is_another_tenants(tenants: Tenants, key: str) -> None:
    check_nothing_of_the_other(tenants, key, tenants.mine)


def test_session_touches_nothing(tenants: Tenants) -> None:
    with requests_to_the_table() as requested:
        reply = call(tenants.session(tenants.mine), TOUCHES_NOTHING, tenants.theirs, tenants.mine)

    assert (reply.status, requested) == (200, [])


@pytest.mark.parametrize("key", [key for key in PROTECTED if "{project}" in key])
def test_project_of_another_tenant_is_closed(tenants: Tenants, key: str) -> None:
    with requests_to_the_table() as requested:
        reply = call(tenants.session(tenants.mine), key, tenants.theirs, tenants.other)

    assert (reply.status, requested) == (403, [])
    assert SECRET not in reply.text


@pytest.mark.parametrize("key", REACHING)
def test_route_that_forgot_the_tenant_would_be_found(
    tenants: Tenants, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check itself: were everybody taken for the other tenant, it would fail for each route."""
    monkeypatch.setattr(app, "get_tenant", lambda *_: tenants.other)

    with pytest.raises(AssertionError):
        check_nothing_of_the_other(tenants, key, tenants.other)


@pytest.mark.parametrize("key", PROTECTED)
@pytest.mark.parametrize("org", [None, "", "x\ny", "x" * 129, "\x00"])
def test_token_that_names_no_tenant_opens_nothing(tenants: Tenants, key: str, org: str | None) -> None:
    # given
    tenants.api.tokens = {"nobody": {"scope": ALL_SCOPES} | ({} if org is None else {"org": org})}
    session = tenants.session("nobody")

    # when
    with requests_to_the_table() as requested:
        reply = call(session, key, tenants.theirs, tenants.other)

    # then
    assert reply.status == 403
    assert requested == []


@pytest.mark.parametrize("key", PROTECTED)
def test_route_needs_its_own_scope(tenants: Tenants, key: str) -> None:
    """API Gateway asks for it; the handler does not rely on that."""
    # given a token with every other scope, and names that are almost the right one
    scope = str(operations()[key][1].scope)
    others = [item for item in ALL_SCOPES.split() if item != scope] + [f"{scope}s", scope.upper(), f"x{scope}"]
    function = load_handler(operations()[key][0])
    event = {
        "routeKey": key,
        "requestContext": {
            "requestId": "r",
            "authorizer": {"jwt": {"claims": {"scope": " ".join(others), "org": tenants.other}}},
        },
    }

    # when
    with requests_to_the_table() as requested:
        refused = function.handler(event, Context())
        event["requestContext"] = {"requestId": "r"}
        nameless = function.handler(event, Context())

    # then
    assert (refused["statusCode"], nameless["statusCode"], requested) == (403, 401, [])


# ---------------------------------------------------------------- crafted ids

CRAFTED: Final = [
    "EXEC",
    "GROUP",
    "TASK#x",
    "TASK",
    "x",
    "x#y",
    "x%y",
    "#",
    "%",
    "x#",
    "#x",
    "x#1",
    "INPUT#x",
    "OUTPUT#x#1#0123456789abcdef",
    "WAITS#x",
    "NEXT#x#x",
    " ",
    "x ",
    " x",
    "X",
    "é",
    "e\u0301",
    "е",  # noqa: RUF001 - Cyrillic, on purpose
    "ｅ",  # noqa: RUF001 - of full width, on purpose
    "x\u200b",
    "\u202ex",
    "\U0010ffff",
    "default",
    "a" * 255,
    "#" * 255,
    "\U0001f600" * 225,
    "a/b",
    '"',
    "'",
    "\\",
    "${x.output.a}",
    "*",
    "null",
]


def test_crafted_task_ids_are_as_many_tasks(tenants: Tenants) -> None:
    # given one execution with all of them
    session, execution = tenants.session(tenants.mine), "/v1/executions/crafted"
    tasks = [{"taskId": name, "input": {"of": name.encode().hex()}} for name in CRAFTED]
    assert session.post("/v1/executions", json={"executionId": "crafted", "tasks": tasks}).status_code == 201

    # when each succeeds with an output of its own, and one late failure is told of each
    outputs = [{"taskId": name, "status": "COMPLETED", "output": {"by": name.encode().hex()}} for name in CRAFTED]
    late = [{"taskId": name, "status": "FAILED", "attempt": 1, "message": name.encode().hex()} for name in CRAFTED]
    verdicts = [
        [
            result["verdict"]
            for result in session.post(f"{execution}/statuses", json={"statuses": body}).json()["results"]
        ]
        for body in (outputs, late)
    ]

    # then each has its own, and nothing of another
    assert verdicts == [["applied"] * len(CRAFTED), ["ignored_after_success"] * len(CRAFTED)]
    listed = session.get(f"{execution}/tasks", params={"limit": "400"}).json()["items"]
    assert sorted(item["taskId"] for item in listed) == sorted(CRAFTED)
    for name in CRAFTED:
        task = session.post(f"{execution}/tasks/read", json={"taskId": name}).json()
        history = session.post(f"{execution}/tasks/history", json={"taskId": name}).json()["items"]
        assert (task["taskId"], task["input"], task["output"]) == (
            name,
            {"of": name.encode().hex()},
            {"by": name.encode().hex()},
        )
        assert [element["message"] for element in history] == [name.encode().hex()[:1024]]


def test_crafted_tenants_are_as_many_tenants(tenants: Tenants) -> None:
    # given the same ids for each
    crafted = [name for name in CRAFTED if len(name) <= 128]
    tenants.api.tokens = {
        name.encode().hex(): {"scope": ALL_SCOPES, "org": f"{tenants.mine}{name}"} for name in crafted
    }
    for name in crafted:
        created = tenants.session(name.encode().hex()).post(
            "/v1/executions",
            json={
                "executionId": "same",
                "metadata": {"of": name},
                "tasks": [{"taskId": "same", "input": {"of": name}}, {"taskId": f"{name}#same"}],
            },
            headers={"Idempotency-Key": "same"},
        )
        assert created.status_code == 201, name

    # when, then
    for name in crafted:
        session = tenants.session(name.encode().hex())
        listed = session.get("/v1/executions").json()["items"]
        tasks = session.get("/v1/executions/same/tasks").json()["items"]
        task = session.get("/v1/executions/same/tasks/same").json()
        assert [item["metadata"] for item in listed] == [{"of": name}]
        assert sorted(element["taskId"] for element in tasks) == sorted(["same", f"{name}#same"])
        assert task["input"] == {"of": name}


def test_attempts_of_tenants_have_ids_of_their_own(tenants: Tenants) -> None:
    # given the same names for both
    mine = tenants.session(tenants.mine)
    task_id = tenants.theirs.task_id
    body = {"executionId": tenants.theirs.execution_id, "tasks": [{"taskId": task_id}]}
    assert mine.post("/v1/executions", json=body).status_code == 201
    path = f"/v1/executions/{tenants.theirs.execution_id}/tasks/{task_id}"

    # when
    payload = {"status": "COMPLETED", "taskExecutionId": tenants.theirs.task_execution_id}
    refused = mine.post(f"{path}/status", json=payload)

    # then
    assert refused.status_code == 409
    assert mine.get(path).json()["taskExecutionId"] != tenants.theirs.task_execution_id
    assert mine.get(path).json()["status"] == "SCHEDULED"


def test_idempotency_key_is_the_tenants_own(tenants: Tenants) -> None:
    # given
    body, key = {"tasks": [{"taskId": "a"}]}, {"Idempotency-Key": fresh_name()}

    # when
    replies = [
        tenants.session(tenant).post("/v1/executions", json=body, headers=key)
        for tenant in (tenants.other, tenants.mine, tenants.other)
    ]

    # then
    assert [reply.status_code for reply in replies] == [201, 201, 200]
    ids = [reply.json()["executionId"] for reply in replies]
    assert ids[0] == ids[2] != ids[1]


# ---------------------------------------------------------------- cursors


def first_cursors(session: httpx.Client, names: Names) -> dict[str, str]:
    """A cursor of each list that has more to give."""
    execution = f"/v1/executions/{names.execution_id}"
    history = f"{execution}/tasks/{names.task_id}/history"
    lists = {"executions": "/v1/executions", "tasks": f"{execution}/tasks", "history": history}
    return {name: session.get(url, params={"limit": "1"}).json().get("nextCursor", "") for name, url in lists.items()}


def test_cursor_is_good_for_its_own_list_alone(tenants: Tenants) -> None:
    # given both tenants have lists under the same names, each longer than a page
    mine, other = tenants.session(tenants.mine), tenants.session(tenants.other)
    names = tenants.theirs
    path = f"/v1/executions/{names.execution_id}/tasks/{names.task_id}/status"
    tasks = [{"taskId": names.task_id}, {"taskId": "waits"}]
    mine.post("/v1/executions", json={"executionId": names.execution_id, "tasks": tasks})
    mine.post("/v1/executions", json={"tasks": tasks})
    for session in (mine, other):
        for message in ("one", "two", "three"):
            session.post(path, json={"status": "COMPLETED", "message": message})
    cursors = {tenant: first_cursors(tenants.session(tenant), names) for tenant in (tenants.mine, tenants.other)}
    assert all(cursor for result in cursors.values() for cursor in result.values())

    # when
    execution = f"/v1/executions/{names.execution_id}"
    urls = {
        "executions": "/v1/executions",
        "tasks": f"{execution}/tasks",
        "history": f"{execution}/tasks/{names.task_id}/history",
    }
    statuses = {
        (tenant, of, to): mine.get(urls[to], params={"cursor": cursors[tenant][of]}).status_code
        for tenant in cursors
        for of in urls
        for to in urls
    }

    # then
    assert {index for index, status in statuses.items() if status == 200} == {(tenants.mine, url, url) for url in urls}
    assert set(statuses.values()) == {200, 422}


# ---------------------------------------------------------------- live sockets


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """What reaches connections."""
    callback = FakeClient(post_to_connection={}, delete_connection={})
    bus = FakeClient(put_events=lambda Entries, **_: {"FailedEntryCount": 0, "Entries": [{} for _ in Entries]})  # noqa: N803
    monkeypatch.setattr(services, "live_callback", lambda _url: callback)
    monkeypatch.setattr(services, "events", lambda: bus)
    return callback


def connect(ticket: str | None) -> int:
    """Come with a ticket, over a new connection; give the status."""
    return connect_as(fresh_name(), ticket)


def connect_as(connection_id: str, ticket: str | None) -> int:
    event = {
        "requestContext": {"routeKey": "$connect", "connectionId": connection_id},
        "queryStringParameters": None if ticket is None else {"ticket": ticket},
    }
    status: int = load_handler("live_connection").handler(event, Context())["statusCode"]
    return status


def ticket_of(session: httpx.Client, execution_id: str) -> str:
    ticket: str = session.post(f"/v1/executions/{execution_id}/watch").json()["ticket"]
    return ticket


@pytest.mark.usefixtures("sockets")
def test_ticket_that_was_not_issued_or_was_used_opens_nothing(tenants: Tenants) -> None:
    # given
    session = tenants.session(tenants.other)
    ticket = ticket_of(session, tenants.theirs.execution_id)
    changed = ticket[:-1] + ("A" if ticket[-1] != "A" else "B")
    crafted = [changed, ticket[:-1], f"{ticket}x", f" {ticket}", ticket.swapcase(), *CRAFTED, "", None, "x" * 5_000]
    key = keys.ticket_pk(ticket)

    # when
    refused = {connect(item) for item in [*crafted, key, f"TICKET#{ticket}", f"{ticket},{ticket}"]}
    taken = connect(ticket)
    again = connect(ticket)

    # then
    assert refused == {403}
    assert (taken, again) == (200, 403)


def test_ticket_that_is_too_old_opens_nothing(
    tenants: Tenants, sockets: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    ticket = ticket_of(tenants.session(tenants.other), tenants.theirs.execution_id)

    # when
    monkeypatch.setattr(services, "system_clock", lambda: system_clock() + 61_000)

    # then
    assert connect(ticket) == 403
    assert sockets.calls == []


def test_watcher_is_told_of_his_own_tenants_changes_only(tenants: Tenants, sockets: FakeClient) -> None:
    # given both watch executions of the same name
    mine = tenants.session(tenants.mine)
    execution_id, task_id = tenants.theirs.execution_id, tenants.theirs.task_id
    mine.post("/v1/executions", json={"executionId": execution_id, "tasks": [{"taskId": task_id}]})
    for tenant in (tenants.mine, tenants.other):
        assert connect_as(f"watcher-{tenant}", ticket_of(tenants.session(tenant), execution_id)) == 200

    # when the other's task changes
    task = stored_task(tenants.client, tenants.other, execution_id, task_id)
    answer = load_handler("notifier").handler({"Records": [task]}, Context())

    # then
    assert answer == {"batchItemFailures": []}
    messages = [request["ConnectionId"] for request in sockets.requests("post_to_connection")]
    assert messages == [f"watcher-{tenants.other}"]


def stored_task(client: "DynamoDBClient", tenant: str, execution_id: str, task_id: str) -> dict[str, Any]:
    """The stream's record of a task as it lies in the table."""
    key: Any = {"pk": {"S": keys.execution_pk(tenant, execution_id)}, "sk": {"S": keys.task_sk(task_id)}}
    item = client.get_item(TableName=get_settings().table_name, Key=key)["Item"]
    return {
        "eventName": "INSERT",
        "dynamodb": {"Keys": key, "NewImage": item, "SequenceNumber": "1"},
    }
