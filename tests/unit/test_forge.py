"""Forge's updateTaskStatus: what is checked and in which order, and which execution a scan is."""

from typing import Any, Final

import pytest

from tasklatch.domain.attempt_id import task_execution_id
from tasklatch.domain.errors import InvalidRequestError, NotFoundError
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.report import Verdict
from tasklatch.domain.results import ReportResult
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import RetryPolicy
from tasklatch.platforms.forge.models import parse_status_update
from tasklatch.platforms.forge.translation import execution_id_for_scan, status_update_response
from tests.factories import a_task

ROOT_TASK: Final = "0f0f7d50-5f3c-4f57-9d06-3d6f5a7a2c11"
CHILD_TASK: Final = "0F0F7D50-5F3C-5F57-9D06-3D6F5A7A2C11"

CONNECTION: Final = "connectionId is required"
STATUS: Final = "status must be one of: success, failure"
TASK: Final = "task.taskId is required"
UUID: Final = "task.taskId must be a valid UUID format"
REASON: Final = (
    "failureReason must be one of: ENTITY_NOT_FOUND, RETRY_LIMIT_EXCEEDED, NON_RETRYABLE_ERROR, UNAUTHORIZED, "
    "AUTH_TOKEN_REVOKED, AUTH_TOKEN_EXPIRED, RATE_LIMITED, RETRYABLE_ERROR"
)


def a_status_update(**fields: Any) -> dict[str, Any]:
    """A report that Forge accepts, with some fields replaced."""
    good = {
        "scanId": "scan-1",
        "taskExecutionId": "first",
        "connectionId": "drive",
        "status": "failure",
        "task": {"taskId": ROOT_TASK},
        "failureReason": "RATE_LIMITED",
    }
    return {name: value for name, value in (good | fields).items() if value is not ...}


FAULTS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "no connection": ({"connectionId": ...}, CONNECTION),
    "empty connection": ({"connectionId": ""}, CONNECTION),
    "connection is a number": ({"connectionId": 7}, CONNECTION),
    "no status": ({"status": ...}, STATUS),
    "native status": ({"status": "COMPLETED"}, STATUS),
    "status in capitals": ({"status": "SUCCESS"}, STATUS),
    "status is a list": ({"status": ["success"]}, STATUS),
    "no task": ({"task": ...}, TASK),
    "task is text": ({"task": ROOT_TASK}, TASK),
    "task without id": ({"task": {}}, TASK),
    "task with empty id": ({"task": {"taskId": ""}}, TASK),
    "task id is no UUID": ({"task": {"taskId": "fetch"}}, UUID),
    "task id is a number": ({"task": {"taskId": 7}}, UUID),
    "task id with a line end": ({"task": {"taskId": ROOT_TASK + "\n"}}, UUID),
    "task id without hyphens": ({"task": {"taskId": ROOT_TASK.replace("-", "")}}, UUID),
    "unknown reason": ({"failureReason": "BAD_MOOD"}, REASON),
    "reason is an object": ({"failureReason": {}}, REASON),
    "unknown reason on success": ({"status": "success", "failureReason": "BAD_MOOD"}, REASON),
}


@pytest.mark.parametrize(("fields", "message"), FAULTS.values(), ids=FAULTS)
def test_fault_is_named_as_forge_documents_it(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_status_update(a_status_update(**fields))
    assert str(refused.value) == message


def test_first_fault_in_the_documented_order_is_the_answer() -> None:
    # given everything wrong
    body: dict[str, Any] = {"connectionId": "", "status": "", "task": {}, "failureReason": "BAD_MOOD"}
    mended: list[dict[str, Any]] = [
        {"connectionId": "drive"},
        {"status": "failure"},
        {"task": {"taskId": "fetch"}},
        {"task": {"taskId": ROOT_TASK}},
        {"failureReason": "UNAUTHORIZED"},
    ]

    # when it is mended, one thing after the other
    messages = []
    for fields in mended:
        with pytest.raises(InvalidRequestError) as refused:
            parse_status_update(body)
        messages.append(str(refused.value))
        body |= fields

    # then
    assert messages == [CONNECTION, STATUS, TASK, UUID, REASON]
    assert parse_status_update(body).failureReason is FailureReason.UNAUTHORIZED


@pytest.mark.parametrize("body", [[], None, "text", 7])
def test_body_that_is_no_object_has_no_connection(body: Any) -> None:
    with pytest.raises(InvalidRequestError, match=CONNECTION):
        parse_status_update(body)


@pytest.mark.parametrize("task_id", [ROOT_TASK, CHILD_TASK, "00000000-0000-0000-0000-000000000000"])
def test_uuid_of_any_version_is_taken_as_it_is(task_id: str) -> None:
    report = parse_status_update(a_status_update(task={"taskId": task_id, "extra": 1}, more={"sdk": "1"})).report(
        "default", "scan-1"
    )
    assert report.task_id == task_id


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("success", None, (TaskStatus.COMPLETED, None)),
        ("success", "UNAUTHORIZED", (TaskStatus.COMPLETED, None)),
        ("failure", None, (TaskStatus.FAILED, FailureReason.RETRYABLE_ERROR)),
        ("failure", "RATE_LIMITED", (TaskStatus.FAILED, FailureReason.RATE_LIMITED)),
        ("failure", "UNAUTHORIZED", (TaskStatus.FAILED_WITH_TERMINAL_ERROR, FailureReason.UNAUTHORIZED)),
    ],
)
def test_reason_means_something_on_a_failure_only(status: str, reason: str | None, expected: tuple[Any, Any]) -> None:
    report = parse_status_update(a_status_update(status=status, failureReason=reason)).report("default", "scan-1")
    assert (report.status, report.failure_reason) == expected


ISSUED: Final = task_execution_id("default", "scan-1", ROOT_TASK, 2)
OF_ANOTHER_TASK: Final = task_execution_id("default", "scan-1", CHILD_TASK, 2)


@pytest.mark.parametrize(
    ("initial", "attempt"),
    [(ISSUED, 2), (OF_ANOTHER_TASK, None), ("fresh", None), ("", None), (7, None), (None, None), (..., None)],
)
def test_id_that_was_not_issued_for_the_task_means_the_current_attempt(initial: Any, attempt: int | None) -> None:
    assert parse_status_update(a_status_update(taskExecutionId=initial)).report("default", "scan-1").attempt == attempt


def test_scan_that_can_be_an_execution_is_one_as_it_is() -> None:
    assert execution_id_for_scan(ROOT_TASK) == ROOT_TASK
    assert execution_id_for_scan("nightly_2026-11.1~a:b") == "nightly_2026-11.1~a:b"
    assert execution_id_for_scan("a" * 128) == "a" * 128


@pytest.mark.parametrize(
    ("scan_id", "execution_id"),
    [
        ("a/b", "scan:YS9i"),
        (".", "scan:Lg"),
        ("..", "scan:Li4"),
        ("é?", "scan:w6k_"),
        ("a\n", "scan:YQo"),
        ("scan:YS9i", "scan:c2NhbjpZUzlp"),
        ("scan~1", "scan:c2Nhbn4x"),
        ("a" * 129, "scan~c12cb024a2e5551cca0e08fce8f1c5e314555cc3fef6329ee994a3db752166ae"),
    ],
)
def test_any_other_scan_has_an_execution_of_its_own(scan_id: str, execution_id: str) -> None:
    assert execution_id_for_scan(scan_id) == execution_id


@pytest.mark.parametrize("scan_id", [None, "", 7, ["a"]])
def test_what_can_be_no_scan_is_not_found(scan_id: Any) -> None:
    with pytest.raises(NotFoundError) as refused:
        execution_id_for_scan(scan_id)
    assert refused.value.kind == "execution"


def test_answer_to_a_failure_says_whether_it_is_retried() -> None:
    failed = a_task(TaskStatus.FAILED, failure_reason=FailureReason.RATE_LIMITED, ended_at=0)
    spent = a_task(TaskStatus.FAILED, failure_reason=FailureReason.RATE_LIMITED, retry_policy=RetryPolicy(1))
    done = a_task(TaskStatus.COMPLETED)

    messages = [
        status_update_response(ReportResult(Verdict.APPLIED, task))["message"] for task in (failed, spent, done)
    ]

    assert "RATE_LIMITED is retried" in messages[0]
    assert "no attempts left" in messages[1]
    assert messages[2] == "Task status updated"


def test_each_ignored_report_is_accepted_with_its_verdict() -> None:
    ignored = [verdict for verdict in Verdict if verdict is not Verdict.APPLIED]
    answers = [status_update_response(ReportResult(verdict, a_task(TaskStatus.COMPLETED))) for verdict in ignored]
    assert {answer["status"] for answer in answers} == {"ACCEPTED"}
    assert len({answer["message"] for answer in answers}) == len(ignored)
    assert "ignored: the task has succeeded already" in answers[ignored.index(Verdict.IGNORED_AFTER_SUCCESS)]["message"]
