"""Cognite's contract over an emulated table; answers fit this service's description.

Each test has a tenant of its own, which is the project too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import ModuleType
from typing import Any, Final

import pytest

from local.describe import API_FUNCTIONS
from local.handlers import load_handler
from tasklatch.domain.attempt_id import task_execution_id
from tasklatch.domain.conditional_write import next_attempt_write
from tasklatch.domain.history import change_entry
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import RetryPolicy, Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.cursor import encode_cursor
from tasklatch.executions.running_executions import RunningExecutions
from tasklatch.ledger.history import History
from tasklatch.runtime import services
from tasklatch.runtime.settings import get_settings
from tests.api_description import check_answer
from tests.factories import ALL_SCOPES, NOW, Reply, api_event, call_api, fresh_name
from tests.integration.emulators import Table, counted_calls, intercepted, make_backoff
from tests.workflow_helpers import World, a_queue

PROJECT: Final = "/api/v1/projects/{project}"
WORKFLOWS: Final = f"POST {PROJECT}/workflows"
LIST_WORKFLOWS: Final = f"GET {PROJECT}/workflows"
WORKFLOW: Final = f"GET {PROJECT}/workflows/{{workflowExternalId}}"
DELETE_WORKFLOWS: Final = f"POST {PROJECT}/workflows/delete"
VERSIONS: Final = f"POST {PROJECT}/workflows/versions"
LIST_VERSIONS: Final = f"POST {PROJECT}/workflows/versions/list"
VERSION: Final = f"GET {PROJECT}/workflows/{{workflowExternalId}}/versions/{{version}}"
DELETE_VERSIONS: Final = f"POST {PROJECT}/workflows/versions/delete"
SESSIONS: Final = f"POST {PROJECT}/sessions"
RUN: Final = f"POST {PROJECT}/workflows/{{workflowExternalId}}/versions/{{version}}/run"
EXECUTIONS: Final = f"POST {PROJECT}/workflows/executions/list"
EXECUTION: Final = f"GET {PROJECT}/workflows/executions/{{executionId}}"
CANCEL: Final = f"POST {PROJECT}/workflows/executions/{{executionId}}/cancel"
RETRY: Final = f"POST {PROJECT}/workflows/executions/{{executionId}}/retry"
UPDATE: Final = f"POST {PROJECT}/workflows/tasks/{{taskId}}/update"
NATIVE_CREATE: Final = "POST /v1/executions"
NATIVE_ADD: Final = "POST /v1/executions/{executionId}/tasks"
NATIVE_TASK: Final = "GET /v1/executions/{executionId}/tasks/{taskId}"
NATIVE_REPORT: Final = "POST /v1/executions/{executionId}/tasks/{taskId}/status"
NATIVE_HISTORY: Final = f"{NATIVE_TASK}/history"
FLOW_EXECUTION: Final = "GET /api/flow-executions/{flow_execution_id}"


def function_of(route: str) -> str:
    """The function that serves a route."""
    (result,) = (name for name in API_FUNCTIONS if route in load_handler(name).app.operations)
    return result


def a_task(external_id: str, *depends_on: str, data: Any = None, **fields: Any) -> dict[str, Any]:
    function = {"externalId": "fn", **({"data": data} if data is not None else {})}
    return {
        "externalId": external_id,
        "type": "function",
        "parameters": {"function": function, "isAsyncComplete": True},
        "dependsOn": [{"externalId": name} for name in depends_on],
        **fields,
    }


@dataclass
class Api:
    """The handlers, called as API Gateway calls them; each answer is held to the description."""

    load: Callable[[str, Any], ModuleType]
    table: Table
    tenant: str = field(default_factory=fresh_name)
    client: Any = None

    def __call__(self, route: str, *path: str, body: Any = None, **more: Any) -> Reply:
        names = [part[1:-1] for part in route.split("/") if part.startswith("{")]
        initial = (self.tenant, *path) if "project" in names else path
        more.setdefault("claims", {"scope": ALL_SCOPES, "org": self.tenant})
        event = api_event(route, path=dict(zip(names, initial, strict=True)), body=body, **more)
        module = self.load(function_of(route), self.client or self.table.client)
        reply = call_api(module.handler, event)
        check_answer(route, reply)
        return reply

    def through(self, client: Any) -> "Api":
        """The same, by another client."""
        return replace(self, client=client)

    @cached_property
    def world(self) -> World:
        """The service's other parts, on the same table."""
        return World(replace(self.table, tenant=self.tenant))

    def define(self, *tasks: dict[str, Any], workflow: str = "nightly", version: str = "1") -> None:
        assert self(WORKFLOWS, body={"items": [{"externalId": workflow}]}).status == 200
        created = self.put_version(*tasks, workflow=workflow, version=version)
        assert created.status == 200, created.text

    def put_version(self, *tasks: dict[str, Any], workflow: str = "w", version: str = "1") -> Reply:
        item = {"workflowExternalId": workflow, "version": version, "workflowDefinition": {"tasks": list(tasks)}}
        return self(VERSIONS, body={"items": [item]})

    def run(self, workflow: str = "nightly", version: str = "1", nonce: str = "", **more: Any) -> Any:
        body = {"authentication": {"nonce": nonce or fresh_name()}, **more}
        reply = self(RUN, workflow, version, body=body)
        assert reply.status == 200, reply.text
        return reply.body

    def task_ids(self, execution_id: str) -> dict[str, str]:
        shown = self(EXECUTION, execution_id).body["executedTasks"]
        return {task["externalId"]: task["id"] for task in shown}

    def update(self, task_id: str, status: str, **more: Any) -> Reply:
        return self(UPDATE, task_id, body={"status": status, **more})


@pytest.fixture
def api(load: Callable[[str, Any], ModuleType], statements_table: Table, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("TENANT_CLAIM", "org")
    get_settings.cache_clear()
    monkeypatch.setattr(services, "sqs", a_queue)
    return Api(load, statements_table)


@pytest.fixture
def execution_id(api: Api) -> str:
    """A run of two tasks side by side and one that waits for both."""
    api.define(
        a_task("a", data={"all": "${workflow.input}", "one": "${workflow.input.files[0]}"}),
        a_task("b"),
        a_task("c", "a", "b", data={"from": "${a.output.rows}"}),
    )
    return str(api.run(input={"files": ["x.csv", "y.csv"]}, metadata={"by": "me"})["id"])


# ---------------------------------------------------------------- workflows and versions


def test_workflow_that_is_put_again_keeps_when_it_was_made(api: Api) -> None:
    first = api(WORKFLOWS, body={"items": [{"externalId": "w", "description": "one", "dataSetId": 7}]}).body["items"]
    again = api(WORKFLOWS, body={"items": [{"externalId": "w"}]}).body["items"]

    shown = api(WORKFLOW, "w").body

    assert first[0]["description"] == "one"
    assert shown == again[0]
    assert "description" not in shown
    assert "dataSetId" not in shown
    assert shown["createdTime"] == first[0]["createdTime"] <= shown["lastUpdatedTime"]


def test_workflows_are_listed_page_by_page(api: Api) -> None:
    # given
    names = [f"w{number}" for number in range(5)]
    api(WORKFLOWS, body={"items": [{"externalId": name} for name in reversed(names)]})

    # when
    pages: list[list[str]] = []
    cursor = None
    while cursor is not None or not pages:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = api(LIST_WORKFLOWS, query=query).body
        pages.append([item["externalId"] for item in page["items"]])
        cursor = page.get("nextCursor")

    # then
    assert pages == [["w0", "w1"], ["w2", "w3"], ["w4"]]


def test_first_version_makes_its_workflow_and_another_leaves_it_as_it_is(api: Api) -> None:
    # given
    item = {"workflowExternalId": "new", "version": "1", "workflowDefinition": {"tasks": [a_task("a")]}}

    # when
    assert api(VERSIONS, body={"items": [item]}).status == 200

    # then
    assert api(WORKFLOW, "new").body["externalId"] == "new"
    assert [workflow["externalId"] for workflow in api(LIST_WORKFLOWS).body["items"]] == ["new"]
    put = api(WORKFLOWS, body={"items": [{"externalId": "new", "description": "d", "maxConcurrentExecutions": 3}]})
    assert api(VERSIONS, body={"items": [{**item, "version": "2"}]}).status == 200
    assert api(WORKFLOW, "new").body == put.body["items"][0]
    assert put.body["items"][0]["maxConcurrentExecutions"] == 3


def test_version_is_shown_with_what_was_left_out_filled_in(api: Api) -> None:
    api.define(a_task("a"))

    shown = api(VERSION, "nightly", "1").body

    (task,) = shown["workflowDefinition"]["tasks"]
    assert (task["retries"], task["timeout"], task["onFailure"]) == (3, 3600, "abortWorkflow")
    assert (shown["workflowExternalId"], shown["version"]) == ("nightly", "1")
    assert shown["workflowDefinition"]["hash"]


def test_versions_are_listed_by_workflow_by_version_and_all(api: Api) -> None:
    # given
    for workflow in ("one", "two"):
        for version in ("1", "2", "3"):
            api.define(a_task("a"), workflow=workflow, version=version)

    def listed(*filters: dict[str, str]) -> list[tuple[str, str]]:
        names: list[tuple[str, str]] = []
        cursor = None
        while True:
            body = {"filter": {"workflowFilters": list(filters)}, "limit": 2} | ({"cursor": cursor} if cursor else {})
            page = api(LIST_VERSIONS, body=body).body
            names += [(item["workflowExternalId"], item["version"]) for item in page["items"]]
            cursor = page.get("nextCursor")
            if cursor is None:
                return names

    # then each comes once
    ones = {("one", version) for version in "123"}
    twos = {("two", version) for version in "123"}
    assert len(listed()) == 6
    assert set(listed()) == ones | twos
    assert (len(listed({"externalId": "one"})), set(listed({"externalId": "one"}))) == (3, ones)
    assert listed({"externalId": "two", "version": "2"}) == [("two", "2")]
    some = listed({"externalId": "one"}, {"externalId": "two", "version": "3"}, {"externalId": "one", "version": "1"})
    assert (len(some), set(some)) == (4, ones | {("two", "3")})
    assert listed({"externalId": "none"}) == []


def test_cursor_of_another_list_is_refused(api: Api) -> None:
    api.define(a_task("a"), version="1")
    api.define(a_task("a"), version="2")
    cursor = api(LIST_VERSIONS, body={"limit": 1}).body["nextCursor"]

    other = api(LIST_VERSIONS, body={"filter": {"workflowFilters": [{"externalId": "nightly"}]}, "cursor": cursor})
    foreign = replace(api, tenant=fresh_name())(LIST_VERSIONS, body={"cursor": cursor})

    assert (other.status, foreign.status) == (400, 400)


@pytest.mark.parametrize(
    ("position", "status"),
    [("\U0010ffff", 200), ("a" * 1000, 200), ("0" * 32 + "#\U0010ffff", 200), ("a" * 1024, 400)],
)
def test_made_up_cursor_leads_to_an_empty_page_or_is_refused(api: Api, position: str, status: int) -> None:
    api.define(a_task("a"))
    workflows = encode_cursor(keys.workflow_list(api.tenant), position)
    versions = encode_cursor(f"{keys.version_list(api.tenant)} []", position)

    replies = [
        api(LIST_WORKFLOWS, query={"cursor": workflows}),
        api(LIST_VERSIONS, body={"cursor": versions}),
    ]

    assert [reply.status for reply in replies] == [status, status]


def test_range_of_times_the_wrong_way_round_is_refused(api: Api) -> None:
    reply = api(EXECUTIONS, body={"filter": {"createdTimeStart": 2, "createdTimeEnd": 1}})

    assert reply.status == 400


def test_deleting_what_is_not_there_names_it_and_deletes_nothing(api: Api) -> None:
    # given
    api.define(a_task("a"))

    # when
    workflows = api(DELETE_WORKFLOWS, body={"items": [{"externalId": "nightly"}, {"externalId": "none"}]})
    names = [{"workflowExternalId": "nightly", "version": version} for version in ("1", "9")]
    versions = api(DELETE_VERSIONS, body={"items": names})

    # then
    assert (workflows.status, workflows.body["error"]["missing"]) == (404, [{"externalId": "none"}])
    assert "workflows were not found" in workflows.body["error"]["message"]
    assert "not found" in versions.body["error"]["message"]
    assert (versions.status, versions.body["error"]["missing"]) == (404, [{"externalId": "nightly:9"}])
    assert api(VERSION, "nightly", "1").status == 200

    # and where that does not matter, the rest is deleted
    assert api(DELETE_VERSIONS, body={"items": names}, query={"ignoreUnknownIds": "true"}).status == 200
    assert api(VERSION, "nightly", "1").status == 404
    assert api(WORKFLOW, "nightly").status == 200


def test_deleted_workflow_takes_its_versions_along_and_its_runs_go_on(api: Api) -> None:
    # given
    api.define(a_task("a"))
    execution_id = api.run()["id"]
    api(CANCEL, execution_id, body={})

    # when
    assert api(DELETE_WORKFLOWS, body={"items": [{"externalId": "nightly"}]}).status == 200

    # then
    assert api(WORKFLOW, "nightly").status == api(VERSION, "nightly", "1").status == 404
    assert api(LIST_VERSIONS, body={}).body["items"] == []
    assert api(RETRY, execution_id, body={}).status == 200
    assert api.update(api.task_ids(execution_id)["a"], "COMPLETED").body["status"] == "COMPLETED"


def test_what_runs_is_not_deleted(api: Api) -> None:
    # given two versions, of which one runs
    for version in ("1", "2"):
        api.define(a_task("a"), version=version)
    execution_id = api.run(version="2")["id"]

    def delete_version(version: str) -> Reply:
        return api(DELETE_VERSIONS, body={"items": [{"workflowExternalId": "nightly", "version": version}]})

    def delete_workflow() -> Reply:
        return api(DELETE_WORKFLOWS, body={"items": [{"externalId": "nightly"}]})

    # then
    for refused in (delete_version("2"), delete_workflow()):
        assert refused.status == 409
        assert "running executions" in refused.body["error"]["message"]
    assert delete_version("1").status == 200

    # and once it is over, it is; until it is retried
    api(CANCEL, execution_id, body={})
    api(RETRY, execution_id, body={})
    assert delete_workflow().status == 409
    api.update(api.task_ids(execution_id)["a"], "COMPLETED")
    api.world.advance("a", execution_id=execution_id)
    assert delete_version("2").status == delete_workflow().status == 200


def test_list_of_what_runs_is_only_a_hint(api: Api) -> None:
    # given an end that did not come off the list
    api.define(a_task("a"))
    execution_id = api.run()["id"]
    execution = api.world.execution(execution_id)
    api(CANCEL, execution_id, body={})
    running = RunningExecutions(api.table.client, api.world.settings, make_backoff())
    running.put(execution)

    # then
    assert not running.contains(api.tenant, "workflow:nightly")
    assert api(DELETE_WORKFLOWS, body={"items": [{"externalId": "nightly"}]}).status == 200


@pytest.mark.parametrize("name", ["delete", "executions", "list", "tasks", "triggers", "versions", ".", "..", "a/b"])
def test_workflow_whose_name_means_something_else_in_a_path_is_refused(api: Api, name: str) -> None:
    item = {"workflowExternalId": name, "version": "1", "workflowDefinition": {"tasks": [a_task("a")]}}

    replies = [api(WORKFLOWS, body={"items": [{"externalId": name}]}), api(VERSIONS, body={"items": [item]})]

    assert [reply.status for reply in replies] == [400, 400]
    assert api(LIST_WORKFLOWS).body["items"] == []


def test_null_is_as_if_left_out(api: Api) -> None:
    # given
    nulls = dict.fromkeys(("retries", "timeout", "onFailure", "dependsOn", "name", "description"))
    api.define({**a_task("a"), **nulls})
    execution_id = api.run(input=None, metadata=None)["id"]

    # then
    (task,) = api(VERSION, "nightly", "1").body["workflowDefinition"]["tasks"]
    assert (task["retries"], task["timeout"], task["onFailure"], task["dependsOn"]) == (3, 3600, "abortWorkflow", [])
    for route in (LIST_VERSIONS, EXECUTIONS):
        assert len(api(route, body={"filter": None, "limit": None, "cursor": None}).body["items"]) == 1
        assert len(api(route, body={"filter": {"workflowFilters": None}}).body["items"]) == 1
    members = dict.fromkeys(("workflowFilters", "createdTimeStart", "createdTimeEnd", "status"))
    assert api(EXECUTIONS, body={"filter": members}).body["items"][0]["id"] == execution_id


def test_types_that_are_not_known_are_passed_on_as_they_are(api: Api) -> None:
    # given
    parameters = {"functionApp": {"externalId": "app", "path": "/x", "body": {"from": "${workflow.input.k}"}}}
    api.define({"externalId": "a", "type": "functionApp", "parameters": parameters})

    # when
    shown = api(EXECUTION, api.run(input={"k": 7})["id"]).body

    # then
    (task,) = shown["workflowDefinition"]["tasks"]
    assert (task["type"], task["parameters"]) == ("functionApp", parameters)
    (executed,) = shown["executedTasks"]
    assert executed["taskType"] == "functionApp"
    assert executed["input"] == {"functionApp": {"externalId": "app", "path": "/x", "body": {"from": 7}}}


def a_request(body: str) -> dict[str, Any]:
    return {
        "type": "cdf",
        "parameters": {"cdfRequest": {"resourcePath": "/x", "method": "POST", "body": body}},
    }


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"timeout": 59}, 400),
        ({"timeout": 86_401}, 400),
        ({"timeout": 86_400}, 200),
        ({"parameters": {"function": {"externalId": "fn", "data": {"k": "x" * 102_400}}}}, 413),
        (
            {
                "type": "cdf",
                "parameters": {"cdfRequest": {"resourcePath": "/x", "method": "POST", "body": "x" * 150_000}},
            },
            200,
        ),
        (
            {
                "type": "cdf",
                "parameters": {"cdfRequest": {"resourcePath": "/x", "method": "POST", "body": "x" * 200_000}},
            },
            413,
        ),
        ({"type": "simulation", "parameters": {"simulation": {"routineExternalId": "r", "inputs": [{}] * 200}}}, 200),
        ({"type": "simulation", "parameters": {"simulation": {"routineExternalId": "r", "inputs": [{}] * 201}}}, 400),
    ],
)
def test_limits_of_a_task(api: Api, fields: dict[str, Any], status: int) -> None:
    definition = {"tasks": [{**a_task("a"), **fields}]}

    reply = api(
        VERSIONS, body={"items": [{"workflowExternalId": "w", "version": "1", "workflowDefinition": definition}]}
    )

    assert reply.status == status, reply.text


def test_task_waits_for_at_most_a_hundred(api: Api) -> None:
    names = [f"t{number}" for number in range(101)]
    tasks = [*map(a_task, names), a_task("last", *names)]

    reply = api(
        VERSIONS, body={"items": [{"workflowExternalId": "w", "version": "1", "workflowDefinition": {"tasks": tasks}}]}
    )

    assert reply.status == 400


@pytest.mark.parametrize(
    ("route", "body"),
    [
        (WORKFLOWS, {"items": [{"externalId": "a"}, {"externalId": "a"}]}),
        (
            VERSIONS,
            {
                "items": [
                    {
                        "workflowExternalId": "a",
                        "version": "1",
                        "workflowDefinition": {"tasks": [a_task("t"), a_task("t")]},
                    }
                ]
            },
        ),
    ],
)
def test_what_is_there_twice_is_a_conflict_that_names_it(api: Api, route: str, body: dict[str, Any]) -> None:
    reply = api(route, body=body)

    assert reply.status == 409
    assert reply.body["error"]["duplicated"]
    assert reply.body["error"]["code"] == 409


def test_definition_that_cannot_be_run_is_refused_and_not_kept(api: Api) -> None:
    api(WORKFLOWS, body={"items": [{"externalId": "w"}]})
    circle = {"tasks": [a_task("a", "b"), a_task("b", "a")]}

    reply = api(VERSIONS, body={"items": [{"workflowExternalId": "w", "version": "1", "workflowDefinition": circle}]})

    assert reply.status == 400
    assert "dependency cycle" in reply.body["error"]["message"]
    assert api(VERSION, "w", "1").status == 404


# ---------------------------------------------------------------- runs


def test_run_schedules_what_waits_for_nothing_with_its_input_put_in(api: Api, execution_id: str) -> None:
    shown = api(EXECUTION, execution_id).body

    assert [(task["externalId"], task["status"]) for task in shown["executedTasks"]] == [
        ("a", "SCHEDULED"),
        ("b", "SCHEDULED"),
    ]
    data = shown["executedTasks"][0]["input"]["function"]["data"]
    task_id = shown["executedTasks"][0]["id"]
    assert data == {"all": {"files": ["x.csv", "y.csv"]}, "one": "x.csv", "cogniteOrchestrationTaskId": task_id}
    assert shown["engineExecutionId"] == shown["id"] == execution_id
    assert {task["parentTaskExternalId"] for task in shown["executedTasks"]} == {None}
    assert shown["input"] == {"files": ["x.csv", "y.csv"]}
    assert shown["metadata"] == {"by": "me"}
    assert (shown["workflowExternalId"], shown["version"], shown["status"]) == ("nightly", "1", "RUNNING")
    assert len(shown["workflowDefinition"]["tasks"]) == 3


def test_run_keeps_the_definition_that_it_began_with(api: Api, execution_id: str) -> None:
    before = api(EXECUTION, execution_id).body["workflowDefinition"]

    api.define(a_task("other"))

    assert api(EXECUTION, execution_id).body["workflowDefinition"] == before
    assert api(VERSION, "nightly", "1").body["workflowDefinition"]["hash"] != before["hash"]


def test_run_that_is_sent_again_with_its_nonce_is_the_same_execution(api: Api) -> None:
    api.define(a_task("a"))
    nonce = api(SESSIONS, body={"items": [{"tokenExchange": True}]}).body["items"][0]["nonce"]

    first, again, other = api.run(nonce=nonce), api.run(nonce=nonce), api.run()
    for_something_else = api(RUN, "nightly", "1", body={"authentication": {"nonce": nonce}, "input": {"k": 1}})

    assert first == again
    assert other["id"] != first["id"]
    assert for_something_else.status == 409


def test_run_of_an_unknown_version_is_not_found(api: Api) -> None:
    api.define(a_task("a"))

    reply = api(RUN, "nightly", "9", body={"authentication": {"nonce": "n"}})

    assert reply.status == 404
    assert reply.body["error"]["missing"] == [{"externalId": "nightly:9"}]


def test_executions_are_listed_by_workflow_version_status_and_time(api: Api) -> None:
    # given
    for workflow, version in (("one", "1"), ("one", "2"), ("two", "1")):
        api.define(a_task("a"), workflow=workflow, version=version)
    runs = {name: api.run(*name)["id"] for name in (("one", "1"), ("one", "2"), ("two", "1"))}
    api(CANCEL, runs["one", "2"], body={})
    # and one that another contract created, for which there are no words here
    native = api(NATIVE_CREATE, body={"tasks": [{"taskId": "a"}]}).body["executionId"]

    def listed(**expected: Any) -> set[str]:
        items = api(EXECUTIONS, body={"filter": expected, "limit": 1000}).body["items"]
        return {item["id"] for item in items}

    # then
    every = set(runs.values())
    assert listed() == every
    assert listed(workflowFilters=[{"externalId": "one"}]) == {runs["one", "1"], runs["one", "2"]}
    assert listed(workflowFilters=[{"externalId": "one", "version": "2"}]) == {runs["one", "2"]}
    two_of_three = [{"externalId": "one", "version": "1"}, {"externalId": "two"}]
    assert listed(workflowFilters=two_of_three) == {runs["one", "1"], runs["two", "1"]}
    assert listed(status=["TERMINATED"]) == {runs["one", "2"]}
    assert listed(status=["RUNNING", "TERMINATED"]) == every
    assert listed(createdTimeEnd=1) == set()
    assert listed(createdTimeStart=1) == every
    assert api(EXECUTION, native).status == 400


def test_executions_are_listed_page_by_page(api: Api) -> None:
    api.define(a_task("a"))
    runs = {api.run()["id"] for _ in range(3)}

    first = api(EXECUTIONS, body={"limit": 2}).body
    rest = api(EXECUTIONS, body={"limit": 2, "cursor": first["nextCursor"]}).body

    assert len(first["items"]) == 2
    assert {item["id"] for item in first["items"] + rest["items"]} == runs
    assert "nextCursor" not in rest


@pytest.mark.parametrize("body", [{}, {"reason": None}, {"reason": ""}])
def test_cancellation_without_a_reason_has_the_platforms_own(api: Api, execution_id: str, body: dict[str, Any]) -> None:
    assert api(CANCEL, execution_id, body=body).body["reasonForIncompletion"] == "cancelled"


def test_update_after_a_cancellation_was_answered_is_not_applied(api: Api, execution_id: str) -> None:
    # given
    task_id = api.task_ids(execution_id)["a"]
    api(CANCEL, execution_id, body={})

    # when
    late = api.update(task_id, "COMPLETED", output={"rows": 1})

    # then
    assert (late.status, late.body["status"], late.body["output"]) == (200, "CANCELED", {})


def test_unknown_execution_is_a_bad_request_to_read_and_not_found_to_change(api: Api) -> None:
    replies = [
        api(EXECUTION, fresh_name()),
        api(EXECUTION, "can't be one"),
        api(CANCEL, fresh_name(), body={}),
        api(RETRY, fresh_name(), body={"authentication": {"nonce": "n"}}),
    ]

    assert [reply.status for reply in replies] == [400, 400, 404, 404]
    assert all(reply.body["error"]["message"] for reply in replies)


def test_cancelled_execution_is_terminated_with_its_reason(api: Api, execution_id: str) -> None:
    # when
    cancelled = api(CANCEL, execution_id, body={"reason": "enough"}).body
    api.world.closer.cancel_open_tasks(api.tenant, execution_id)

    # then
    assert (cancelled["status"], cancelled["reasonForIncompletion"]) == ("TERMINATED", "enough")
    tasks = api(EXECUTION, execution_id).body["executedTasks"]
    assert {(task["status"], task["reasonForIncompletion"]) for task in tasks} == {("CANCELED", "enough")}


def test_retry_gives_what_was_cancelled_one_more_attempt_under_a_new_id(api: Api, execution_id: str) -> None:
    # given
    before = api.task_ids(execution_id)
    api.update(before["a"], "COMPLETED", output={"rows": 3})
    api(CANCEL, execution_id, body={})
    api.world.closer.cancel_open_tasks(api.tenant, execution_id)

    # when
    retried = api(RETRY, execution_id, body={"authentication": {"nonce": "n"}})

    # then
    assert retried.body["status"] == "RUNNING"
    after = api.task_ids(execution_id)
    assert after["a"] == before["a"]
    assert after["b"] not in before.values()
    assert api.update(after["b"], "COMPLETED").body["id"] == after["b"]


def test_completed_execution_cannot_be_cancelled_or_retried(api: Api) -> None:
    # given
    api.define(a_task("a"))
    execution_id = api.run()["id"]
    api.update(api.task_ids(execution_id)["a"], "COMPLETED")
    api.world.advance("a", execution_id=execution_id)

    # then
    assert api(EXECUTION, execution_id).body["status"] == "COMPLETED"
    assert api(CANCEL, execution_id, body={}).status == 409
    assert api(RETRY, execution_id, body={}).status == 409


# ---------------------------------------------------------------- updates


def test_success_lets_what_waits_go_on_with_the_output_put_in(api: Api, execution_id: str) -> None:
    # given
    ids = api.task_ids(execution_id)

    # when
    done = api.update(ids["a"], "COMPLETED", output={"rows": [1, 2]}).body
    api.update(ids["b"], "COMPLETED")
    api.world.advance("a", "b", execution_id=execution_id)

    # then
    assert (done["id"], done["externalId"], done["status"]) == (ids["a"], "a", "COMPLETED")
    assert (done["output"], done["taskType"]) == ({"rows": [1, 2]}, "function")
    assert done["input"]["function"]["externalId"] == "fn"
    waiting = api(EXECUTION, execution_id).body["executedTasks"][2]
    assert (waiting["externalId"], waiting["status"]) == ("c", "SCHEDULED")
    assert waiting["input"]["function"]["data"] == {"from": [1, 2], "cogniteOrchestrationTaskId": waiting["id"]}


def test_update_that_is_sent_again_gets_the_stored_task(api: Api, execution_id: str) -> None:
    task_id = api.task_ids(execution_id)["a"]

    first = api.update(task_id, "COMPLETED", output={"rows": 1})
    again = api.update(task_id, "COMPLETED", output={"rows": 1})

    assert (first.status, again.status) == (200, 200)
    assert first.body == again.body


def test_failure_after_success_is_answered_with_the_success(api: Api, execution_id: str) -> None:
    task_id = api.task_ids(execution_id)["a"]
    api.update(task_id, "COMPLETED", output={"rows": 1})

    late = api.update(task_id, "FAILED_WITH_TERMINAL_ERROR", output={"why": "late"})

    assert late.status == 200
    assert (late.body["status"], late.body["output"]) == ("COMPLETED", {"rows": 1})
    # and it is kept
    entries = api(NATIVE_HISTORY, execution_id, "a").body["items"]
    assert "ignored_after_success" in {entry["verdict"] for entry in entries}


def test_output_is_put_over_what_was_said_of_the_same_attempt(api: Api, execution_id: str) -> None:
    task_id = api.task_ids(execution_id)["a"]

    failed = api.update(task_id, "FAILED", output={"a": 1, "b": 2}).body
    done = api.update(task_id, "COMPLETED", output={"b": 3, "c": 4}).body

    assert failed["output"] == {"a": 1, "b": 2}
    assert done["output"] == {"a": 1, "b": 3, "c": 4}
    assert api(NATIVE_TASK, execution_id, "a").body["output"] == {"a": 1, "b": 3, "c": 4}


def test_output_that_arrives_while_another_is_put_in_loses_nothing(api: Api, execution_id: str) -> None:
    # given an update that is overtaken by another between its read and its write
    task_id = api.task_ids(execution_id)["a"]
    overtaken_by: list[Any] = [lambda: api.update(task_id, "FAILED", output={"first": 1})]

    def around(operation: str, call: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if operation == "update_item" and arguments["Key"]["sk"]["S"] == "TASK#a" and overtaken_by:
            overtaken_by.pop()()
        return call()

    # when
    late = api.through(intercepted(api.table.client, around)).update(task_id, "COMPLETED", output={"second": 2})

    # then
    assert not overtaken_by
    assert late.body["status"] == "COMPLETED"
    assert late.body["output"] == {"first": 1, "second": 2}


def test_outputs_too_large_together_are_refused_and_change_nothing(api: Api, execution_id: str) -> None:
    task_id = api.task_ids(execution_id)["a"]
    api.update(task_id, "FAILED", output={"a": "x" * 60_000})

    refused = api.update(task_id, "COMPLETED", output={"b": "x" * 60_000})

    assert refused.status == 413
    assert api(NATIVE_TASK, execution_id, "a").body["status"] == "FAILED"


def open_next_attempt(api: Api, execution_id: str, task_id: str) -> Task:
    """Open the next attempt at a task, and let the history tell of the one before."""
    world = api.world
    failed = world.task(task_id, execution_id)
    history = History(api.table.client, world.settings, make_backoff())
    history.put([(failed, change_entry(failed, None))])
    opened = world.ledger.write(api.tenant, execution_id, next_attempt_write(failed, now=NOW))
    assert opened is not None
    return opened


def test_next_attempt_does_not_show_the_failed_ones_output(api: Api) -> None:
    # given
    api.define(a_task("a", retries=1))
    execution_id = api.run()["id"]
    first = api.task_ids(execution_id)["a"]
    api.update(first, "FAILED", output={"response": "e"})

    # when
    open_next_attempt(api, execution_id, "a")

    # then
    (task,) = api(EXECUTION, execution_id).body["executedTasks"]
    assert (task["status"], task["output"]) == ("SCHEDULED", {})
    assert task["id"] != first
    assert task["input"]["function"]["data"]["cogniteOrchestrationTaskId"] == task["id"]


def test_late_success_takes_back_the_failure_of_its_execution(api: Api) -> None:
    # given
    api.define(a_task("a", retries=0), a_task("b", "a"))
    execution_id = api.run()["id"]
    task_id = api.task_ids(execution_id)["a"]
    api.update(task_id, "FAILED")
    api.world.advance("a", execution_id=execution_id)
    api.world.closer.cancel_open_tasks(api.tenant, execution_id)
    shown = api(EXECUTION, execution_id).body
    assert shown["status"] == "FAILED"
    assert [task["externalId"] for task in shown["executedTasks"]] == ["a"], "b was never handed out"

    # when
    api.update(task_id, "COMPLETED", output={"rows": 1})
    api.world.advance("a", execution_id=execution_id)

    # then
    shown = api(EXECUTION, execution_id).body
    assert shown["status"] == "RUNNING"
    assert "reasonForIncompletion" not in shown
    assert [task["status"] for task in shown["executedTasks"]] == ["COMPLETED", "SCHEDULED"]


def test_completed_without_output_is_an_empty_output_to_what_refers_to_it(api: Api) -> None:
    # given
    api.define(a_task("a"), a_task("b", "a", data={"all": "${a.output}", "key": "${a.output.k}"}))
    execution_id = api.run()["id"]

    # when
    api.update(api.task_ids(execution_id)["a"], "COMPLETED")
    api.world.advance("a", execution_id=execution_id)

    # then
    first, second = api(EXECUTION, execution_id).body["executedTasks"]
    assert first["output"] == second["input"]["function"]["data"]["all"] == {}
    assert second["input"]["function"]["data"]["key"] is None


def test_function_that_does_not_complete_asynchronously_gets_no_id(api: Api) -> None:
    parameters = {"function": {"externalId": "fn", "data": {"k": 1}}}
    api.define(a_task("a", parameters=parameters), a_task("b", parameters={**parameters, "isAsyncComplete": False}))

    tasks = api(EXECUTION, api.run()["id"]).body["executedTasks"]

    assert [task["input"]["function"]["data"] for task in tasks] == [{"k": 1}, {"k": 1}]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, {"cogniteOrchestrationTaskId": "?"}),
        ("${workflow.input}", {"k": 1, "cogniteOrchestrationTaskId": "?"}),
        ("${workflow.input.none}", {"cogniteOrchestrationTaskId": "?"}),
        ("${workflow.input.k}", 1),
    ],
)
def test_asynchronous_function_gets_the_id_whatever_its_data_is(api: Api, data: Any, expected: Any) -> None:
    api.define(a_task("a", data=data))

    (task,) = api(EXECUTION, api.run(input={"k": 1})["id"]).body["executedTasks"]

    shown = task["input"]["function"]["data"]
    assert shown == ({**expected, "cogniteOrchestrationTaskId": task["id"]} if isinstance(expected, dict) else expected)


def test_failure_of_an_old_attempt_gets_that_attempt_and_changes_nothing(api: Api, execution_id: str) -> None:
    # given
    first = api.task_ids(execution_id)["a"]
    api.update(first, "FAILED", output={"a": 1})
    open_next_attempt(api, execution_id, "a")

    # when
    again = api.update(first, "FAILED", output={"a": 1})
    other = api.update(first, "FAILED_WITH_TERMINAL_ERROR")

    # then
    for reply in (again, other):
        assert reply.status == 200
        assert (reply.body["id"], reply.body["status"]) == (first, "FAILED")
        assert reply.body["output"] == {"a": 1}
    assert api(NATIVE_TASK, execution_id, "a").body["status"] == "SCHEDULED"
    second = api.task_ids(execution_id)["a"]
    assert second != first


def test_success_of_an_old_attempt_rescues_the_task(api: Api, execution_id: str) -> None:
    # given
    first = api.task_ids(execution_id)["a"]
    api.update(first, "FAILED")
    open_next_attempt(api, execution_id, "a")

    # when
    late = api.update(first, "COMPLETED", output={"rows": 1})

    # then
    assert (late.body["id"], late.body["status"], late.body["output"]) == (first, "COMPLETED", {"rows": 1})


def test_terminal_error_ends_the_execution_with_its_task(api: Api, execution_id: str) -> None:
    # when
    failed = api.update(api.task_ids(execution_id)["b"], "FAILED_WITH_TERMINAL_ERROR").body
    api.world.advance("b", execution_id=execution_id)

    # then
    assert failed["status"] == "FAILED_WITH_TERMINAL_ERROR"
    assert failed["reasonForIncompletion"]
    shown = api(EXECUTION, execution_id).body
    assert (shown["status"], shown["reasonForIncompletion"]) == ("FAILED", "task 'b' ended FAILED_WITH_TERMINAL_ERROR")


def test_skipped_task_ends_with_errors_and_the_others_go_on(api: Api) -> None:
    # given
    api.define(a_task("a", onFailure="skipTask", retries=0), a_task("b", "a"))
    execution_id = api.run()["id"]

    # when
    api.update(api.task_ids(execution_id)["a"], "FAILED")
    api.world.retry_planner.plan([api.world.task("a", execution_id)])
    api.world.advance("a", execution_id=execution_id)

    # then
    tasks = api(EXECUTION, execution_id).body["executedTasks"]
    assert [(task["externalId"], task["status"]) for task in tasks] == [
        ("a", "COMPLETED_WITH_ERRORS"),
        ("b", "SCHEDULED"),
    ]


@pytest.mark.parametrize(("on_failure", "retried"), [("abortWorkflow", False), ("skipTask", True)])
def test_time_out_is_retried_only_where_the_task_may_be_skipped(api: Api, on_failure: str, retried: bool) -> None:
    api.define(a_task("a", onFailure=on_failure, timeout=60))
    execution_id = api.run()["id"]

    task = api.world.task("a", execution_id)

    assert (task.timeout_seconds, task.retry_policy.retry_timeouts) == (60, retried)
    assert task.retry_policy == RetryPolicy(max_attempts=4, retry_timeouts=retried)


@pytest.mark.parametrize(
    "name",
    [
        "000560bc-9080-4286-b242-a27bb4819253",
        "no-uuid",
        task_execution_id("default", "elsewhere", "a", 1),
    ],
)
def test_unknown_task_is_not_found(api: Api, name: str) -> None:
    reply = api.update(name, "COMPLETED")

    assert reply.status == 404
    assert "missing" not in reply.body["error"]


def test_attempt_that_was_not_opened_is_not_found(api: Api, execution_id: str) -> None:
    replies = [
        api.update(task_execution_id(api.tenant, execution_id, "a", 2), status, output={"a": 1})
        for status in ("COMPLETED", "FAILED")
    ]

    assert [reply.status for reply in replies] == [404, 404]
    assert api(NATIVE_TASK, execution_id, "a").body["status"] == "SCHEDULED"


@pytest.mark.parametrize("body", [{"status": "IN_PROGRESS"}, {"status": "completed"}, {}, {"status": 1}, []])
def test_update_that_says_nothing_known_is_a_bad_request(api: Api, execution_id: str, body: Any) -> None:
    reply = api(UPDATE, api.task_ids(execution_id)["a"], body=body)

    assert (reply.status, reply.body["error"]["code"]) == (400, 400)


def test_update_costs_one_write_and_few_reads(api: Api, execution_id: str) -> None:
    task_id = api.task_ids(execution_id)["b"]

    with counted_calls(api.table.client) as calls:
        api.update(task_id, "COMPLETED")

    assert calls == {"GetItem": 1, "UpdateItem": 1, "BatchGetItem": 1}


# ---------------------------------------------------------------- one ledger


def test_task_can_be_reported_through_the_native_contract_and_seen_here(api: Api, execution_id: str) -> None:
    # when
    body = {"status": "COMPLETED", "taskExecutionId": api.task_ids(execution_id)["a"], "output": {"rows": 9}}
    reported = api(NATIVE_REPORT, execution_id, "a", body=body)

    # then
    assert reported.body["verdict"] == "applied"
    shown = api(EXECUTION, execution_id).body["executedTasks"][0]
    assert (shown["status"], shown["output"]) == ("COMPLETED", {"rows": 9})


def test_task_that_the_native_contract_adds_can_be_updated_by_its_id(api: Api, execution_id: str) -> None:
    # given
    added = api(NATIVE_ADD, execution_id, body={"tasks": [{"taskId": "extra", "input": {"k": 1}}]})
    assert added.status == 200

    # when
    updated = api.update(api.task_ids(execution_id)["extra"], "COMPLETED")

    # then
    assert (updated.body["status"], updated.body["taskType"]) == ("COMPLETED", "native")


def test_run_can_be_read_as_a_flow_execution(api: Api, execution_id: str) -> None:
    shown = api(FLOW_EXECUTION, execution_id).body

    assert (shown["id"], shown["status"]) == (execution_id, "running")


def test_another_tenants_run_cannot_be_seen_or_changed(api: Api, execution_id: str) -> None:
    # given
    task_id = api.task_ids(execution_id)["a"]
    stranger = replace(api, tenant=fresh_name())

    # then
    assert stranger(EXECUTION, execution_id).status == 400
    assert stranger(CANCEL, execution_id, body={}).status == 404
    assert stranger.update(task_id, "COMPLETED").status == 404
    assert stranger(EXECUTIONS, body={}).body["items"] == []
    assert stranger(LIST_WORKFLOWS).body["items"] == []
    assert api(NATIVE_TASK, execution_id, "a").body["status"] == TaskStatus.SCHEDULED


def test_project_that_is_not_the_tokens_is_forbidden(api: Api) -> None:
    claims = {"scope": ALL_SCOPES, "org": fresh_name()}

    reply = api(LIST_WORKFLOWS, claims=claims)

    assert (reply.status, reply.body["error"]["code"]) == (403, 403)


def test_any_project_will_do_where_there_is_one_tenant(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANT_CLAIM", "")
    get_settings.cache_clear()

    assert api(WORKFLOW, "no-such-workflow", claims={"scope": ALL_SCOPES}).status == 404


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "FAILED_WITH_TERMINAL_ERROR"])
def test_task_that_waits_has_no_id_that_can_be_updated_yet(api: Api, execution_id: str, status: str) -> None:
    # when
    refused = api.update(task_execution_id(api.tenant, execution_id, "c", 1), status, output={"a": 1})

    # then
    assert (refused.status, refused.body["error"]["code"]) == (404, 404)
    shown = api(NATIVE_TASK, execution_id, "c").body
    assert (shown["status"], shown["output"]) == ("PENDING", None)
    assert api(NATIVE_HISTORY, execution_id, "c").body["items"] == []
