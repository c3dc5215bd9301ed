"""Who said it: the client of a report's token, on the task and in its history, through all contracts."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final
from uuid import uuid4

import pytest

from tasklatch.domain.conditional_write import next_attempt_write, system_write
from tasklatch.domain.history import change_entry
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.executions.attempt_index import AttemptIndex
from tasklatch.ledger.history import History
from tasklatch.ledger.ledger import Ledger
from tasklatch.runtime.attempt_ids import current_attempt_id
from tasklatch.runtime.settings import get_settings
from tests.api_description import check_answer
from tests.benchmarks.metering import item_size
from tests.factories import ALL_SCOPES, NOW, Reply, api_event, call_api, fresh_name
from tests.integration.emulators import Table, make_backoff
from tests.integration.test_cognite import function_of

CREATE: Final = "POST /v1/executions"
REPORT: Final = "POST /v1/executions/{executionId}/tasks/{taskId}/status"
BATCH: Final = "POST /v1/executions/{executionId}/statuses"
HISTORY: Final = "GET /v1/executions/{executionId}/tasks/{taskId}/history"
FORGE: Final = "POST /forge/updateTaskStatus"
SUPERAI: Final = "POST /api/flow-executions/{flow_execution_id}/task-status"
COGNITE: Final = "POST /api/v1/projects/{project}/workflows/tasks/{taskId}/update"


@dataclass(frozen=True)
class Api:
    """The handlers of all contracts, called with the token of a client."""

    load: Callable[[str, Any], ModuleType]
    table: Table

    def __call__(self, route: str, *path: str, body: Any = None, client: str | None = "fleet-a") -> Reply:
        claims = {"scope": ALL_SCOPES} | ({} if client is None else {"client_id": client})
        event = api_event(
            route, path=dict(zip(re.findall(r"{(\w+)}", route), path, strict=True)), body=body, claims=claims
        )
        reply = call_api(self.load(function_of(route), self.table.client).handler, event)
        assert reply.status < 300, reply.text
        check_answer(route, reply)
        return reply

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.table.client, get_settings(), lambda: NOW, make_backoff())

    def task(self, execution_id: str, task_id: str = "fetch") -> Task:
        return self.ledger.read("default", execution_id, task_id)

    def keep_change(self, execution_id: str, task_id: str = "fetch") -> None:
        """Store the last change in the history, as the notifier does."""
        task = self.task(execution_id, task_id)
        History(self.table.client, get_settings(), make_backoff()).put([(task, change_entry(task, None))])

    def reporters(self, execution_id: str) -> list[tuple[str, str | None]]:
        items = self(HISTORY, execution_id, "fetch").body["items"]
        return [(item["verdict"], item.get("reportedBy")) for item in items]


@pytest.fixture
def api(load: Callable[[str, Any], ModuleType], statements_table: Table) -> Api:
    return Api(load, statements_table)


@pytest.fixture
def execution_id(api: Api) -> str:
    name = fresh_name()
    api(CREATE, body={"executionId": name, "tasks": [{"taskId": "fetch"}]})
    return name


def test_history_names_the_client_of_each_report(api: Api, execution_id: str) -> None:
    done = {"status": "COMPLETED", "attempt": 1}
    api(REPORT, execution_id, "fetch", body=done, client="fleet-a")
    api.keep_change(execution_id)

    duplicate = api(REPORT, execution_id, "fetch", body=done, client="fleet-b")
    late = api(BATCH, execution_id, body={"statuses": [{"taskId": "fetch", "status": "FAILED"}]}, client="fleet-c")

    assert duplicate.body["verdict"] == "duplicate", "the client does not make it another report"
    assert late.body["results"][0]["verdict"] == "ignored_after_success"
    assert sorted(api.reporters(execution_id)) == [
        ("applied", "fleet-a"),
        ("duplicate", "fleet-b"),
        ("ignored_after_success", "fleet-c"),
    ]


def test_client_is_of_the_last_report_and_of_none_if_that_has_none(api: Api, execution_id: str) -> None:
    begun = {"status": "IN_PROGRESS", "attempt": 1}
    steps: list[tuple[dict[str, Any], str | None]] = [
        (begun, "fleet-a"),
        ({**begun, "output": {"page": 1}}, "fleet-b"),
        ({**begun, "output": {"page": 2}}, None),
        ({**begun, "message": "page 3"}, "fleet-c"),
        ({"status": "FAILED", "attempt": 1}, None),
    ]
    for body, client in steps:
        assert api(REPORT, execution_id, "fetch", body=body, client=client).body["verdict"] == "applied"
        assert api.task(execution_id).reported_by == client


@pytest.mark.parametrize("kind", ["next attempt", "cancelled"])
def test_no_client_is_behind_what_the_service_does_itself(api: Api, execution_id: str, kind: str) -> None:
    api(REPORT, execution_id, "fetch", body={"status": "FAILED", "attempt": 1})
    failed = api.task(execution_id)
    assert failed.reported_by == "fleet-a"

    write = (
        next_attempt_write(failed, now=NOW)
        if kind == "next attempt"
        else system_write(failed, TaskStatus.CANCELED, now=NOW)
    )
    assert api.ledger.write("default", execution_id, write) is not None

    assert api.task(execution_id).reported_by is None


def test_every_contract_keeps_the_client(api: Api, execution_id: str) -> None:
    scan_id, task_id = fresh_name(), str(uuid4())
    api("POST /forge/scans", body={"connectionId": "drive", "scanId": scan_id, "tasks": [{"taskId": task_id}]})
    update = {"connectionId": "drive", "scanId": scan_id, "status": "success", "task": {"taskId": task_id}}
    api(FORGE, body=update)
    flow = {"flow_id": str(uuid4()), "input": {}, "task_names": ["fetch"]}
    flow_id = api("POST /api/flow-executions", body=flow).body["id"]
    api(SUPERAI, flow_id, body={"statuses": [{"task_name": "fetch", "status": "completed"}]})
    task = api.task(execution_id)
    AttemptIndex(api.table.client, get_settings(), make_backoff()).put([task], NOW)
    api(COGNITE, "any", current_attempt_id(task), body={"status": "COMPLETED"})

    clients = [api.task(*names).reported_by for names in ((scan_id, task_id), (flow_id,), (execution_id,))]
    assert clients == ["fleet-a"] * 3


@pytest.mark.parametrize("client", ["x" * 26, "x" * 64, "x" * 500])
def test_the_longest_name_leaves_the_item_in_one_write_unit(
    api: Api, client: str, record_property: Callable[[str, object], None]
) -> None:
    execution_id, task_id = fresh_name(), fresh_name()
    api(CREATE, body={"executionId": execution_id, "tasks": [{"taskId": task_id}]})

    api(REPORT, execution_id, task_id, body={"status": "FAILED", "attempt": 1}, client=client)

    stored = api.table.item(keys.execution_pk("default", execution_id), keys.task_sk(task_id))
    assert stored is not None
    without = {name: value for name, value in stored.items() if name != "client"}
    assert item_size(stored) - item_size(without) == len("client") + min(len(client), 64)
    assert item_size(stored) < 1024
    record_property(f"bytes of a failed task, reported by a client of {len(client)} characters", item_size(stored))
