"""Ids in paths: whichever way API Gateway reads a path, no request about one task ever means another.

What can be created can be reached, by its path or with the id in the body; what a path might take for another id is
refused when it is created.
"""

import json
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_to_item
from tests.api_description import check_answer
from tests.api_gateway import HttpApi, PathReading, operations
from tests.factories import ALL_SCOPES, NOW, Reply, a_task, fresh_name, stored_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

READINGS: Final = {
    "decoded once": PathReading(decodes_parameters=False, cuts=False),
    "decoded once and cut": PathReading(decodes_parameters=False),
    "decoded twice": PathReading(cuts=False),
    "decoded twice and cut": PathReading(),
    "percent kept": PathReading(decodes_percent=False, decodes_parameters=False, cuts=False),
}
"""How API Gateway may read a path: documentation says nothing, captures and emulators differ."""

CONFUSED: Final = [
    "50%25",
    "a%41",
    "a%2Fb",
    "%2e%2E",
    "%c3%bc",
    "100%%20",
    ".",
    "..",
    "../b",
    "a/..",
    "a/../b",
    "a/./b",
    "a\\..\\b",
]
IN_BODIES_ALONE: Final = ["50%", "%", "%%", "100%2", "a/b", "/a", "a//b", "a\\b", "a?b", "?", "a;b", "\ufffd"]
IN_PATHS: Final = [
    "a b",
    " a",
    "a+b",
    "a#b",
    "a&b=c",
    "a:b@c,d",
    "a.b",
    "...",
    ".a",
    '"',
    "${x.output.a}",
    "[0]{1}|^`",
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "漢" * 255,
    "\U0001f600",
    "A",
    "a",
    "b",
    "read",
    "history",
    "status",
]
NEIGHBOURS: Final = ["50", "aA", "100", "a/b/c", "ü", "c"]
"""What the ids above would become, were they read wrongly."""

EXECUTIONS: Final = "/v1/executions"
NOT_IN_PATH: Final = "urn:tasklatch:problem:id-not-in-path"
SCHEDULED_VERSION: Final = 2
TOKEN: Final = "good"


@pytest.fixture
def session(http_api: HttpApi) -> httpx.Client:
    http_api.tokens = {TOKEN: {"scope": ALL_SCOPES}}
    return http_api.caller(TOKEN)


@pytest.fixture
def execution(session: httpx.Client) -> str:
    """The path of an execution with few tasks."""
    return created_with(session, "50%", "50", "a/b", "a", "b", "\ufffd", "\ufffd\ufffd")


@pytest.fixture
def large_execution(session: httpx.Client) -> str:
    """The path of an execution that has a task of each id that can be."""
    return created_with(session, *IN_BODIES_ALONE, *IN_PATHS, *NEIGHBOURS)


def created_with(session: httpx.Client, *task_ids: str) -> str:
    name, tasks = fresh_name(), [{"taskId": task_id} for task_id in task_ids]
    created = session.post(EXECUTIONS, json={"executionId": name, "tasks": tasks})
    assert created.status_code == 201, created.text
    return f"{EXECUTIONS}/{name}"


def post(session: httpx.Client, key: str, path: str, body: Mapping[str, Any]) -> Reply:
    response = session.post(path, json=body)
    reply = Reply(response.status_code, response.headers, response.text)
    check_answer(key, reply)
    return reply


def by_body(session: httpx.Client, execution: str, task_id: str) -> dict[str, Any]:
    """A task, read with its id in the body."""
    reply = post(
        session, f"POST {EXECUTIONS}/{{executionId}}/tasks/read", f"{execution}/tasks/read", {"taskId": task_id}
    )
    assert reply.status == 200, reply.text
    result: dict[str, Any] = reply.body
    return result


def items_of(session: httpx.Client, execution: str) -> list[dict[str, Any]]:
    """All tasks as they stand: a report raises the version of its task, a heartbeat sets its time."""
    listed: list[dict[str, Any]] = session.get(f"{execution}/tasks", params={"limit": "400"}).json()["items"]
    return listed


def versions(session: httpx.Client, execution: str) -> dict[str, int]:
    return {task["taskId"]: task["version"] for task in items_of(session, execution)}


# ---------------------------------------------------------------- what can be created


def creations(session: httpx.Client, task_id: str) -> dict[str, httpx.Response]:
    """Every request that creates a task of an id of the caller's choice."""
    name = fresh_name()
    assert session.post(EXECUTIONS, json={"executionId": name, "tasks": [{"taskId": "first"}]}).status_code == 201
    flow = {"flow_id": str(uuid4()), "input": {}, "task_names": [task_id]}
    workflow = "/api/v1/projects/p/workflows"
    assert session.post(workflow, json={"items": [{"externalId": name}]}).status_code == 200
    function = {"externalId": task_id, "type": "function", "parameters": {"function": {"externalId": "f"}}}
    version = {"workflowExternalId": name, "version": "1", "workflowDefinition": {"tasks": [function]}}
    return {
        "create": session.post(EXECUTIONS, json={"tasks": [{"taskId": task_id}]}),
        "add": session.post(f"{EXECUTIONS}/{name}/tasks", json={"tasks": [{"taskId": task_id}]}),
        "superai": session.post("/api/flow-executions", json=flow),
        "cognite": session.post(f"{workflow}/versions", json={"items": [version]}),
    }


def test_id_that_a_path_could_take_for_another_is_refused_with_the_reason(session: httpx.Client) -> None:
    for task_id in CONFUSED:
        refused = creations(session, task_id)

        assert {name: item.status_code for name, item in refused.items()} == {
            "create": 422,
            "add": 422,
            "superai": 422,
            "cognite": 400,
        }, task_id
        assert all("in a path" in element.text for element in refused.values())


def test_id_that_only_bodies_can_carry_is_created_by_every_contract(session: httpx.Client) -> None:
    for task_id in IN_BODIES_ALONE:
        created = creations(session, task_id)

        assert {name: item.status_code for name, item in created.items()} == {
            "create": 201,
            "add": 200,
            "superai": 201,
            "cognite": 200,
        }, task_id


@pytest.mark.parametrize("execution_id", [".", ".."])
def test_execution_that_clients_resolve_away_is_refused(session: httpx.Client, execution_id: str) -> None:
    refused = session.post(EXECUTIONS, json={"executionId": execution_id, "tasks": [{"taskId": "a"}]})

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["loc"] == ["body", "executionId"]


@pytest.mark.parametrize("scan_id", [".", "..", "50%25", "a/b"])
def test_scan_of_any_id_is_an_execution_that_paths_can_name(session: httpx.Client, scan_id: str) -> None:
    scan = {"connectionId": "c", "scanId": scan_id, "tasks": [{"taskId": str(uuid4())}]}

    execution_id = session.post("/forge/scans", json=scan).json()["executionId"]

    assert execution_id.startswith("scan:")
    assert session.get(f"{EXECUTIONS}/{execution_id}").json()["executionId"] == execution_id


# ---------------------------------------------------------------- what a path means


def test_path_of_a_task_means_this_task_and_no_other(
    session: httpx.Client, http_api: HttpApi, large_execution: str
) -> None:
    for name, reading in READINGS.items():
        http_api.reading = reading
        for task_id in IN_PATHS:
            path = f"{large_execution}/tasks/{quote(task_id, safe='')}/status"
            assert session.post(path, json={"status": "IN_PROGRESS"}).json()["task"]["taskId"] == task_id, name
    begun = {task_id for task_id, version in versions(session, large_execution).items() if version > SCHEDULED_VERSION}
    assert begun == set(IN_PATHS)


def test_every_route_of_a_task_takes_the_ids_that_paths_can_carry(session: httpx.Client, large_execution: str) -> None:
    for task_id in IN_PATHS:
        path = f"{large_execution}/tasks/{quote(task_id, safe='')}"
        alive = session.post(f"{path}/heartbeat", json={})
        read = session.get(path)
        listed = session.get(f"{path}/history")

        assert [item.status_code for item in (alive, read, listed)] == [200] * 3, task_id
        assert (alive.json()["task"]["taskId"], read.json()["taskId"]) == (task_id, task_id)


def test_request_on_an_id_that_a_path_cannot_carry_is_recorded_nowhere(
    session: httpx.Client, http_api: HttpApi, large_execution: str
) -> None:
    # given
    before = items_of(session, large_execution)

    # when each is named in a path, encoded as it should be, or once more as some advise
    answers = {}
    for name, reading in READINGS.items():
        http_api.reading = reading
        for task_id in IN_BODIES_ALONE:
            once = quote(task_id, safe="")
            for encoded in (once, quote(once, safe="")):
                path = f"{large_execution}/tasks/{encoded}"
                answers[name, encoded, "status"] = session.post(f"{path}/status", json={"status": "FAILED"})
                answers[name, encoded, "heartbeat"] = session.post(f"{path}/heartbeat", json={})

    # then it is refused, by the route or because there is none
    assert {
        key: response.status_code for key, response in answers.items() if response.status_code not in (404, 422)
    } == {}
    problems = [item.json() for item in answers.values() if item.status_code == 422]
    assert {problem["type"] for problem in problems} == {NOT_IN_PATH}
    assert items_of(session, large_execution) == before


def test_route_names_the_one_that_takes_the_id_in_the_body(
    session: httpx.Client, http_api: HttpApi, execution: str
) -> None:
    # given
    http_api.reading = READINGS["decoded once"]
    path = f"{execution}/tasks/50%25"
    body_routes = {
        "status": f"POST {EXECUTIONS}/{{executionId}}/statuses",
        "heartbeat": f"POST {EXECUTIONS}/{{executionId}}/heartbeats",
        "": f"POST {EXECUTIONS}/{{executionId}}/tasks/read",
        "history": f"POST {EXECUTIONS}/{{executionId}}/tasks/history",
    }

    # when
    problems = {
        "status": session.post(f"{path}/status", json={"status": "COMPLETED"}).json(),
        "heartbeat": session.post(f"{path}/heartbeat", json={}).json(),
        "": session.get(path).json(),
        "history": session.get(f"{path}/history").json(),
    }

    # then
    for what, problem in problems.items():
        assert (problem["type"], problem["status"]) == (NOT_IN_PATH, 422)
        assert problem["detail"] == (
            f"taskId '50%' cannot be addressed in a path: send it in the body of {body_routes[what]}"
        )


def test_every_route_about_a_native_task_has_one_that_takes_the_id_in_the_body() -> None:
    about_tasks = [item for _, item in operations().values() if "/v1/" in item.key and "{taskId}" in item.key]
    native = [about_task for about_task in about_tasks if about_task.key.partition(" ")[2].startswith("/v1/")]
    assert len(native) == 4
    for operation in native:
        assert operation.body_route is not None, operation.key
        body_route = operations()[operation.body_route][1]
        assert body_route.scope == operation.scope
        assert "{taskId}" not in body_route.key
        assert body_route.request is not None


def test_no_route_that_changes_a_task_ends_in_its_id() -> None:
    """A path that is cut within the id then fits no route, or one that only reads."""
    cut = [key for key in operations() if key.endswith("{taskId}")]
    assert cut == ["GET /v1/executions/{executionId}/tasks/{taskId}"]


def test_path_with_an_empty_part_is_no_route(session: httpx.Client, execution: str) -> None:
    for path in ("tasks/a/status/", "tasks//status", "tasks/a//status", "/tasks/a/status"):
        assert session.post(f"{execution}/{path}", json={"status": "COMPLETED"}).status_code == 404, path


def test_bytes_that_are_no_text_are_refused(session: httpx.Client, execution: str) -> None:
    before = items_of(session, execution)

    for encoded in ("fe%00tch", "%0A", "%C0%AF", "%FF", "%FF%FE", "%ED%A0%80"):
        refused = session.post(f"{execution}/tasks/{encoded}/status", json={"status": "COMPLETED"})
        assert refused.status_code == 422, encoded

    assert items_of(session, execution) == before


# ---------------------------------------------------------------- with the id in the body


def test_every_task_is_reached_with_its_id_in_the_body(session: httpx.Client, large_execution: str) -> None:
    execution = large_execution
    for task_id in (*IN_BODIES_ALONE, *IN_PATHS):
        # when
        body = {"taskId": task_id, "status": "IN_PROGRESS"}
        reported = session.post(f"{execution}/statuses", json={"statuses": [body]}).json()["results"][0]
        alive = post(
            session,
            f"POST {EXECUTIONS}/{{executionId}}/heartbeats",
            f"{execution}/heartbeats",
            {"taskId": task_id, "attempt": 1, "progress": 0.5},
        )
        done = {"taskId": task_id, "status": "COMPLETED", "output": {"of": task_id}}
        late = {"taskId": task_id, "status": "FAILED", "attempt": 1}
        session.post(f"{execution}/statuses", json={"statuses": [done, late]})
        history = post(
            session,
            f"POST {EXECUTIONS}/{{executionId}}/tasks/history",
            f"{execution}/tasks/history",
            {"taskId": task_id, "limit": 1},
        )

        # then
        assert reported["verdict"] == "applied", task_id
        assert (alive.status, alive.body["task"]["taskId"], alive.body["continue"]) == (200, task_id, True)
        assert by_body(session, execution, task_id)["output"] == {"of": task_id}
        assert [item["verdict"] for item in history.body["items"]] == ["ignored_after_success"]


def test_history_is_paged_with_the_id_in_the_body(session: httpx.Client, execution: str) -> None:
    # given
    path, body = f"{execution}/tasks/history", {"taskId": "50%", "status": "COMPLETED"}
    late = [{"taskId": "50%", "status": "FAILED", "attempt": 1, "message": str(number)} for number in range(3)]
    session.post(f"{execution}/statuses", json={"statuses": [body, *late]})

    # when
    first = session.post(path, json={"taskId": "50%", "limit": 2}).json()
    rest = session.post(path, json={"taskId": "50%", "limit": 2, "cursor": first["nextCursor"]}).json()

    # then
    assert sorted(item["message"] for item in first["items"] + rest["items"]) == ["0", "1", "2"]
    assert "nextCursor" not in rest
    assert session.post(path, json={"taskId": "a/b", "cursor": first["nextCursor"]}).status_code == 422


WRONG: Final[list[tuple[str, dict[str, Any], int]]] = [
    ("tasks/read", {"taskId": "nowhere%"}, 404),
    ("tasks/history", {"taskId": "nowhere%"}, 404),
    ("heartbeats", {"taskId": "nowhere%"}, 404),
    ("heartbeats", {}, 422),
    ("tasks/read", {}, 422),
    ("tasks/history", {"taskId": "50%", "limit": "1"}, 422),
    ("tasks/read", {"taskId": "50%", "surprise": 1}, 422),
]


def test_wrong_request_with_the_id_in_the_body_is_refused(session: httpx.Client, execution: str) -> None:
    for route, body, status in WRONG:
        reply = post(session, f"POST {EXECUTIONS}/{{executionId}}/{route}", f"{execution}/{route}", body)
        assert reply.status == status, (route, body)


# ---------------------------------------------------------------- what was created before there was a rule


def test_what_was_created_earlier_is_reached_with_its_id_in_the_body(
    session: httpx.Client, ministack: "DynamoDBClient"
) -> None:
    # given an execution and tasks whose ids cannot be created any more
    execution_id, early = fresh_name(), ["50%25", "..", "a%41"]
    execution = Execution(
        tenant="default",
        execution_id=execution_id,
        status=ExecutionStatus.RUNNING,
        version=1,
        created_at=NOW,
        updated_at=NOW,
        definition="x",
    )
    ministack.put_item(TableName="ledger", Item=execution_to_item(execution))
    for task_id in early:
        task = a_task(TaskStatus.SCHEDULED, execution_id=execution_id, task_id=task_id)
        ministack.put_item(TableName="ledger", Item=stored_item(task))
    path = f"{EXECUTIONS}/{execution_id}"

    # when
    statuses = [{"taskId": task_id, "status": "COMPLETED"} for task_id in early]
    added = session.post(f"{path}/tasks", json={"tasks": [{"taskId": "after", "dependsOn": early}]})
    results = session.post(f"{path}/statuses", json={"statuses": statuses}).json()["results"]

    # then
    assert added.status_code == 200, added.text
    assert [result["verdict"] for result in results] == ["applied"] * len(early)
    assert set(versions(session, path)) == {*early, "after"}
    for task_id in early:
        assert by_body(session, path, task_id)["status"] == "COMPLETED"
        assert session.post(f"{path}/heartbeats", json={"taskId": task_id}).json()["continue"] is False


def test_execution_that_was_created_earlier_is_in_the_list(session: httpx.Client, ministack: "DynamoDBClient") -> None:
    # given
    execution = Execution(
        tenant="default",
        execution_id="..",
        status=ExecutionStatus.RUNNING,
        version=1,
        created_at=NOW,
        updated_at=NOW,
        definition="x",
    )
    item = execution_to_item(execution)
    ministack.put_item(TableName="ledger", Item=item)

    # when
    listed = session.get(EXECUTIONS, params={"limit": "100"}).json()["items"]

    # then
    ministack.delete_item(TableName="ledger", Key={name: item[name] for name in (keys.PK, keys.SK)})
    assert ".." in [element["executionId"] for element in listed]


# ---------------------------------------------------------------- Cognite's workflows, which are named in paths alone


UNNAMEABLE: Final = ["50%", "50%25", "a/b", "a?b", "a;b", "a\\b", ".", ".."]


def test_workflow_or_version_that_a_path_cannot_carry_is_refused(session: httpx.Client) -> None:
    workflows, existing = "/api/v1/projects/p/workflows", fresh_name()
    assert session.post(workflows, json={"items": [{"externalId": existing}]}).status_code == 200
    function = {"externalId": "a", "type": "function", "parameters": {"function": {"externalId": "f"}}}
    for name in UNNAMEABLE:
        version = {"workflowExternalId": existing, "version": name, "workflowDefinition": {"tasks": [function]}}

        refused = [
            session.post(workflows, json={"items": [{"externalId": name}]}),
            session.post(f"{workflows}/versions", json={"items": [version]}),
        ]

        assert [item.status_code for item in refused] == [400, 400], name
        assert all("in paths" in element.json()["error"]["message"] for element in refused)


@pytest.mark.parametrize("name", ["50%", "a;b"])
def test_path_of_a_workflow_that_cannot_be_created_any_more_means_no_other(
    session: httpx.Client, http_api: HttpApi, ministack: "DynamoDBClient", name: str
) -> None:
    # given one that was created earlier, and others that it could be taken for
    workflows = "/api/v1/projects/p/workflows"
    items = {"items": [{"externalId": other} for other in ("50", "a", "b")]}
    assert session.post(workflows, json=items).status_code == 200
    early = ministack.get_item(
        TableName="ledger",
        Key={keys.PK: {"S": keys.workflow_pk("default", "50")}, keys.SK: {"S": keys.WORKFLOW_SK}},
    )["Item"]
    early = json.loads(json.dumps(early).replace('"50"', json.dumps(name)))
    early[keys.PK] = {"S": keys.workflow_pk("default", name)}
    ministack.put_item(TableName="ledger", Item=early)

    # when
    shown = []
    for reading in READINGS.values():
        http_api.reading = reading
        shown.append(session.get(f"{workflows}/{quote(name, safe='')}"))
    listed = session.get(workflows, params={"limit": "1000"}).json()["items"]
    deleted = session.post(f"{workflows}/delete", json={"items": [{"externalId": name}]})

    # then
    assert {item.status_code for item in shown} == {400}
    assert all("cannot be addressed in a path" in element.json()["error"]["message"] for element in shown)
    assert name in [entry["externalId"] for entry in listed]
    assert deleted.status_code == 200
