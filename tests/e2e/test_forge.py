"""The examples of Forge's own documentation, run under Node with a stand-in for the platform's module.

They are read when the tests run; only their type annotations, which Node does not know, are taken off.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from local.cloud.stack import ROOT, Stack, clean_environment
from local.cloud.tokens import fetch_token
from tests.factories import fresh_name
from tests.polling import poll

DOCUMENT: Final = ROOT.parent / "shared" / "seeds" / "forge-update-task-status.txt"
FORGE: Final = Path(__file__).with_name("forge")
NODE: Final = shutil.which("node")
NODE_SECONDS: Final = 60
# The document's examples, in its order
SUCCESS, FAILURE, TYPED = range(3)

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="Node is not on this machine: Forge's examples are JavaScript"),
    pytest.mark.skipif(not DOCUMENT.is_file(), reason="Forge's document is not beside this repository"),
]

_PROSE: Final = re.compile(r"[A-Z]")
_ANNOTATION: Final = re.compile(r": (?:TaskRunnerPayload|unknown|types\.\w+(?:\['\w+'\])?)(?=[,)] | = | \{|\))")


def examples() -> list[str]:
    """The document's code, block by block: each begins with its import and ends where prose begins."""
    blocks: list[list[str]] = []
    inside = False
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("import { graph"):
            blocks.append([])
            inside = True
        elif _PROSE.match(line):
            inside = False
        if inside:
            blocks[-1].append(_ANNOTATION.sub("", line))
    return ["\n".join(lines) for lines in blocks]


@dataclass(frozen=True)
class App:
    """A Forge app made of the examples, with the stand-in as its module."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, example: int, payload: dict[str, Any], http_error: int | None = None) -> dict[str, Any]:
        messages = json.dumps({"payload": payload, "httpError": http_error})
        ran = subprocess.run(  # noqa: S603 - Node, on files of the test's own
            [str(NODE), "invoke.mjs", str(self.folder / f"example-{example}.mjs"), messages],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=NODE_SECONDS,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        outcome: dict[str, Any] = json.loads(ran.stdout)
        return outcome


@pytest.fixture
def app(stack: Stack, tmp_path: Path) -> App:
    module = tmp_path / "node_modules" / "@forge" / "teamwork-graph"
    module.mkdir(parents=True)
    (module / "package.json").write_text('{"name": "@forge/teamwork-graph", "exports": "./index.mjs"}')
    shutil.copy(FORGE / "teamwork-graph.mjs", module / "index.mjs")
    shutil.copy(FORGE / "invoke.mjs", tmp_path)
    for number, text in enumerate(examples()):
        (tmp_path / f"example-{number}.mjs").write_text(text, encoding="utf-8")
    token = fetch_token(stack, "worker")
    return App(tmp_path, clean_environment(TASKLATCH_API_URL=stack.api_url, TASKLATCH_TOKEN=token))


@dataclass(frozen=True)
class Scan:
    """A registered scan, and what its tasks' runners are called with: as the event bus tells it."""

    scan_id: str
    connection_id: str
    execution_id: str
    task_id: str
    dispatches: "Dispatches"

    @property
    def payload(self) -> dict[str, Any]:
        return self.dispatches.of(self.task_id)


class Dispatches:
    """A queue that takes what is dispatched, filled by a rule as an app's owner would write it."""

    def __init__(self, stack: Stack, connection_id: str) -> None:
        self._name = f"forge-{connection_id}"
        self._bus = stack.event_bus_name
        self._events, self._sqs = stack.aws("events"), stack.aws("sqs")
        self._url = self._sqs.create_queue(QueueName=self._name)["QueueUrl"]
        answer = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        pattern = {"detail-type": ["Task Scheduled"], "detail": {"input": {"connectionId": [connection_id]}}}
        self._events.put_rule(Name=self._name, EventBusName=self._bus, EventPattern=json.dumps(pattern))
        target = {"Id": "runner", "Arn": answer["Attributes"]["QueueArn"]}
        self._events.put_targets(Rule=self._name, EventBusName=self._bus, Targets=[target])
        self._taken: dict[str, dict[str, Any]] = {}

    def of(self, task_id: str) -> dict[str, Any]:
        """What the runner of a task is called with, once it has been dispatched."""

        def look() -> dict[str, Any] | None:
            answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                detail = json.loads(message["Body"])["detail"]
                self._taken[detail["taskId"]] = detail["input"]
            return self._taken.get(task_id)

        payload: dict[str, Any] = poll(look)
        return payload

    def close(self) -> None:
        self._events.remove_targets(Rule=self._name, EventBusName=self._bus, Ids=["runner"])
        self._events.delete_rule(Name=self._name, EventBusName=self._bus)
        self._sqs.delete_queue(QueueUrl=self._url)


@pytest.fixture
def scan(operator: httpx.Client, stack: Stack) -> Iterator[Scan]:
    """A scan with one root task."""
    scan_id, connection_id, task_id = f"scan/{fresh_name()}", fresh_name(), str(uuid4())
    dispatches = Dispatches(stack, connection_id)
    tasks = [{"taskId": task_id, "taskType": "FOLDER", "taskMetadata": {"path": "/"}}]
    created = operator.post("/forge/scans", json={"connectionId": connection_id, "scanId": scan_id, "tasks": tasks})
    assert created.status_code == httpx.codes.CREATED, created.text
    yield Scan(scan_id, connection_id, created.json()["executionId"], task_id, dispatches)
    dispatches.close()


def shown(reader: httpx.Client, scan: Scan, task_id: str | None = None) -> dict[str, Any]:
    """A scan's task as the native contract shows it."""
    task: dict[str, Any] = reader.get(f"/v1/executions/{scan.execution_id}/tasks/{task_id or scan.task_id}").json()
    return task


def test_document_has_the_examples_that_are_run() -> None:
    result = examples()
    assert len(result) == TYPED + 1
    assert not [
        line for text in result for line in text.splitlines() if "types." in line or "TaskRunnerPayload" in line
    ]


def test_success_of_the_documents_runner_is_recorded(app: App, scan: Scan, reader: httpx.Client) -> None:
    payload = scan.payload
    assert payload.keys() == {"connectionId", "scanId", "taskExecutionId", "taskId", "taskType", "taskMetadata"}

    outcome = app(SUCCESS, payload)

    assert outcome["result"] == {"success": True}
    assert outcome["answers"] == [{"httpStatus": 200, "status": "ACCEPTED", "message": "Task status updated"}]
    assert shown(reader, scan)["status"] == "COMPLETED"


def test_duplicate_delivery_that_fails_leaves_the_success(app: App, scan: Scan, reader: httpx.Client) -> None:
    # given
    app(FAILURE, scan.payload)

    # when the same task is delivered again, with a fresh id, and its work fails
    duplicate = app(FAILURE, scan.payload | {"taskExecutionId": str(uuid4())}, http_error=429)

    # then
    assert duplicate["result"]["success"] is False
    (answer,) = duplicate["answers"]
    assert (answer["httpStatus"], answer["status"]) == (200, "ACCEPTED")
    assert "ignored" in answer["message"]
    assert shown(reader, scan)["status"] == "COMPLETED"
    history = reader.get(f"/v1/executions/{scan.execution_id}/tasks/{scan.task_id}/history").json()["items"]
    assert [item["failureReason"] for item in history if item["verdict"] == "ignored_after_success"] == ["RATE_LIMITED"]


@pytest.mark.parametrize(
    ("http_error", "reason", "status"),
    [
        (401, "UNAUTHORIZED", "FAILED_WITH_TERMINAL_ERROR"),
        (404, "ENTITY_NOT_FOUND", "FAILED_WITH_TERMINAL_ERROR"),
        (429, "RATE_LIMITED", "FAILED"),
        (500, "RETRYABLE_ERROR", "FAILED"),
    ],
)
def test_failure_is_recorded_with_the_reason_that_the_runner_chose(
    app: App, scan: Scan, reader: httpx.Client, http_error: int, reason: str, status: str
) -> None:
    outcome = app(FAILURE, scan.payload, http_error=http_error)

    assert outcome["result"]["success"] is False
    task = shown(reader, scan)
    assert (task["status"], task["failureReason"]) == (status, reason)
    assert task["retry"]["willRetry"] is (status == "FAILED")
    assert task["retry"]["reason"] in outcome["answers"][0]["message"]


def test_success_of_a_duplicate_rescues_a_failure(app: App, scan: Scan, reader: httpx.Client) -> None:
    app(FAILURE, scan.payload, http_error=401)
    app(SUCCESS, scan.payload | {"taskExecutionId": str(uuid4())})
    assert shown(reader, scan)["status"] == "COMPLETED"
    assert reader.get(f"/v1/executions/{scan.execution_id}").json()["status"] == "RUNNING"


def test_typed_request_of_the_document_is_taken(app: App, scan: Scan, reader: httpx.Client) -> None:
    outcome = app(TYPED, scan.payload)
    assert [answer["status"] for answer in outcome["answers"]] == ["ACCEPTED"]
    assert shown(reader, scan)["failureReason"] == "RATE_LIMITED"


def test_child_that_a_runner_found_is_dispatched_too(
    app: App, scan: Scan, operator: httpx.Client, reader: httpx.Client
) -> None:
    child = str(uuid4())
    body = {"connectionId": scan.connection_id, "scanId": scan.scan_id, "tasks": [{"taskId": child}]}
    assert operator.post("/forge/children", json=body).is_success

    app(SUCCESS, scan.dispatches.of(child))

    assert shown(reader, scan, child)["status"] == "COMPLETED"
    assert shown(reader, scan)["status"] == "SCHEDULED"


def test_refusal_is_an_answer_to_branch_on(app: App, scan: Scan) -> None:
    outcome = app(SUCCESS, scan.payload | {"scanId": fresh_name()})
    (answer,) = outcome["answers"]
    assert (answer["httpStatus"], answer["error"]) == (404, "Scan not found")
    assert answer["originalError"]["status"] == answer["httpStatus"]


def test_scans_are_registered_by_operators_only(worker: httpx.Client) -> None:
    body = {"connectionId": "drive", "tasks": [{"taskId": str(uuid4())}]}
    assert worker.post("/forge/scans", json=body).status_code == httpx.codes.FORBIDDEN
