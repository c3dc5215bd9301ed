"""Cognite's contract in itself: what definitions and updates mean here, and how what becomes of them is shown."""

import json
from typing import Any

import pytest

from tasklatch.api.body import validate
from tasklatch.api.errors import STATUS, to_problem_details
from tasklatch.domain.errors import (
    DuplicateNameError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    ServiceBusyError,
)
from tasklatch.domain.execution import Execution
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.history import change_entry
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy, TaskDetail
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.domain.workflow_definition import WorkflowVersion
from tasklatch.platforms.cognite.definitions.models import VersionBody, WorkflowsBody
from tasklatch.platforms.cognite.definitions.translation import definition_view, run_definitions
from tasklatch.platforms.cognite.errors import UNKNOWN_IS_BAD_REQUEST
from tasklatch.platforms.cognite.executions import models, operations, translation
from tests.factories import NOW, a_task

FUNCTION = {"function": {"externalId": "fn", "data": {"a": "${workflow.input}"}}, "isAsyncComplete": True}


def a_definition(external_id: str = "first", **fields: Any) -> dict[str, Any]:
    return {"externalId": external_id, "type": "function", "parameters": FUNCTION, **fields}


def a_version(*tasks: dict[str, Any], **fields: Any) -> VersionBody:
    body = {"workflowExternalId": "nightly", "version": "1", "workflowDefinition": {"tasks": list(tasks)}, **fields}
    return validate(VersionBody, body)


def definition_of(**fields: Any) -> TaskDefinition:
    return a_version(a_definition(**fields)).workflowDefinition.definitions()[0]


def an_execution(**fields: Any) -> Execution:
    initial: dict[str, Any] = {
        "tenant": "default",
        "execution_id": "run-1",
        "status": ExecutionStatus.RUNNING,
        "version": 1,
        "created_at": NOW,
        "updated_at": NOW,
        "definition": "d",
        "group": translation.workflow_group("nightly"),
        "group_version": "7",
        "has_attempt_index": True,
    }
    return Execution(**(initial | fields))


def detail_of(status: TaskStatus = TaskStatus.SCHEDULED, **fields: Any) -> TaskDetail:
    task = a_task(status, **fields)
    return TaskDetail(task, json.dumps(FUNCTION), None, (), "function")


def test_task_without_more_has_the_platforms_defaults() -> None:
    definition = definition_of()

    assert definition.retry_policy == RetryPolicy(max_attempts=4, retry_timeouts=False)
    assert definition.timeout_seconds == 3600
    assert definition.on_failure is OnFailure.ABORT
    assert definition.kind == "function"
    assert json.loads(definition.input or "") == FUNCTION


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (3, 4), (10, 11)])
def test_retries_come_after_the_first_attempt(retries: int, attempts: int) -> None:
    assert definition_of(retries=retries).retry_policy.max_attempts == attempts


def test_skipped_task_is_retried_after_a_time_out_too() -> None:
    definition = definition_of(onFailure="skipTask")

    assert definition.on_failure is OnFailure.CONTINUE
    assert definition.retry_policy.retry_timeouts


def test_dependencies_are_taken_each_once() -> None:
    body = a_version(a_definition("a"), a_definition("b", dependsOn=[{"externalId": "a"}, {"externalId": "a"}]))

    assert body.workflowDefinition.definitions()[1].depends_on == ("a",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"externalId": "workflow"},
        {"externalId": "__mine"},
        {"externalId": " a"},
        {"externalId": "a "},
        {"externalId": "a\0b"},
        {"externalId": ""},
        {"externalId": "x" * 256},
        {"retries": 11},
        {"retries": -1},
        {"timeout": 0},
        {"onFailure": "ignore"},
        {"type": "dynamic", "parameters": {"dynamic": {"tasks": [a_definition("x")]}}},
        {"type": "dynamic", "parameters": {"dynamic": {"tasks": "first"}}},
        {"type": "dynamic", "parameters": {"dynamic": {}}},
        {"type": "dynamic", "parameters": {}},
        {
            "type": "dynamic",
            "parameters": {"dynamic": {"tasks": "${other.output}"}},
            "dependsOn": [{"externalId": "z"}],
        },
        {"type": "subworkflow", "parameters": {"subworkflow": {}}},
        {"type": "subworkflow", "parameters": {"subworkflow": {"workflowExternalId": "w"}}},
        {"type": "subworkflow", "parameters": {"subworkflow": {"tasks": [{"externalId": "x"}]}}},
        {"type": "subworkflow", "parameters": {"subworkflow": {"tasks": [a_definition("x", type="dynamic")]}}},
        {"type": "subworkflow", "parameters": {"subworkflow": {"tasks": [a_definition("x", type="subworkflow")]}}},
        {
            "type": "subworkflow",
            "parameters": {"subworkflow": {"tasks": [a_definition("x", dependsOn=[{"externalId": "y"}])]}},
        },
        {"type": "subworkflow", "parameters": {"subworkflow": {"tasks": []}}},
        {"parameters": {}},
        {"parameters": {"function": {}}},
        {"parameters": {"function": {"externalId": 7}}},
        {"type": "cdf", "parameters": {"cdfRequest": {"resourcePath": "/assets"}}},
        {"type": "transformation", "parameters": {"transformation": {}}},
        {"type": "simulation", "parameters": {"simulation": {"runTime": 1}}},
        {"dependsOn": [{"externalId": "nowhere"}]},
        {"dependsOn": [{"externalId": "first"}]},
    ],
)
def test_task_that_could_not_be_run_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        a_version(a_definition() | wrong).definition_text()


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("cdf", {"cdfRequest": {"resourcePath": "/assets/list", "method": "POST", "body": "${a.output}"}}),
        ("transformation", {"transformation": {"externalId": "t", "concurrencyPolicy": "fail"}}),
        ("simulation", {"simulation": {"routineExternalId": "r"}}),
    ],
)
def test_every_kind_of_work_is_taken_as_it_is(kind: str, parameters: dict[str, Any]) -> None:
    definition = definition_of(type=kind, parameters=parameters)

    assert (definition.kind, json.loads(definition.input or "")) == (kind, parameters)


def test_tasks_that_wait_for_each_other_are_refused() -> None:
    body = a_version(
        a_definition("a", dependsOn=[{"externalId": "b"}]), a_definition("b", dependsOn=[{"externalId": "a"}])
    )
    with pytest.raises(InvalidRequestError, match="invalid task definitions"):
        body.definition_text()


def test_two_tasks_of_one_name_are_named() -> None:
    with pytest.raises(DuplicateNameError) as refused:
        a_version(a_definition("a"), a_definition("b"), a_definition("a")).definition_text()

    assert refused.value.names == ["a"]


def test_more_than_200_tasks_are_refused() -> None:
    a_version(*(a_definition(f"t{number}") for number in range(200))).definition_text()
    with pytest.raises(InvalidRequestError):
        a_version(*(a_definition(f"t{number}") for number in range(201)))


def test_definition_that_an_item_cannot_hold_is_refused() -> None:
    large = {"function": {"externalId": "fn", "data": "x" * 90_000}}
    with pytest.raises(PayloadTooLargeError):
        a_version(*(a_definition(f"t{number}", parameters=large) for number in range(4))).definition_text()


@pytest.mark.parametrize("wrong", ["a/b", "a?b", "50%", "a;b", "..", " a", ""])
def test_name_that_cannot_stand_in_a_path_is_refused_when_it_is_given(wrong: str) -> None:
    with pytest.raises(InvalidRequestError):
        a_version(a_definition(), version=wrong)
    with pytest.raises(InvalidRequestError):
        validate(WorkflowsBody, {"items": [{"externalId": wrong}]})


@pytest.mark.parametrize("limit", [0, -1, 1.5, "2"])
def test_limit_of_executions_that_is_no_number_of_them_is_refused(limit: object) -> None:
    with pytest.raises(InvalidRequestError):
        validate(WorkflowsBody, {"items": [{"externalId": "a", "maxConcurrentExecutions": limit}]})


def test_what_a_newer_client_sends_besides_is_let_pass() -> None:
    body = a_version(a_definition(unheardOf=1), alsoNew="x")

    assert "unheardOf" not in body.definition_text()


def test_same_definition_has_the_same_hash() -> None:
    body = a_version(a_definition()).definition_text()
    spelled_out = a_version(a_definition(retries=3, timeout=3600, onFailure="abortWorkflow")).definition_text()
    other = a_version(a_definition(retries=4)).definition_text()

    hashes = [definition_view(text)["hash"] for text in (body, spelled_out, other)]

    assert hashes[0] == hashes[1] != hashes[2]


def no_version(_tenant: str, name: str, version: str) -> WorkflowVersion:
    raise NotFoundError("workflow version", f"{name}:{version}")


def test_run_is_made_from_what_was_kept() -> None:
    text = a_version(a_definition("a"), a_definition("b", dependsOn=[{"externalId": "a"}])).definition_text()
    version = WorkflowVersion(
        tenant="default", external_id="nightly", version="1", definition=text, created_at=NOW, updated_at=NOW
    )

    created = run_definitions(version, no_version)

    assert [(future.task_id, future.depends_on) for future in created] == [("a", ()), ("b", ("a",))]


def test_run_is_named_by_its_nonce() -> None:
    names = ("default", "nightly", "1", "nonce")

    assert translation.run_id(*names) == translation.run_id(*names)
    assert len({translation.run_id(*(*names[:index], "x", *names[index + 1 :])) for index in range(4)}) == 4


@pytest.mark.parametrize("status", ["completed", "IN_PROGRESS", "SKIPPED", "", None, 1])
def test_status_that_a_worker_cannot_give_is_refused(status: Any) -> None:
    with pytest.raises(InvalidRequestError):
        validate(models.TaskUpdateBody, {"status": status})


def test_update_adds_to_the_earlier_report_of_its_attempt() -> None:
    report = validate(models.TaskUpdateBody, {"status": "FAILED", "output": {"a": 1}}).report("resize", 2)

    assert (report.status, report.attempt, report.output) == (TaskStatus.FAILED, 2, '{"a":1}')
    assert report.merges_output
    assert report.failure_reason is FailureReason.RETRYABLE_ERROR


@pytest.mark.parametrize(
    "metadata", [{str(key): "v" for key in range(11)}, {"k" * 33: "v"}, {"k": "v" * 256}, {"k": 1}]
)
def test_metadata_over_the_platforms_bounds_is_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        validate(models.RunBody, {"authentication": {"nonce": "n"}, "metadata": metadata})


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"tokenExchange": True}, "TOKEN_EXCHANGE"),
        ({"oneshotTokenExchange": True}, "ONESHOT_TOKEN_EXCHANGE"),
        ({"clientId": "me", "clientSecret": "hush"}, "CLIENT_CREDENTIALS"),
    ],
)
def test_session_shows_no_secret(body: dict[str, Any], kind: str) -> None:
    view = translation.session_view(validate(models.SessionBody, body), 7, "nonce")

    assert (view["type"], view["status"]) == (kind, "READY")
    assert "hush" not in json.dumps(view)


def test_execution_of_another_contract_is_not_translated() -> None:
    with pytest.raises(NotFoundError):
        translation.check_is_run(an_execution(group=None, group_version=None))
    with pytest.raises(NotFoundError):
        translation.check_is_run(an_execution(group="flow:7", group_version=None))


def test_ended_execution_has_time_and_reason() -> None:
    ended = an_execution(status=ExecutionStatus.TERMINATED, ended_at=NOW + 5, reason="enough", metadata='{"a":"b"}')

    view = translation.workflow_execution_view(ended)

    assert (view["workflowExternalId"], view["version"]) == ("nightly", "7")
    assert (view["status"], view["endTime"], view["reasonForIncompletion"]) == ("TERMINATED", NOW + 5, "enough")
    assert view["metadata"] == {"a": "b"}


def test_tasks_are_shown_in_the_definitions_order_and_pending_ones_not_at_all() -> None:
    text = a_version(a_definition("z"), a_definition("a"), a_definition("m")).definition_text()
    details = [
        detail_of(task_id="a"),
        detail_of(task_id="added"),
        detail_of(TaskStatus.PENDING, task_id="m"),
        detail_of(task_id="z"),
    ]

    view = translation.workflow_execution_detail_view(an_execution(), text, '{"k":1}', details)

    assert [task["externalId"] for task in view["executedTasks"]] == ["z", "a", "added"]
    assert view["input"] == {"k": 1}
    assert "omittedPayloads" not in view


def test_payloads_that_one_answer_cannot_hold_are_left_out_by_name() -> None:
    # given outputs of 100 KB each, of which 40 fit
    names = [f"t{number:02d}" for number in range(50)]
    text = a_version(*map(a_definition, names)).definition_text()
    output = json.dumps({"x": "y" * 102_000})
    details = [detail_of(TaskStatus.COMPLETED, task_id=name)._replace(output=output) for name in names]

    view = translation.workflow_execution_detail_view(an_execution(), text, None, details)

    assert len(json.dumps(view)) < 5 * 1024 * 1024
    omitted = view["omittedPayloads"]
    assert 0 < len(omitted) < 15
    # what the platform's client needs of an input is there all the same
    assert all(task["input"] == FUNCTION for task in view["executedTasks"])
    assert [task["externalId"] for task in view["executedTasks"] if not task["output"]] == omitted


@pytest.mark.parametrize(
    ("status", "fields", "why"),
    [
        (TaskStatus.COMPLETED, {}, None),
        (TaskStatus.CANCELED, {"message": "enough"}, "enough"),
        (TaskStatus.FAILED, {"failure_reason": FailureReason.RETRYABLE_ERROR}, None),
        (
            TaskStatus.FAILED_WITH_TERMINAL_ERROR,
            {"failure_reason": FailureReason.NON_RETRYABLE_ERROR},
            "NON_RETRYABLE_ERROR is not retried",
        ),
        (
            TaskStatus.TIMED_OUT,
            {"retry_policy": RetryPolicy(retry_timeouts=False)},
            "the policy does not retry time-outs",
        ),
    ],
)
def test_final_failure_says_why(status: TaskStatus, fields: dict[str, Any], why: str | None) -> None:
    view = translation.workflow_task_view(
        detail_of(status), translation.current_attempt_state(detail_of(status, **fields))
    )

    assert view.get("reasonForIncompletion") == why


def test_success_stands_for_every_attempt() -> None:
    done = a_task(TaskStatus.COMPLETED, attempt=3)

    assert not translation.is_earlier_attempt(done, 1)
    assert translation.is_earlier_attempt(a_task(TaskStatus.IN_PROGRESS, attempt=3), 2)
    assert not translation.is_earlier_attempt(a_task(TaskStatus.IN_PROGRESS, attempt=3), 3)


def test_earlier_attempt_is_shown_as_the_history_has_it() -> None:
    failed = a_task(TaskStatus.TIMED_OUT, attempt=1, message="silent for 10 s")

    state = translation.earlier_attempt_state(1, change_entry(failed, None), '{"a":1}', "COMPLETED")
    unknown = translation.earlier_attempt_state(1, None, None, "FAILED_WITH_TERMINAL_ERROR")

    assert (state.status, state.reason, state.output) == (TaskStatus.TIMED_OUT, "silent for 10 s", '{"a":1}')
    assert unknown.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR


def test_task_that_another_contract_added_is_shown_as_it_is() -> None:
    detail = TaskDetail(a_task(TaskStatus.SCHEDULED), None, None, ())

    view = translation.workflow_task_view(detail, translation.current_attempt_state(detail))

    assert (view["taskType"], view["input"], view["output"]) == ("native", {}, {})


def test_errors_come_in_the_platforms_shape() -> None:
    missing = NotFoundError("workflow", "a", "b")
    twice = DuplicateNameError("task", ["a"])
    wrong = InvalidRequestError("no", [{"loc": ["body", "items", 0, "externalId"], "msg": "bad", "type": "bad"}])
    busy = ServiceBusyError("the table is busy")
    error_format = operations.UPDATE_TASK.error_format

    body = {
        error: error_format.render(error, to_problem_details(error, "id", error_format.status(STATUS[type(error)])))[
            "error"
        ]
        for error in (missing, twice, wrong, busy)
    }

    assert body[missing] == {
        "code": 404,
        "message": "The following workflows were not found: 'a', 'b'",
        "missing": [{"externalId": "a"}, {"externalId": "b"}],
    }
    assert body[twice] == {"code": 409, "message": "duplicate task: 'a'", "duplicated": [{"externalId": "a"}]}
    assert body[wrong] == {"code": 400, "message": "items.0.externalId: bad"}
    assert body[busy] == {"code": 503, "message": "the table is busy"}


def test_unknown_execution_is_a_bad_request() -> None:
    assert UNKNOWN_IS_BAD_REQUEST.status(STATUS[NotFoundError]) == 400
    assert operations.UPDATE_TASK.error_format.status(STATUS[NotFoundError]) == 404
