"""Cognite's own Python client, unmodified, against the deployed service."""

import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import httpx
import pytest
from cognite.client import ClientConfig, CogniteClient, global_config
from cognite.client.credentials import Token
from cognite.client.data_classes import (
    FunctionTaskParameters,
    WorkflowDefinitionUpsert,
    WorkflowExecutionDetailed,
    WorkflowTask,
    WorkflowUpsert,
    WorkflowVersionId,
    WorkflowVersionUpsert,
)
from cognite.client.data_classes.iam import ClientCredentials
from cognite.client.data_classes.workflows import (
    CDFTaskParameters,
    DynamicTaskParameters,
    SubworkflowReferenceParameters,
    SubworkflowTaskParameters,
    WorkflowTaskExecution,
)
from cognite.client.exceptions import CogniteAPIError, CogniteDuplicatedError, CogniteNotFoundError

from local.api_client import ApiClient
from local.cloud.stack import ROOT, Stack
from local.cloud.tokens import fetch_token
from local.replay.runner import attached_queue
from tasklatch.platforms.cognite.executions.translation import run_id
from tests.factories import fresh_name
from tests.polling import poll

DOCUMENT: Final = ROOT.parent / "shared" / "seeds" / "cognite-update-task-status.txt"
PROJECT: Final = "my-project"
EXAMPLE_ID: Final = "000560bc-9080-4286-b242-a27bb4819253"
# The least that passes as a snippet: what the document assigns from a call of the client
_SNIPPET: Final = re.compile(r"^(res = client\.workflows\..*?\))\{?$", re.MULTILINE)


def client_of(stack: Stack, name: str, base_url: str = "") -> CogniteClient:
    global_config.disable_pypi_version_check = True
    config = ClientConfig(
        client_name="tests",
        project=PROJECT,
        credentials=Token(fetch_token(stack, name)),
        base_url=base_url or stack.api_url,
    )
    return CogniteClient(config)


@pytest.fixture(scope="module")
def client(stack: Stack) -> CogniteClient:
    return client_of(stack, "operator")


def a_task(external_id: str, *depends_on: str, data: dict[str, Any] | None = None, **more: Any) -> WorkflowTask:
    parameters = FunctionTaskParameters("fn", data=data, is_async_complete=True)
    return WorkflowTask(external_id, parameters, depends_on=list(depends_on) or None, **more)


def define(client: CogniteClient, *tasks: WorkflowTask, workflow: str = "", version: str = "1") -> str:
    name = workflow or fresh_name()
    client.workflows.upsert(WorkflowUpsert(name))
    client.workflows.versions.upsert(WorkflowVersionUpsert(name, version, WorkflowDefinitionUpsert(list(tasks))))
    return name


def detailed(client: CogniteClient, execution_id: str) -> WorkflowExecutionDetailed:
    result = client.workflows.executions.retrieve_detailed(execution_id)
    assert result is not None
    return result


def task_of(client: CogniteClient, execution_id: str, external_id: str) -> WorkflowTaskExecution | None:
    tasks = detailed(client, execution_id).executed_tasks
    return next((task for task in tasks if task.external_id == external_id), None)


def is_open(task: WorkflowTaskExecution) -> bool:
    # The client's own list of statuses lacks this one
    return str(task.status) == "scheduled"


def is_canceled(task: WorkflowTaskExecution) -> bool:
    # The client's own list of statuses spells it otherwise
    return str(task.status) == "canceled"


def until_task(
    client: CogniteClient, execution_id: str, external_id: str, holds: Callable[[WorkflowTaskExecution], bool]
) -> WorkflowTaskExecution:
    def look() -> WorkflowTaskExecution | None:
        result = task_of(client, execution_id, external_id)
        return result if result is not None and holds(result) else None

    task: WorkflowTaskExecution = poll(look)
    return task


@pytest.mark.skipif(not DOCUMENT.is_file(), reason="Cognite's document is not beside this repository")
def test_the_documents_own_snippets_run(client: CogniteClient) -> None:
    # given the document's snippets, each once
    snippets = list(dict.fromkeys(_SNIPPET.findall(DOCUMENT.read_text(encoding="utf-8"))))
    assert len(snippets) == 5
    define(client, a_task("first", retries=0), a_task("second"), workflow="my workflow")

    def example_id() -> str:
        """The id of an attempt that is open, in the place of the document's."""
        run = client.workflows.executions.run("my workflow", "1")
        return str(detailed(client, run.id).executed_tasks[0].id)

    # when they run as they stand, with ids that exist and the attribute that the client has today
    names: dict[str, Any] = {"client": client}
    results = []
    for snippet in snippets:
        code = snippet.replace(EXAMPLE_ID, example_id()).replace("res.tasks[", "res.executed_tasks[")
        exec(code, names)  # noqa: S102 - the document's own lines
        results.append(names["res"])

    # then
    completed, failed, run, execution, second = results
    assert (completed.external_id, completed.status) == ("first", "completed")
    assert failed.status == "failed"
    assert run.status == "running"
    assert [task.external_id for task in execution.executed_tasks] == ["first", "second"]
    assert (second.external_id, second.status) == ("second", "completed")


def test_workflow_with_a_retry_runs_to_its_end(client: CogniteClient, reader: httpx.Client) -> None:
    # given two tasks side by side and one that waits for both and refers to what was before
    workflow = define(
        client,
        a_task("extract", data={"files": "${workflow.input.files}"}),
        a_task("check"),
        WorkflowTask(
            "load",
            CDFTaskParameters("/assets", "POST", body={"rows": "${extract.output.rows}"}),
            depends_on=["extract", "check"],
        ),
    )
    run = client.workflows.executions.run(workflow, "1", input={"files": ["a"]}, metadata={"by": "tests"})
    first = task_of(client, run.id, "extract")
    assert first is not None
    assert first.input.dump()["function"]["data"] == {"files": ["a"], "cogniteOrchestrationTaskId": first.id}

    # when the first attempt fails, its next one succeeds
    failed = client.workflows.tasks.update(first.id, "failed", output={"response": {"error": "busy"}})
    second = until_task(client, run.id, "extract", lambda task: task.id != first.id)
    done = client.workflows.tasks.update(second.id, "completed", output={"rows": 3})

    # and the failure of the first comes once more
    late = client.workflows.tasks.update(first.id, "failed", output={"response": {"error": "busy"}})

    # then
    assert failed.output.dump()["response"] == {"error": "busy"}
    assert (second.status, done.status, late.status) == ("scheduled", "completed", "completed")
    assert run.metadata == {"by": "tests"}

    # and what waits goes on when all is there, and ends the execution
    check = task_of(client, run.id, "check")
    assert check is not None
    client.workflows.tasks.update(check.id, "completed")
    load = until_task(client, run.id, "load", is_open)
    assert load.input.dump()["cdfRequest"]["body"] == {"rows": 3}
    client.workflows.tasks.update(load.id, "completed")
    assert poll(lambda: detailed(client, run.id).status == "completed")

    # and the native contract tells the same, with what was ignored
    history = reader.get(f"/v1/executions/{run.id}/tasks/extract/history").json()["items"]
    assert [entry["verdict"] for entry in history if entry["verdict"] != "applied"] == ["ignored_after_success"]


def test_terminal_error_fails_the_workflow_and_a_retry_mends_it(client: CogniteClient) -> None:
    # given
    workflow = define(client, a_task("breaks"), a_task("other"))
    run = client.workflows.executions.run(workflow, "1")
    breaks = task_of(client, run.id, "breaks")
    assert breaks is not None

    # when
    client.workflows.tasks.update(breaks.id, "failed_with_terminal_error", output={"response": {"code": 7}})

    # then the workflow fails, and what was open is cancelled
    assert poll(lambda: detailed(client, run.id).status == "failed")
    until_task(client, run.id, "other", is_canceled)
    broken = task_of(client, run.id, "breaks")
    assert broken is not None
    assert (broken.status, broken.reason_for_incompletion) == (
        "failed_with_terminal_error",
        "NON_RETRYABLE_ERROR is not retried",
    )

    # when it is retried, both get a new attempt
    client.workflows.executions.retry(run.id)
    for external_id in ("breaks", "other"):
        again = until_task(client, run.id, external_id, is_open)
        client.workflows.tasks.update(again.id, "completed")

    # then
    assert poll(lambda: detailed(client, run.id).status == "completed")


def test_skipped_task_does_not_fail_the_workflow(client: CogniteClient) -> None:
    workflow = define(client, a_task("may fail", on_failure="skipTask", retries=0), a_task("after", "may fail"))
    run = client.workflows.executions.run(workflow, "1")
    task = task_of(client, run.id, "may fail")
    assert task is not None

    client.workflows.tasks.update(task.id, "failed")

    until_task(client, run.id, "may fail", lambda item: item.status == "completed_with_errors")
    after = until_task(client, run.id, "after", is_open)
    client.workflows.tasks.update(after.id, "completed")
    assert poll(lambda: detailed(client, run.id).status == "completed")


def test_cancelled_execution_has_the_reason(client: CogniteClient) -> None:
    run = client.workflows.executions.run(define(client, a_task("a"), a_task("b", "a")), "1")
    before = task_of(client, run.id, "a")
    assert before is not None

    cancelled = client.workflows.executions.cancel(run.id, reason="no longer wanted")

    # then it is over as soon as that is answered, and what was never handed out is not shown
    assert (cancelled.status, cancelled.reason_for_incompletion) == ("terminated", "no longer wanted")
    sealed = client.workflows.tasks.update(before.id, "completed", output={"response": 1})
    assert is_canceled(sealed)
    (task,) = detailed(client, run.id).executed_tasks
    assert (task.external_id, task.reason_for_incompletion) == ("a", "no longer wanted")


def test_cancellation_without_a_reason_has_the_platforms_own(client: CogniteClient) -> None:
    run = client.workflows.executions.run(define(client, a_task("a")), "1")

    assert client.workflows.executions.cancel(run.id, None).reason_for_incompletion == "cancelled"


def test_next_attempt_shows_nothing_of_the_failed_one(client: CogniteClient) -> None:
    run = client.workflows.executions.run(define(client, a_task("a", retries=1)), "1")
    first = task_of(client, run.id, "a")
    assert first is not None

    client.workflows.tasks.update(first.id, "failed", output={"response": "e"})

    second = until_task(client, run.id, "a", lambda task: task.id != first.id)
    assert is_open(second)
    assert second.output.dump().get("response") is None


def test_late_success_takes_back_the_failure_of_its_execution(client: CogniteClient) -> None:
    # given an execution that a task has failed
    run = client.workflows.executions.run(define(client, a_task("a", retries=0), a_task("b", "a")), "1")
    task = task_of(client, run.id, "a")
    assert task is not None
    client.workflows.tasks.update(task.id, "failed")
    assert poll(lambda: detailed(client, run.id).status == "failed")

    # when the same attempt succeeds after all
    client.workflows.tasks.update(task.id, "completed")

    # then what waited for it runs, and the execution completes
    after = until_task(client, run.id, "b", is_open)
    client.workflows.tasks.update(after.id, "completed")
    assert poll(lambda: detailed(client, run.id).status == "completed")
    assert detailed(client, run.id).reason_for_incompletion is None


def test_success_without_output_is_an_empty_output_to_what_refers_to_it(client: CogniteClient) -> None:
    workflow = define(client, a_task("a"), a_task("b", "a", data={"all": "${a.output}"}))
    run = client.workflows.executions.run(workflow, "1")
    task = task_of(client, run.id, "a")
    assert task is not None

    client.workflows.tasks.update(task.id, "completed")

    after = until_task(client, run.id, "b", is_open)
    assert after.input.dump()["function"]["data"]["all"] == {}


def parents(execution: WorkflowExecutionDetailed, client: CogniteClient) -> dict[str, str | None]:
    """Return the parent of each executed task, which the client's own class leaves out."""
    path = f"/api/v1/projects/{PROJECT}/workflows/executions/{execution.id}"
    shown = client.get(path).json()["executedTasks"]
    return {task["externalId"]: task["parentTaskExternalId"] for task in shown}


def test_dynamic_task_brings_what_another_returned(client: CogniteClient) -> None:
    # given
    brought = [a_task("x", data={"n": 1}), a_task("y", "x")]
    dynamic = WorkflowTask("fan", DynamicTaskParameters("${list.output.tasks}"), depends_on=["list"])
    name = define(client, a_task("list"), dynamic, a_task("report", "fan"))
    execution_id = client.workflows.executions.run(name, "1").id

    # when
    lists = until_task(client, execution_id, "list", is_open)
    client.workflows.tasks.update(lists.id, "completed", output={"tasks": [task.dump() for task in brought]})
    first = until_task(client, execution_id, "x", is_open)

    # then
    fan = until_task(client, execution_id, "fan", lambda task: task.status == "completed")
    assert isinstance(fan.input, DynamicTaskParameters)
    assert [task.external_id for task in fan.input.tasks if isinstance(task, WorkflowTask)] == ["x", "y"]
    assert fan.output.dump() == {}
    execution = detailed(client, execution_id)
    assert parents(execution, client) == {"list": None, "fan": None, "x": "fan"}

    # and what waits for it waits for all of them
    client.workflows.tasks.update(first.id, "completed")
    second = until_task(client, execution_id, "y", is_open)
    assert task_of(client, execution_id, "report") is None
    client.workflows.tasks.update(second.id, "completed")
    last = until_task(client, execution_id, "report", is_open)
    client.workflows.tasks.update(last.id, "completed")
    poll(lambda: detailed(client, execution_id).status == "completed")


def test_dynamic_task_without_a_list_fails_with_the_reason(client: CogniteClient) -> None:
    name = define(client, WorkflowTask("fan", DynamicTaskParameters("${workflow.input.tasks}")))

    execution_id = client.workflows.executions.run(name, "1", input={"tasks": [{"externalId": "x"}]}).id

    poll(lambda: detailed(client, execution_id).status == "failed")
    fan = task_of(client, execution_id, "fan")
    assert fan is not None
    assert "tasks.0.type" in (fan.reason_for_incompletion or "")


@pytest.mark.parametrize("is_named", [False, True])
def test_subworkflow_runs_its_tasks(client: CogniteClient, *, is_named: bool) -> None:
    # given
    inner = [a_task("x"), a_task("y", "x")]
    parameters: Any = SubworkflowTaskParameters(inner)
    if is_named:
        parameters = SubworkflowReferenceParameters(define(client, *inner), "1")
    name = define(client, WorkflowTask("sub", parameters), a_task("after", "sub"))
    stored = client.workflows.versions.retrieve(WorkflowVersionId(name, "1"))

    # when
    execution_id = client.workflows.executions.run(name, "1").id
    for external_id in ("x", "y", "after"):
        client.workflows.tasks.update(until_task(client, execution_id, external_id, is_open).id, "completed")

    # then
    poll(lambda: detailed(client, execution_id).status == "completed")
    execution = detailed(client, execution_id)
    assert parents(execution, client) == {"sub": None, "x": "sub", "y": "sub", "after": None}
    assert {task.external_id: task.status for task in execution.executed_tasks} == dict.fromkeys(
        ("sub", "x", "y", "after"), "completed"
    )
    assert stored is not None
    assert isinstance(stored.workflow_definition.tasks[0].parameters, type(parameters))


def test_handler_of_an_asynchronous_function_reads_the_id_of_its_task(client: CogniteClient) -> None:
    run = client.workflows.executions.run(define(client, a_task("a", data={"k": 1})), "1")
    task = task_of(client, run.id, "a")
    assert task is not None

    # when a handler does as the platform's documentation shows
    data = task.input.dump()["function"]["data"]
    done = client.workflows.tasks.update(data["cogniteOrchestrationTaskId"], "completed")

    assert (done.id, data["k"]) == (task.id, 1)


# ---------------------------------------------------------------- answers that are lost


@dataclass
class Losing:
    """A connection that carries requests on to the service, and loses the first answer to each that it is told of."""

    target: str
    lose: list[str] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        losing = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._carry()

            def do_POST(self) -> None:
                self._carry()

            def _carry(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                with httpx.Client(trust_env=False, timeout=30) as onward:
                    answer = onward.request(self.command, losing.target + self.path, content=body, headers=headers)
                losing.carried.append(f"{self.path} {answer.status_code}")
                result = next((part for part in losing.lose if part in self.path), None)
                if result is not None:
                    losing.lose.remove(result)
                    # Closed with nothing to wait for, and before the library ends it politely, a connection is reset.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    os.close(self.connection.detach())
                    self.close_connection = True
                    return
                self.send_response(answer.status_code)
                for name in ("content-type", "x-request-id", "retry-after"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


@pytest.fixture
def losing(stack: Stack) -> Iterator[tuple[Losing, CogniteClient]]:
    connection = Losing(stack.api_url)
    server = ThreadingHTTPServer(("127.0.0.1", 0), connection.handler())
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield connection, client_of(stack, "operator", f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_update_whose_answer_was_lost_gets_the_stored_task(
    client: CogniteClient, losing: tuple[Losing, CogniteClient], reader: httpx.Client
) -> None:
    # given
    connection, unlucky = losing
    run = client.workflows.executions.run(define(client, a_task("a")), "1")
    task = task_of(client, run.id, "a")
    assert task is not None
    connection.lose.append(f"/workflows/tasks/{task.id}/update")

    # when the client sends it again by itself
    done = unlucky.workflows.tasks.update(task.id, "completed", output={"response": {"rows": 3}})

    # then
    sent = [item for item in connection.carried if item.endswith("/update 200")]
    assert len(sent) == 2
    assert (done.id, done.status) == (task.id, "completed")
    assert done.output.dump()["response"] == {"rows": 3}
    shown = reader.get(f"/v1/executions/{run.id}/tasks/a").json()
    assert shown["output"] == {"response": {"rows": 3}}


def test_run_whose_answer_was_lost_starts_once(client: CogniteClient, losing: tuple[Losing, CogniteClient]) -> None:
    # given
    connection, unlucky = losing
    workflow = define(client, a_task("a"))
    connection.lose.append("/run")

    # when the client sends it again by itself, with the nonce of the same session
    run = unlucky.workflows.executions.run(workflow, "1")

    # then
    assert len([item for item in connection.carried if item.endswith("/run 200")]) == 2
    assert [element.id for element in client.workflows.executions.list(WorkflowVersionId(workflow))] == [run.id]


# ---------------------------------------------------------------- definitions, lists, errors


def test_definitions_can_be_listed_retrieved_and_deleted(client: CogniteClient) -> None:
    # given
    item, two = (define(client, a_task("a"), version="1") for _ in range(2))
    define(client, a_task("a"), a_task("b", "a"), workflow=item, version="2")

    # then
    assert {item, two} <= {workflow.external_id for workflow in client.workflows.list(limit=None)}
    assert {version.version for version in client.workflows.versions.list(item)} == {"1", "2"}
    assert {version.as_id().as_tuple() for version in client.workflows.versions.list([(item, "2"), two])} == {
        (item, "2"),
        (two, "1"),
    }
    version = client.workflows.versions.retrieve((item, "2"))
    assert version is not None
    assert [(task.external_id, task.depends_on) for task in version.workflow_definition.tasks] == [
        ("a", None),
        ("b", ["a"]),
    ]

    # when
    client.workflows.versions.delete((item, "1"))
    client.workflows.delete([two])

    # then
    assert client.workflows.versions.retrieve((item, "1")) is None
    assert client.workflows.retrieve(two) is None
    assert client.workflows.retrieve(item) is not None


def test_first_version_makes_its_workflow(client: CogniteClient) -> None:
    # given
    name = fresh_name()
    definition = WorkflowDefinitionUpsert([a_task("a")])

    # when
    client.workflows.versions.upsert(WorkflowVersionUpsert(name, "1", definition))

    # then
    assert client.workflows.retrieve(name) is not None
    put = client.workflows.upsert(WorkflowUpsert(name, description="d", max_concurrent_executions=10))
    client.workflows.versions.upsert(WorkflowVersionUpsert(name, "2", definition))
    shown = client.workflows.retrieve(name)
    assert shown is not None
    assert (shown.description, shown.max_concurrent_executions) == ("d", put.max_concurrent_executions) == ("d", 10)


def test_what_runs_is_not_deleted(client: CogniteClient) -> None:
    # given
    workflow = define(client, a_task("a"))
    run = client.workflows.executions.run(workflow, "1")

    # then
    with pytest.raises(CogniteAPIError, match="running executions"):
        client.workflows.versions.delete((workflow, "1"))
    with pytest.raises(CogniteAPIError, match="running executions"):
        client.workflows.delete(workflow)

    # and once it is over, it is
    client.workflows.executions.cancel(run.id, None)
    client.workflows.delete(workflow)
    assert client.workflows.retrieve(workflow) is None


@pytest.mark.parametrize("name", ["triggers", "versions", "executions", "."])
def test_name_that_means_something_else_in_a_path_is_refused(client: CogniteClient, name: str) -> None:
    with pytest.raises(CogniteAPIError) as refused:
        client.workflows.upsert(WorkflowUpsert(name))

    assert refused.value.code == 400


def test_type_that_the_client_does_not_know_comes_back_as_it_was_put(client: CogniteClient) -> None:
    # given
    name, parameters = fresh_name(), {"functionApp": {"externalId": "app", "path": "/x"}}
    task = {"externalId": "a", "type": "functionApp", "parameters": parameters, "retries": None, "dependsOn": None}
    item = {"workflowExternalId": name, "version": "1", "workflowDefinition": {"tasks": [task]}}

    # when
    url = f"/api/v1/projects/{PROJECT}/workflows"
    client.post(f"{url}/versions", {"items": [item]})

    # then
    (shown,) = client.get(f"{url}/{name}/versions/1").json()["workflowDefinition"]["tasks"]
    assert (shown["type"], shown["parameters"], shown["retries"]) == ("functionApp", parameters, 3)
    run = client.workflows.executions.run(name, "1")
    execution = client.get(f"{url}/executions/{run.id}").json()
    assert execution["engineExecutionId"] == run.id
    assert execution["executedTasks"][0]["input"] == parameters


def test_executions_are_listed_by_what_the_client_filters_on(client: CogniteClient) -> None:
    workflow = define(client, a_task("a"))
    runs = [client.workflows.executions.run(workflow, "1").id for _ in range(3)]
    client.workflows.executions.cancel(runs[1], reason=None)

    by_workflow = client.workflows.executions.list(WorkflowVersionId(workflow))
    by_status = client.workflows.executions.list((workflow, "1"), statuses=["running"])
    none = client.workflows.executions.list(WorkflowVersionId(workflow), created_time_end=1)

    assert [item.id for item in by_workflow] == runs[::-1]
    assert [status.id for status in by_status] == [runs[2], runs[0]]
    assert len(none) == 0


def test_errors_become_the_clients_own_exceptions(client: CogniteClient) -> None:
    # given
    workflow = define(client, a_task("a"))
    run = client.workflows.executions.run(workflow, "1")
    task = task_of(client, run.id, "a")
    assert task is not None

    # then
    assert client.workflows.executions.retrieve_detailed(fresh_name()) is None
    assert client.workflows.retrieve("nowhere") is None
    with pytest.raises(CogniteNotFoundError, match="workflows were not found") as missing:
        client.workflows.delete("nowhere")
    assert missing.value.not_found == [{"externalId": "nowhere"}]
    with pytest.raises(CogniteNotFoundError):
        client.workflows.tasks.update(EXAMPLE_ID, "completed")
    with pytest.raises(CogniteNotFoundError):
        client.workflows.executions.run(workflow, "none")
    with pytest.raises(CogniteDuplicatedError) as twice:
        define(client, a_task("a"), a_task("a"), workflow=workflow, version="2")
    assert twice.value.duplicated == [{"externalId": "a"}]
    with pytest.raises(CogniteAPIError, match="dependency cycle") as cycle:
        define(client, a_task("a", "b"), a_task("b", "a"), workflow=workflow, version="2")
    assert cycle.value.code == 400
    with pytest.raises(CogniteAPIError) as unknown_status:
        client.workflows.tasks.update(task.id, "sleeping")  # type: ignore[arg-type]
    assert unknown_status.value.code == 400
    client.workflows.delete("nowhere", ignore_unknown_ids=True)


def test_worker_may_update_but_neither_run_nor_read(stack: Stack, client: CogniteClient) -> None:
    worker = client_of(stack, "worker")
    workflow = define(client, a_task("a"))
    run = client.workflows.executions.run(workflow, "1")
    task = task_of(client, run.id, "a")
    assert task is not None

    assert worker.workflows.tasks.update(task.id, "completed").status == "completed"
    for refused in (
        lambda: worker.workflows.executions.run(workflow, "1", nonce="n"),
        lambda: worker.workflows.executions.retrieve_detailed(run.id),
    ):
        with pytest.raises(CogniteAPIError) as error:
            refused()
        assert error.value.code == 403


def test_session_of_client_credentials_gives_a_nonce_for_one_run(client: CogniteClient) -> None:
    workflow = define(client, a_task("a"))
    session = client.iam.sessions.create(ClientCredentials("my-id", "my-secret"))

    first = client.workflows.executions.run(workflow, "1", nonce=session.nonce)
    again = client.workflows.executions.run(workflow, "1", nonce=session.nonce)

    assert (session.status, session.client_id) == ("READY", "my-id")
    assert first.id == again.id


# ---------------------------------------------------------------- one ledger


def test_run_is_on_the_bus_and_its_task_can_be_reported_through_any_contract(
    stack: Stack, client: CogniteClient, worker: httpx.Client
) -> None:
    # given a queue that the bus fills with the tasks of one execution
    workflow = define(client, a_task("a", data={"k": "${workflow.input.k}"}), a_task("b", "a"))
    execution_id = run_id("default", workflow, "1", "my-nonce")

    with ApiClient(stack) as api, attached_queue(stack, api, execution_id) as queue:
        run = client.workflows.executions.run(workflow, "1", input={"k": 7}, nonce="my-nonce")
        assert run.id == execution_id

        # when the first task comes out of it and is reported in the native contract
        (first,) = poll(lambda: list(queue.take()))
        data = {"k": 7, "cogniteOrchestrationTaskId": first.task_execution_id}
        assert first.input["function"] == {"externalId": "fn", "data": data}
        path = f"/v1/executions/{execution_id}/tasks/a/status"
        body = {"status": "COMPLETED", "taskExecutionId": first.task_execution_id, "output": {"rows": 1}}
        assert worker.post(path, json=body).json()["verdict"] == "applied"

        # and the second one in SuperAI's
        (second,) = poll(lambda: list(queue.take()))
        assert second.task_id == "b"
        path = f"/api/flow-executions/{execution_id}/task-status"
        answer = worker.post(path, json={"statuses": [{"task_name": "b", "status": "completed"}]})
        assert answer.status_code == httpx.codes.OK, answer.text

    # then it is done, in Cognite's words
    assert poll(lambda: detailed(client, execution_id).status == "completed")
    tasks = detailed(client, execution_id).executed_tasks
    assert [(task.external_id, task.status) for task in tasks] == [("a", "completed"), ("b", "completed")]


def limited(client: CogniteClient, limit: int | None, workflow: str = "") -> str:
    """Define a workflow of one task, of which so many executions may run at once."""
    name = workflow or define(client, a_task("only"))
    client.workflows.upsert(WorkflowUpsert(name, max_concurrent_executions=limit))
    return name


def started(client: CogniteClient, execution_id: str) -> WorkflowTaskExecution:
    """Wait until an execution has started: its task is handed out."""
    return until_task(client, execution_id, "only", is_open)


def test_runs_over_the_limit_wait_in_order_and_say_so(client: CogniteClient) -> None:
    # given
    name = limited(client, 1)
    runs = [client.workflows.executions.run(name, "1").id for _ in range(3)]
    task = started(client, runs[0])

    # then the others have not started, and say why
    for execution_id in runs[1:]:
        waits = detailed(client, execution_id)
        assert (waits.status, waits.start_time, waits.executed_tasks) == ("running", None, [])
        assert "maxConcurrentExecutions" in (waits.reason_for_incompletion or "")
    assert detailed(client, runs[0]).reason_for_incompletion is None
    assert detailed(client, runs[0]).start_time is not None

    # when one that waits is cancelled, it ends at once
    assert client.workflows.executions.cancel(runs[1], "enough").status == "terminated"

    # and the next starts when the first has ended
    client.workflows.tasks.update(task.id, "completed")
    task = started(client, runs[2])
    assert detailed(client, runs[1]).executed_tasks == []
    client.workflows.tasks.update(task.id, "completed")
    assert poll(lambda: detailed(client, runs[2]).status == "completed")


def test_higher_limit_starts_runs_that_wait_and_none_starts_all(client: CogniteClient) -> None:
    # given
    name = limited(client, 1)
    runs = [client.workflows.executions.run(name, "1").id for _ in range(4)]
    started(client, runs[0])

    # when
    limited(client, 2, name)

    # then
    started(client, runs[1])
    assert detailed(client, runs[2]).executed_tasks == []

    # and
    limited(client, None, name)
    for execution_id in runs[2:]:
        started(client, execution_id)
    for execution_id in runs:
        client.workflows.executions.cancel(execution_id, "enough")


def test_retry_waits_for_its_turn(client: CogniteClient) -> None:
    # given a run that was cancelled, and another that has started since
    name = limited(client, 1)
    first, second = (client.workflows.executions.run(name, "1").id for _ in range(2))
    started(client, first)
    client.workflows.executions.cancel(first, "enough")
    task = started(client, second)

    # when
    again = client.workflows.executions.retry(first)

    # then
    assert again.status == "running"
    assert "maxConcurrentExecutions" in (again.reason_for_incompletion or "")
    client.workflows.tasks.update(task.id, "completed")
    client.workflows.tasks.update(started(client, first).id, "completed")
    assert poll(lambda: detailed(client, first).status == "completed")
