"""SuperAI's contract over an emulated table; answers fit this service's description, and the platform's own."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Final
from uuid import uuid4

import pytest
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]

from local.handlers import ROOT
from tasklatch.domain.history import change_entry
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.dynamodb import keys
from tasklatch.executions.reader import ExecutionReader
from tasklatch.ledger.history import History
from tasklatch.workflow.advance_queue import AdvanceQueue
from tasklatch.workflow.advancer import WorkflowAdvancer
from tasklatch.workflow.closer import ExecutionCloser
from tests.api_description import check_answer
from tests.factories import Reply, a_task, api_event, call_api, fixed_clock, fresh_name
from tests.integration.emulators import Table, counted_calls, intercepted, make_backoff
from tests.workflow_helpers import FakeClient

FLOWS: Final = "/api/flow-executions"
CREATE: Final = f"POST {FLOWS}"
LIST: Final = f"GET {FLOWS}"
SHOW: Final = f"GET {FLOWS}/{{flow_execution_id}}"
DELETE: Final = f"DELETE {FLOWS}/{{flow_execution_id}}"
CANCEL: Final = f"POST {FLOWS}/{{flow_execution_id}}/cancel"
STATUSES: Final = f"POST {FLOWS}/{{flow_execution_id}}/task-status"
TASKS: Final = "GET /api/task-executions"
NATIVE_EXECUTION: Final = "GET /v1/executions/{executionId}"
NATIVE_TASK: Final = "GET /v1/executions/{executionId}/tasks/{taskId}"
NATIVE_HISTORY: Final = f"{NATIVE_TASK}/history"
NATIVE_REPORT: Final = "POST /v1/executions/{executionId}/tasks/{taskId}/status"
THEIRS: Final = ROOT.parent / "shared" / "contracts" / "superai-flow-openapi-excerpt.json"


@dataclass(frozen=True)
class Api:
    """The handlers, called as API Gateway calls them; each answer is held to the description."""

    load: Callable[[str, Any], ModuleType]
    table: Table

    def __call__(self, route: str, *path: str, body: Any = None, **more: Any) -> Reply:
        superai = "/api/" in route
        function = "superai_contract" if superai else "report_status" if route == NATIVE_REPORT else "executions"
        names = ("flow_execution_id",) if superai else ("executionId", "taskId")
        event = api_event(route, path=dict(zip(names, path, strict=False)), body=body, **more)
        reply = call_api(self.load(function, self.table.client).handler, event)
        if reply.status == 204:
            assert reply.text == ""
        else:
            check_answer(route, reply)
        return reply

    def report(self, execution_id: str, *body: tuple[str, str | None], **more: Any) -> Reply:
        statuses = [{"task_name": name, "status": status} for name, status in body]
        return self(STATUSES, execution_id, body={"statuses": statuses}, **more)

    def status(self, execution_id: str, task_name: str) -> str:
        return str(self(NATIVE_TASK, execution_id, task_name).body["status"])

    def history(self, execution_id: str, task_name: str) -> list[Any]:
        items: list[Any] = self(NATIVE_HISTORY, execution_id, task_name, query={"limit": "400"}).body["items"]
        return items


@pytest.fixture
def api(load: Callable[[str, Any], ModuleType], statements_table: Table) -> Api:
    return Api(load, statements_table)


@pytest.fixture
def flow_id() -> str:
    return str(uuid4())


@pytest.fixture
def execution_id(api: Api, flow_id: str) -> str:
    """A flow execution with the tasks `extract` and `send`."""
    body = {"flow_id": flow_id, "input": {"file_key": "a.pdf"}, "task_names": ["extract", "send"]}
    created = api(CREATE, body=body)
    assert created.status == 201
    return str(created.body["id"])


def theirs(schema: str, *, any_status: bool = False) -> Draft202012Validator:
    """A schema of the platform's own description; skips the test where that is not at hand.

    Parameters
    ----------
    any_status
        Without its list of statuses: the platform's document takes any text, and answers with it.
    """
    if not THEIRS.is_file():
        pytest.skip("SuperAI's API description is not beside this repository")
    document = deepcopy(json.loads(THEIRS.read_text(encoding="utf-8")))
    if any_status:
        document["components"]["schemas"]["ProcessingStatus"] = {"type": "string"}
    result = {**document["components"]["schemas"][schema], "components": document["components"]}
    return Draft202012Validator(result, format_checker=FormatChecker())


def test_updates_are_answered_with_their_records_in_order(api: Api, execution_id: str) -> None:
    reply = api.report(execution_id, ("extract", "running"), ("send", "queued"), ("extract", "completed"))

    assert reply.status == 200
    assert [(item["task_name"], item["status"]) for item in reply.body] == [
        ("extract", "running"),
        ("send", "queued"),
        ("extract", "completed"),
    ]
    assert {element["flow_execution_id"] for element in reply.body} == {execution_id}
    assert api.status(execution_id, "extract") == "COMPLETED"
    assert api.status(execution_id, "send") == "SCHEDULED"


def test_answers_fit_the_platforms_own_description(api: Api, execution_id: str, flow_id: str) -> None:
    records = api.report(execution_id, ("extract", "running"), ("send", "failed"), ("send", None))
    free = api.report(execution_id, ("extract", "an odd word"))
    shown = api(SHOW, execution_id, query={"include_run_number": "true"})
    listed = api(LIST, query={"flow_id": flow_id})
    tasks = api(TASKS, query={"flow_execution_id": execution_id})
    missing = api(SHOW, fresh_name())
    unknown = api.report(execution_id, ("nowhere", "running"))
    invalid = api(STATUSES, execution_id, body={"statuses": []})

    for record in records.body:
        theirs("FlowTaskStatusAPI").validate(record)
    theirs("FlowTaskStatusAPI", any_status=True).validate(free.body[0])
    theirs("FlowExecutionResponse").validate(shown.body)
    theirs("FlowExecutionResponseWithRunNumber").validate(listed.body[0])
    theirs("ListTaskExecutionsResponse").validate(tasks.body)
    for refused in (missing, unknown, invalid):
        theirs("ErrorResponse").validate(refused.body)
    theirs("HTTPValidationError").validate(invalid.body)


def test_batch_of_a_hundred_keeps_every_record_and_the_latch_holds(api: Api, execution_id: str) -> None:
    # given repeats of one task, a late failure and odd words among them
    words = ["queued", "running", "running", "odd", "failed", "running", "completed", "failed", "odd", "completed"] * 10
    names = [
        "extract",
        "extract",
        "extract",
        "extract",
        "extract",
        "extract",
        "extract",
        "extract",
        "send",
        "send",
    ] * 10

    # when
    reply = api.report(execution_id, *zip(names, words, strict=True))

    # then
    assert [(item["task_name"], item["status"]) for item in reply.body] == list(zip(names, words, strict=True))
    assert len({element["id"] for element in reply.body}) == 100
    assert api.status(execution_id, "extract") == api.status(execution_id, "send") == "COMPLETED"
    # and all records are in the history: changes come from the table's stream, the others are there already
    changed = {"extract": ["running", "failed", "completed"], "send": ["completed"]}
    for name in ("extract", "send"):
        stored = [entry["label"] for entry in api.history(execution_id, name)]
        expected = [word for task, word in zip(names, words, strict=True) if task == name]
        for word in changed[name]:
            expected.remove(word)
        assert stored == expected, "in the order given"


def test_change_and_remark_stand_in_one_history(api: Api, execution_id: str) -> None:
    # given
    api.report(execution_id, ("extract", "completed"), ("extract", "archived"))
    after = a_task(
        TaskStatus.COMPLETED, execution_id=execution_id, task_id="extract", version=3, platform_status="completed"
    )

    # when the table's stream has told of the success
    History(api.table.client, api.table.settings, make_backoff()).put([(after, change_entry(after, None))])

    # then
    messages = [(item["verdict"], item["status"], item["label"]) for item in api.history(execution_id, "extract")]
    assert messages == [("applied", "COMPLETED", "completed"), ("ignored_after_success", "COMPLETED", "archived")]


def test_late_failure_is_recorded_and_the_success_stands(api: Api, execution_id: str) -> None:
    api.report(execution_id, ("extract", "completed"))
    late = api.report(execution_id, ("extract", "failed"))
    assert (late.status, late.body[0]["status"]) == (200, "failed")
    assert api.status(execution_id, "extract") == "COMPLETED"
    (stored,) = api.history(execution_id, "extract")
    assert (stored["verdict"], stored["label"]) == ("ignored_after_success", "failed")


@pytest.mark.parametrize(("word", "status"), [("skipped", "SKIPPED"), ("cancelled", "CANCELED")])
def test_seal_closes_an_open_task_and_leaves_a_success(api: Api, execution_id: str, word: str, status: str) -> None:
    api.report(execution_id, ("send", "completed"))
    reply = api.report(execution_id, ("extract", word), ("send", word), ("extract", "completed"))
    assert reply.status == 200
    assert api.status(execution_id, "extract") == status
    assert api.status(execution_id, "send") == "COMPLETED"


def test_failure_is_rescued_by_a_later_success(api: Api, execution_id: str) -> None:
    api.report(execution_id, ("extract", "failed"))
    assert api(NATIVE_TASK, execution_id, "extract").body["retry"]["willRetry"] is False
    api.report(execution_id, ("extract", "completed"))
    assert api.status(execution_id, "extract") == "COMPLETED"


def test_unknown_names_are_all_told_and_nothing_is_written(api: Api, execution_id: str) -> None:
    # given
    before = api.table.items(keys.execution_pk("default", execution_id))
    impossible = "\U0001f600" * 255

    # when
    reply = api.report(
        execution_id, ("extract", "completed"), ("x", "running"), (impossible, None), ("x", None), request_id="own"
    )

    # then
    assert reply.status == 400
    assert reply.body["error"]["code"] == "bad_request"
    assert reply.body["error"]["details"] == {"unknown_task_names": ["x", impossible]}
    assert reply.body["request_id"] == "own"
    assert api.table.items(keys.execution_pk("default", execution_id)) == before
    assert api.history(execution_id, "extract") == []


INVALID: Final[dict[str, Any]] = {
    "none": {"statuses": []},
    "too many": {"statuses": [{"task_name": "extract"}] * 101},
    "no list": {},
    "no name": {"statuses": [{"status": "running"}]},
    "empty name": {"statuses": [{"task_name": ""}]},
    "long name": {"statuses": [{"task_name": "x" * 256}]},
    "long status": {"statuses": [{"task_name": "extract", "status": "x" * 51}]},
    "status is a number": {"statuses": [{"task_name": "extract", "status": 1}]},
    "no JSON": "{",
}


@pytest.mark.parametrize("body", INVALID.values(), ids=INVALID)
def test_invalid_body_is_422_in_both_forms(api: Api, execution_id: str, body: Any) -> None:
    reply = api(STATUSES, execution_id, body=body)
    assert reply.status == 422
    assert reply.body["error"]["code"] == "validation_error"
    assert reply.body["detail"] == reply.body["error"]["details"]
    assert all(set(fault) == {"loc", "msg", "type"} for fault in reply.body["detail"])
    assert reply.body["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("route", [SHOW, DELETE, CANCEL, STATUSES])
def test_what_is_not_there_is_404_in_the_envelope(api: Api, route: str) -> None:
    reply = api(route, str(uuid4()), body={"statuses": [{"task_name": "a"}]} if route == STATUSES else None)
    assert (reply.status, reply.body["error"]["code"]) == (404, "not_found")


def test_token_without_the_scope_is_403_in_the_envelope(api: Api, execution_id: str) -> None:
    reply = api.report(execution_id, ("extract", "running"), claims={"scope": "tasklatch/read"})
    assert (reply.status, reply.body["error"]["code"]) == (403, "forbidden")


def test_deleted_execution_is_gone_here_and_still_shown_by_the_native_contract(
    api: Api, execution_id: str, flow_id: str
) -> None:
    # when
    first = api(DELETE, execution_id)
    later = [api(DELETE, execution_id), api(SHOW, execution_id), api(CANCEL, execution_id)]
    report = api.report(execution_id, ("extract", "completed"))

    # then
    assert first.status == 204
    assert [reply.status for reply in (*later, report)] == [404] * 4
    assert api(LIST, query={"flow_id": flow_id}).body == []
    assert api(TASKS, query={"flow_execution_id": execution_id}).body == {"task_executions": []}
    native = api(NATIVE_EXECUTION, execution_id).body
    assert (native["status"], native["reason"]) == ("TERMINATED", "deleted")
    assert native["deletedAt"]


def test_cancelled_execution_is_shown_as_such(api: Api, execution_id: str) -> None:
    assert api(CANCEL, execution_id).status == 204
    assert api(CANCEL, execution_id).status == 204
    assert api(SHOW, execution_id).body["status"] == "cancelled"


def test_execution_does_not_end_with_its_tasks(api: Api, execution_id: str) -> None:
    # given
    api.report(execution_id, ("extract", "completed"), ("send", "failed"))
    parts = (api.table.client, api.table.settings, fixed_clock, make_backoff())

    # when what follows from a settled task is done
    for name in ("extract", "send"):
        WorkflowAdvancer(*parts).schedule_dependents("default", execution_id, name)
    no_messages: Any = FakeClient()
    queue = AdvanceQueue(no_messages, api.table.settings, make_backoff())
    ExecutionCloser(*parts, queue).complete_if_finished("default", execution_id)

    # then
    assert ExecutionReader(*parts).get("default", execution_id).status is ExecutionStatus.RUNNING
    assert api(SHOW, execution_id).body["status"] == "running"
    assert api(NATIVE_EXECUTION, execution_id).body["staysOpen"] is True


def test_flow_lists_its_executions_newest_first_page_by_page(api: Api, flow_id: str) -> None:
    # given
    created = [api(CREATE, body={"flow_id": flow_id, "input": {"n": number}}).body for number in range(3)]
    api(CREATE, body={"flow_id": str(uuid4()), "input": {}})
    newest_first = sorted(created, key=lambda item: (item["created_at"], item["id"]), reverse=True)
    api(CANCEL, newest_first[2]["id"])

    # when
    first = api(LIST, query={"flow_id": flow_id, "page_size": "2"})
    second = api(LIST, query={"flow_id": flow_id, "page_size": "2", "page": "2"})
    running = api(LIST, query={"flow_id": flow_id, "status": "running,queued".partition(",")[0]})
    both = api(LIST, query={"flow_id": flow_id, "status": "running,cancelled"})

    # then
    assert [element["input"] for element in first.body + second.body] == [entry["input"] for entry in newest_first]
    assert [value_item["id"] for value_item in running.body] == [item["id"] for item in newest_first[:2]]
    assert len(both.body) == 3


@pytest.mark.parametrize("query", [{}, {"flow_id": "x"}, {"status": "odd"}, {"page": "0"}, {"tags": "a:b"}])
def test_list_that_cannot_be_given_is_refused(api: Api, flow_id: str, query: dict[str, str]) -> None:
    requested = query if not query or "flow_id" in query else {"flow_id": flow_id} | query
    assert api(LIST, query=requested).status == 422


def test_task_executions_show_how_tasks_stand(api: Api, execution_id: str) -> None:
    # given
    api.report(execution_id, ("extract", "running"))
    api(NATIVE_REPORT, execution_id, "extract", body={"status": "COMPLETED", "output": {"pages": 3}})

    # when
    both = api(TASKS, query={"flow_execution_id": execution_id}).body["task_executions"]
    names = api(TASKS, query={"flow_execution_id": execution_id, "task_name": "extract"}).body["task_executions"]

    # then
    assert {item["task_name"]: item["processing_status"] for item in both} == {"extract": "completed", "send": "queued"}
    assert [element["created_at"] for element in both] == sorted((entry["created_at"] for entry in both), reverse=True)
    assert [(first["task_name"], first["output"]) for first in names] == [("extract", {"pages": 3})]
    for query in ({"task_execution_idx": "1"}, {"task_name": "nowhere"}, {"task_name": "a\nb"}):
        assert api(TASKS, query={"flow_execution_id": execution_id} | query).body == {"task_executions": []}
    assert api(TASKS, query={"flow_execution_id": fresh_name()}).body == {"task_executions": []}
    assert api(TASKS).status == 422


def test_task_of_the_native_contract_can_be_reported_here(api: Api) -> None:
    execution_id = fresh_name()
    body = {"executionId": execution_id, "metadata": {"by": "cron"}, "tasks": [{"taskId": "fetch"}]}
    assert api("POST /v1/executions", body=body).status == 201

    assert api.report(execution_id, ("fetch", "completed")).status == 200

    assert api.status(execution_id, "fetch") == "COMPLETED"
    assert api(SHOW, execution_id).body["input"] == {"by": "cron"}


def test_execution_is_created_once_for_one_key(api: Api, flow_id: str) -> None:
    headers, body = {"idempotency-key": fresh_name()}, {"flow_id": flow_id, "input": {}}
    first, again = (api(CREATE, body=body, headers=headers) for _ in range(2))
    assert (first.status, again.status) == (201, 201)
    assert again.body["id"] == first.body["id"]
    clash = api(CREATE, body=body | {"input": {"other": 1}}, headers=headers)
    assert (clash.status, clash.body["error"]["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 422), ({"flow_id": "x", "input": {}}, 422), ({"flow_id": str(uuid4()), "input": {"a": "x" * 17_000}}, 413)],
)
def test_execution_that_cannot_be_kept_is_refused(api: Api, body: Any, status: int) -> None:
    assert api(CREATE, body=body).status == status


@pytest.mark.parametrize("status", ["running", "completed", "failed", "skipped"])
def test_batch_of_ten_costs_two_calls_as_one_does(api: Api, status: str) -> None:
    # given
    names = [f"task-{number}" for number in range(11)]
    execution_id = api(CREATE, body={"flow_id": str(uuid4()), "input": {}, "task_names": names}).body["id"]

    # when
    with counted_calls(api.table.client) as of_one:
        api.report(execution_id, (names[10], status))
    with counted_calls(api.table.client) as of_ten:
        api.report(execution_id, *((name, status) for name in names[:10]))

    # then
    assert of_one == of_ten == {"BatchGetItem": 1, "BatchExecuteStatement": 1}


def test_updates_of_one_task_in_a_batch_need_no_further_read(api: Api) -> None:
    # given
    execution_id = api(CREATE, body={"flow_id": str(uuid4()), "input": {}, "task_names": ["resize"]}).body["id"]

    # when
    with counted_calls(api.table.client) as calls:
        api.report(execution_id, ("resize", "running"), ("resize", "failed"), ("resize", "completed"))

    # then
    assert calls == {"BatchGetItem": 1, "BatchExecuteStatement": 3}
    assert api.status(execution_id, "resize") == "COMPLETED"


def test_update_of_a_task_that_moved_on_since_it_was_read_is_written_all_the_same(api: Api) -> None:
    # given
    execution_id = api(CREATE, body={"flow_id": str(uuid4()), "input": {}, "task_names": ["resize"]}).body["id"]
    real, moved = api.table.client, list[int]()

    def move_between(operation: str, call: Callable[[], Any], _: Any) -> Any:
        answer = call()
        if operation == "batch_get_item" and not moved:
            moved.append(api.report(execution_id, ("resize", "running")).status)
        return answer

    # when
    hasty = Api(api.load, replace(api.table, client=intercepted(real, move_between)))
    reply = hasty.report(execution_id, ("resize", "failed"))

    # then
    assert (reply.status, moved) == (200, [200])
    assert api.status(execution_id, "resize") == "FAILED"


@pytest.fixture
def waiting(api: Api) -> str:
    """An execution in which `send` waits for `extract`."""
    execution_id = fresh_name()
    tasks = [{"taskId": "extract"}, {"taskId": "send", "dependsOn": ["extract"]}]
    assert api("POST /v1/executions", body={"executionId": execution_id, "tasks": tasks}).status == 201
    return execution_id


@pytest.mark.parametrize("word", ["running", "in_progress", "completed", "failed", "skipped", "cancelled"])
def test_word_that_drives_the_latch_is_refused_of_a_task_that_waits(api: Api, waiting: str, word: str) -> None:
    # when
    refused = api.report(waiting, ("extract", "running"), ("send", word))

    # then nothing of the batch is applied
    assert refused.status == 409
    assert refused.body["error"]["code"] == "conflict"
    assert refused.body["error"]["details"] == {"task_names_not_open": ["send"]}
    assert (api.status(waiting, "extract"), api.status(waiting, "send")) == ("SCHEDULED", "PENDING")
    assert api.history(waiting, "send") == []


@pytest.mark.parametrize("word", ["queued", "waiting for the others", None])
def test_any_other_word_makes_a_record_of_a_task_that_waits(api: Api, waiting: str, word: str | None) -> None:
    # when
    taken = api.report(waiting, ("send", word))

    # then
    assert (taken.status, taken.body[0]["status"]) == (200, word or "queued")
    assert api.status(waiting, "send") == "PENDING"
    (entry,) = api.history(waiting, "send")
    assert (entry["status"], entry.get("label")) == ("PENDING", word)
