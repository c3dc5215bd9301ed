"""Every sample event, run in Lambda's own runtime protocol against the local cloud's table."""

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from local.api import Api
from local.invoke import invoke
from local.replay import SAMPLE_TRACE
from local.stack import ROOT, Home, Stack

EVENTS = ROOT / "events"
SAMPLES = sorted(path for path in EVENTS.glob("*.json") if path != SAMPLE_TRACE)

# What the function of each sample answers, once create-execution has been run.
ANSWERS = {
    "add-tasks": ("executions", HTTPStatus.OK),
    "create-changed": ("executions", HTTPStatus.CONFLICT),
    "create-circle": ("executions", HTTPStatus.UNPROCESSABLE_ENTITY),
    "create-execution": ("executions", HTTPStatus.OK),
    "get-docs": ("api_description", HTTPStatus.OK),
    "get-execution": ("executions", HTTPStatus.OK),
    "get-health": ("api_description", HTTPStatus.OK),
    "get-history": ("executions", HTTPStatus.OK),
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
    "send-heartbeat": ("report_status", HTTPStatus.OK),
    "send-late-heartbeat": ("report_status", HTTPStatus.OK),
}
FAILED_RECORDS = {"notify-change": 0, "notify-malformed": 1}


def _event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def prepared(stack: Stack, home: Home) -> Home:
    """The execution that the samples speak about is there."""
    assert stack.functions
    answer = invoke("executions", _event("create-execution"), home=home).answer
    assert answer["statusCode"] in (HTTPStatus.CREATED, HTTPStatus.OK), answer
    return home


def test_every_sample_has_an_expected_answer_and_every_answer_a_sample() -> None:
    assert {path.stem for path in SAMPLES} == set(ANSWERS) | set(FAILED_RECORDS)


@pytest.mark.parametrize("sample", [path for path in SAMPLES if path.stem in ANSWERS], ids=lambda path: path.stem)
def test_a_sample_request_is_answered_as_expected(sample: Path, prepared: Home) -> None:
    function, status = ANSWERS[sample.stem]

    answer = invoke(function, _event(sample.stem), home=prepared).answer

    assert answer.get("statusCode") == status, answer
    assert answer["headers"]["x-request-id"]


def test_a_sample_batch_answers_each_report_for_itself(prepared: Home) -> None:
    answer = invoke("report_status", _event("report-batch"), home=prepared).answer

    results = json.loads(answer["body"])["results"]
    assert [result["status"] for result in results] == [200, 200, 200, 404, 422]


@pytest.mark.parametrize("name", sorted(FAILED_RECORDS))
def test_of_sample_changes_only_the_malformed_comes_again(name: str, prepared: Home) -> None:
    event = _event(name)
    well_formed = len(event["Records"]) - FAILED_RECORDS[name]
    malformed = [record["dynamodb"]["SequenceNumber"] for record in event["Records"][well_formed:]]

    answer = invoke("notifier", event, home=prepared).answer

    assert answer == {"batchItemFailures": [{"itemIdentifier": number} for number in malformed]}


def test_sample_changes_become_history_and_heartbeats_and_expiry_do_not(prepared: Home, stack: Stack) -> None:
    invoke("notifier", _event("notify-change"), home=prepared)

    with Api(stack) as api:
        history = list(api.pages("reader", "executions", "aurora-changes", "tasks", "open-dome", "history"))

    told = [(entry["version"], entry["status"], entry["verdict"]) for entry in history]
    assert told == [(1, "PENDING", "applied"), (2, "IN_PROGRESS", "applied"), (3, "COMPLETED", "applied")]
