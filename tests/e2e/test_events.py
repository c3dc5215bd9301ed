"""Every sample event, run in Lambda's own runtime protocol against the local cloud's table."""

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from local.api_client import ApiClient
from local.cloud.stack import ROOT, Stack, StateDir
from local.invoke import invoke
from local.replay.runner import SAMPLE_TRACE

EVENTS = ROOT / "events"
SAMPLES = sorted(path for path in EVENTS.rglob("*.json") if path != SAMPLE_TRACE)

# What the function of each sample answers, once create-execution has been run.
ANSWERS = {
    "add-tasks": ("executions", HTTPStatus.OK),
    "cancel-execution": ("execution_control", HTTPStatus.OK),
    "claim-tasks": ("claims", HTTPStatus.OK),
    "release-unknown-task": ("claims", HTTPStatus.NOT_FOUND),
    "cancel-unknown-execution": ("execution_control", HTTPStatus.NOT_FOUND),
    "cognite-cancel-unknown-execution": ("cognite_executions", HTTPStatus.NOT_FOUND),
    "cognite-create-session": ("cognite_executions", HTTPStatus.OK),
    "cognite-delete-unknown-version": ("cognite_definitions", HTTPStatus.NOT_FOUND),
    "cognite-delete-unknown-workflow": ("cognite_definitions", HTTPStatus.NOT_FOUND),
    "cognite-delete-unknown-trigger": ("schedules", HTTPStatus.NOT_FOUND),
    "cognite-list-trigger-runs": ("schedules", HTTPStatus.OK),
    "cognite-list-triggers": ("schedules", HTTPStatus.OK),
    "cognite-pause-trigger": ("schedules", HTTPStatus.OK),
    "cognite-resume-trigger": ("schedules", HTTPStatus.OK),
    "cognite-upsert-trigger": ("schedules", HTTPStatus.OK),
    "create-schedule": ("schedules", HTTPStatus.OK),
    "create-schedule-without-date": ("schedules", HTTPStatus.UNPROCESSABLE_ENTITY),
    "delete-unknown-schedule": ("schedules", HTTPStatus.NOT_FOUND),
    "get-schedule": ("schedules", HTTPStatus.OK),
    "get-schedule-history": ("schedules", HTTPStatus.OK),
    "list-schedules": ("schedules", HTTPStatus.OK),
    "pause-schedule": ("schedules", HTTPStatus.OK),
    "replace-schedule": ("schedules", HTTPStatus.OK),
    "resume-schedule": ("schedules", HTTPStatus.OK),
    "cognite-get-execution": ("cognite_executions", HTTPStatus.OK),
    "cognite-get-unknown-execution": ("cognite_executions", HTTPStatus.BAD_REQUEST),
    "cognite-get-version": ("cognite_definitions", HTTPStatus.OK),
    "cognite-get-workflow": ("cognite_definitions", HTTPStatus.OK),
    "cognite-list-executions": ("cognite_executions", HTTPStatus.OK),
    "cognite-list-versions": ("cognite_definitions", HTTPStatus.OK),
    "cognite-list-workflows": ("cognite_definitions", HTTPStatus.OK),
    "cognite-retry-running-execution": ("cognite_executions", HTTPStatus.CONFLICT),
    "cognite-run-unknown-version": ("cognite_executions", HTTPStatus.NOT_FOUND),
    "cognite-run-workflow": ("cognite_executions", HTTPStatus.OK),
    "cognite-update-late-failure": ("cognite_contract", HTTPStatus.OK),
    "cognite-update-task": ("cognite_contract", HTTPStatus.OK),
    "cognite-update-unknown-status": ("cognite_contract", HTTPStatus.BAD_REQUEST),
    "cognite-update-unknown-task": ("cognite_contract", HTTPStatus.NOT_FOUND),
    "cognite-upsert-circle": ("cognite_definitions", HTTPStatus.BAD_REQUEST),
    "cognite-upsert-versions": ("cognite_definitions", HTTPStatus.OK),
    "cognite-upsert-workflows": ("cognite_definitions", HTTPStatus.OK),
    "create-changed": ("executions", HTTPStatus.CONFLICT),
    "create-circle": ("executions", HTTPStatus.UNPROCESSABLE_ENTITY),
    "create-confusable-id": ("executions", HTTPStatus.UNPROCESSABLE_ENTITY),
    "create-execution": ("executions", HTTPStatus.OK),
    "create-rehearsal": ("executions", HTTPStatus.OK),
    "forge-add-children": ("forge_contract", HTTPStatus.OK),
    "forge-register-scan": ("forge_contract", HTTPStatus.OK),
    "forge-report-duplicate-failure": ("forge_contract", HTTPStatus.OK),
    "forge-report-success": ("forge_contract", HTTPStatus.OK),
    "forge-report-unknown-scan": ("forge_contract", HTTPStatus.NOT_FOUND),
    "forge-report-without-connection": ("forge_contract", HTTPStatus.BAD_REQUEST),
    "get-docs": ("api_description", HTTPStatus.OK),
    "get-execution": ("executions", HTTPStatus.OK),
    "get-health": ("api_description", HTTPStatus.OK),
    "get-history": ("executions", HTTPStatus.OK),
    "get-named-history": ("executions", HTTPStatus.OK),
    "get-named-task": ("executions", HTTPStatus.OK),
    "get-openapi": ("api_description", HTTPStatus.OK),
    "get-task": ("executions", HTTPStatus.OK),
    "get-unknown-execution": ("executions", HTTPStatus.NOT_FOUND),
    "list-executions": ("executions", HTTPStatus.OK),
    "list-executions-bad-cursor": ("executions", HTTPStatus.UNPROCESSABLE_ENTITY),
    "list-tasks": ("executions", HTTPStatus.OK),
    "report-batch": ("report_status", HTTPStatus.OK),
    "report-broken-json": ("report_status", HTTPStatus.UNPROCESSABLE_ENTITY),
    "report-brotli": ("report_status", HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    "report-failure": ("report_status", HTTPStatus.OK),
    "report-gzip": ("report_status", HTTPStatus.OK),
    "report-late-failure": ("report_status", HTTPStatus.OK),
    "report-on-id-not-in-path": ("report_status", HTTPStatus.UNPROCESSABLE_ENTITY),
    "report-start": ("report_status", HTTPStatus.OK),
    "report-success": ("report_status", HTTPStatus.OK),
    "report-terminal-error": ("report_status", HTTPStatus.OK),
    "report-unknown-status": ("report_status", HTTPStatus.UNPROCESSABLE_ENTITY),
    "report-unknown-task": ("report_status", HTTPStatus.NOT_FOUND),
    "report-unopened-attempt": ("report_status", HTTPStatus.CONFLICT),
    "report-without-attempt": ("report_status", HTTPStatus.OK),
    "report-without-scope": ("report_status", HTTPStatus.FORBIDDEN),
    "report-without-token": ("report_status", HTTPStatus.UNAUTHORIZED),
    "report-zip-bomb": ("report_status", HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    "retry-execution": ("execution_control", HTTPStatus.OK),
    "send-heartbeat": ("report_status", HTTPStatus.OK),
    "send-late-heartbeat": ("report_status", HTTPStatus.OK),
    "send-named-heartbeat": ("report_status", HTTPStatus.OK),
    "superai-add-late-failure": ("superai_contract", HTTPStatus.OK),
    "superai-add-nothing": ("superai_contract", HTTPStatus.UNPROCESSABLE_ENTITY),
    "superai-add-task-statuses": ("superai_contract", HTTPStatus.OK),
    "superai-add-unknown-names": ("superai_contract", HTTPStatus.BAD_REQUEST),
    "superai-cancel-unknown-flow-execution": ("superai_contract", HTTPStatus.NOT_FOUND),
    "superai-create-flow-execution": ("superai_contract", HTTPStatus.CREATED),
    "superai-delete-unknown-flow-execution": ("superai_contract", HTTPStatus.NOT_FOUND),
    "superai-get-flow-execution": ("superai_contract", HTTPStatus.OK),
    "superai-list-flow-executions": ("superai_contract", HTTPStatus.OK),
    "superai-list-task-executions": ("superai_contract", HTTPStatus.OK),
    "watch-execution": ("execution_control", HTTPStatus.OK),
    "watch-unknown-execution": ("execution_control", HTTPStatus.NOT_FOUND),
}

# How many of its records, the last ones, the function of each batch gives back; messages that are none are set aside.
FAILED_RECORDS = {
    "advance-malformed": ("workflow_advancer", 0),
    "advance-task": ("workflow_advancer", 0),
    "advance-unknown-task": ("workflow_advancer", 1),
    "cancel-continued": ("workflow_advancer", 0),
    "cancel-open-tasks": ("workflow_advancer", 0),
    "complete-execution": ("workflow_advancer", 0),
    "fire-deadline": ("retry_dispatcher", 0),
    "fire-malformed": ("retry_dispatcher", 0),
    "fire-obsolete": ("retry_dispatcher", 0),
    "fire-retry": ("retry_dispatcher", 0),
    "notify-change": ("notifier", 0),
    "notify-malformed": ("notifier", 0),
    "check-schedule": ("schedule_runner", 0),
    "run-schedule": ("schedule_runner", 0),
    "run-schedule-malformed": ("schedule_runner", 0),
    "schedule-malformed": ("retry_scheduler", 0),
    "schedule-timers": ("retry_scheduler", 0),
}
CONNECTIONS = {
    "connect-unknown-ticket": HTTPStatus.FORBIDDEN,
    "connect-without-ticket": HTTPStatus.FORBIDDEN,
    "disconnect-watcher": HTTPStatus.OK,
    "ping-watcher": HTTPStatus.OK,
}
ON_SCHEDULE = {"reconcile-tasks": "reconciler", "sweep-timers": "timer_sweeper"}


def _event(name: str) -> Any:
    return json.loads(next(EVENTS.rglob(f"{name}.json")).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def prepared(stack: Stack, state_dir: StateDir) -> StateDir:
    """The executions that the samples speak about are there, the rehearsal cancelled."""
    assert stack.functions
    for function, name in (
        ("executions", "create-execution"),
        ("executions", "create-rehearsal"),
        ("execution_control", "cancel-execution"),
        ("forge_contract", "forge-register-scan"),
        ("superai_contract", "superai-create-flow-execution"),
        ("cognite_definitions", "cognite-upsert-workflows"),
        ("cognite_definitions", "cognite-upsert-versions"),
        ("cognite_executions", "cognite-run-workflow"),
        ("schedules", "create-schedule"),
        ("schedules", "cognite-upsert-trigger"),
    ):
        answer = invoke(function, _event(name), state_dir=state_dir).answer
        assert answer["statusCode"] in (HTTPStatus.CREATED, HTTPStatus.OK), answer
    return state_dir


def test_every_sample_has_an_expected_answer_and_every_answer_a_sample() -> None:
    assert {path.stem for path in SAMPLES} == {*ANSWERS, *FAILED_RECORDS, *CONNECTIONS, *ON_SCHEDULE}


@pytest.mark.parametrize("sample", [path for path in SAMPLES if path.stem in ANSWERS], ids=lambda path: path.stem)
def test_a_sample_request_is_answered_as_expected(sample: Path, prepared: StateDir) -> None:
    function, status = ANSWERS[sample.stem]

    answer = invoke(function, _event(sample.stem), state_dir=prepared).answer

    assert answer.get("statusCode") == status, answer
    assert answer["headers"]["x-request-id"]


def test_a_sample_batch_answers_each_report_for_itself(prepared: StateDir) -> None:
    answer = invoke("report_status", _event("report-batch"), state_dir=prepared).answer

    results = json.loads(answer["body"])["results"]
    assert [result["status"] for result in results] == [200, 200, 200, 404, 422]


@pytest.mark.parametrize("name", sorted(FAILED_RECORDS))
def test_of_a_sample_batch_only_what_cannot_be_served_comes_again(name: str, prepared: StateDir) -> None:
    function, failing = FAILED_RECORDS[name]
    event = _event(name)
    given_back = [_number(record) for record in event["Records"][len(event["Records"]) - failing :]]

    answer = invoke(function, event, state_dir=prepared).answer

    assert answer == {"batchItemFailures": [{"itemIdentifier": number} for number in given_back]}


def _number(record: Any) -> str:
    number: str = record["dynamodb"]["SequenceNumber"] if "dynamodb" in record else record["messageId"]
    return number


@pytest.mark.parametrize("name", sorted(CONNECTIONS))
def test_a_sample_connection_is_let_in_only_with_a_ticket(name: str, prepared: StateDir) -> None:
    answer = invoke("live_connection", _event(name), state_dir=prepared).answer

    assert answer["statusCode"] == CONNECTIONS[name]
    assert ("body" in answer) is (CONNECTIONS[name] == HTTPStatus.FORBIDDEN)


def test_a_sample_watch_gets_a_ticket_that_is_let_in_once(prepared: StateDir) -> None:
    initial = invoke("execution_control", _event("watch-execution"), state_dir=prepared).answer
    connecting = _event("connect-unknown-ticket")
    connecting["queryStringParameters"]["ticket"] = json.loads(initial["body"])["ticket"]

    answers = [invoke("live_connection", connecting, state_dir=prepared).answer for _ in range(2)]

    assert answers == [{"statusCode": 200}, {"statusCode": 403, "body": "ticket is invalid or expired"}]


def test_the_sample_schedule_looks_at_what_is_open(prepared: StateDir) -> None:
    result = invoke("reconciler", _event("reconcile-tasks"), state_dir=prepared).answer

    assert result["looked_at"] >= 1
    assert result["stuck_executions"] == 0


def test_the_sample_sweep_finds_no_fault(prepared: StateDir) -> None:
    result = invoke("timer_sweeper", _event("sweep-timers"), state_dir=prepared).answer

    assert (result["left"], result["faults"]) == (0, 0)


def test_sample_changes_become_history_and_heartbeats_and_expiry_do_not(prepared: StateDir, stack: Stack) -> None:
    invoke("notifier", _event("notify-change"), state_dir=prepared)

    with ApiClient(stack) as api:
        history = list(api.paginate("reader", "executions", "aurora-changes", "tasks", "open-dome", "history"))

    messages = [(entry["version"], entry["status"], entry["verdict"]) for entry in history]
    assert messages == [(1, "PENDING", "applied"), (2, "IN_PROGRESS", "applied"), (3, "COMPLETED", "applied")]
