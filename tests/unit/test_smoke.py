"""The smoke checks: all hold on a right stack, and each fails where its promise is broken."""

from pathlib import Path
from typing import Any, Final, cast

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from local import watch
from local.api_client import ApiClient, ApiError
from local.cloud.stack import ROOT, Client, LocalCloudError, Stack, StateDir
from local.smoke import runner, timer_checks, watch_checks
from local.smoke.check import Check
from local.smoke.runner import CHECKS, FAILED, OK, SKIPPED, Outcome, run_check, run_checks, run_smoke
from local.smoke.session import PREFIX, SmokeSession
from local.smoke.target import AwsStack, SmokeTarget, aws_target
from tasklatch.dynamodb import keys
from tests.smoke_stack import SmokeService

BY_NAME: Final = {check.name: check for check in CHECKS}
BROKEN: Final[dict[str, list[str]]] = {
    "health": ["health"],
    "api-description": ["old description", "routes", "no page"],
    "no-token": ["open to all", "any token"],
    "wrong-scope": ["manage for all", "read for all"],
    "created-once": ["created twice", "another id"],
    "key-reused": ["key reused", "other conflict"],
    "success": ["output lost", "input cut"],
    "late-failure": ["late failure wins", "late failure changes the task", "ignored report lost", "another entry"],
    "duplicate-kept": ["late failure wins", "ignored report lost"],
    "waiting-task": ["waiting task reported"],
    "batch": ["batch in part"],
    "ids": ["path accepted", "path names another", "path breaks", "output lost"],
    "large-output": ["output lost", "no limit"],
    "large-input": ["input cut"],
    "retry": ["no retry", "no timer", "early retry"],
    "long-timer": ["no retry", "short timer", "no entry"],
    "heartbeats": ["heartbeats ignored", "no time-out", "early time-out"],
    "dependent": ["dependent waits", "reference stays", "never ends"],
    "cancel": ["not cancelled", "open after cancel", "not sealed"],
    "persons-retry": ["never fails", "not retried", "no attempt more"],
    "pages": ["no cursor", "long pages", "pages overlap", "index"],
    "watch": ["no message"],
    "ticket-once": ["ticket twice"],
    "forge": ["forge", "late failure wins"],
    "superai": ["superai", "late failure wins"],
    "cognite": ["cognite", "late failure wins"],
    "event-bus": ["no event", "another attempt", "input cut"],
    "stream-failures": ["whole batch fails", "whole batches", "no destination", "disabled"],
    "dead-letters": ["dead letter", "records set aside", "queue unknown", "function unknown"],
}
"""Promises to break, by the check that must fail."""


def test_docs_count_the_checks() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

    assert f": {len(CHECKS)} checks in" in page


def session_of(service: SmokeService, **settings: Any) -> SmokeSession:
    api = cast("ApiClient", service)
    return SmokeSession(api, service.stack, sleep=service.sleep, clock=service.clock, **settings)


@pytest.fixture(autouse=True)
def no_real_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(watch, "_LAST_SECONDS", 0.0)


def connected(service: SmokeService, monkeypatch: pytest.MonkeyPatch) -> SmokeService:
    service.refusal = lambda _: InvalidStatus(Response(403, "Forbidden", Headers()))
    for module in (watch, watch_checks):
        monkeypatch.setattr(module, "connect", service.connect)
    return service


def outcome_of(name: str, service: SmokeService, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Outcome:
    return run_check(session_of(connected(service, monkeypatch), **settings), BY_NAME[name])


@pytest.mark.parametrize("name", BY_NAME)
def test_check_holds_on_a_stack_that_keeps_its_promises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = outcome_of(name, SmokeService(), monkeypatch)

    assert outcome.state == OK, outcome


@pytest.mark.parametrize(("name", "broken"), [(name, fault) for name, faults in BROKEN.items() for fault in faults])
def test_check_fails_where_its_promise_is_broken(name: str, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = outcome_of(name, SmokeService(broken), monkeypatch)

    assert outcome.state == FAILED, outcome
    assert outcome.detail.endswith(f"Look at: {BY_NAME[name].hint}")
    assert "not as described" not in outcome.detail


@pytest.mark.parametrize("name", BY_NAME)
def test_check_holds_on_a_stack_that_requires_ids_of_attempts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = outcome_of(name, SmokeService("ids required"), monkeypatch)

    assert outcome.state == (SKIPPED if name == "superai" else OK), outcome


def test_description_that_is_switched_off_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = outcome_of("api-description", SmokeService("no description"), monkeypatch)

    assert (outcome.state, outcome.detail) == (SKIPPED, "the stack does not serve its description: ApiDocs=false")


def test_each_check_is_broken_by_something() -> None:
    assert set(BROKEN) == set(BY_NAME)
    assert len(BY_NAME) == len(CHECKS)


@pytest.mark.parametrize(
    ("name", "service", "operation"),
    [
        ("long-timer", "dynamodb", "Query"),
        ("event-bus", "sqs", "CreateQueue"),
        ("stream-failures", "lambda", "ListEventSourceMappings"),
        ("dead-letters", "sqs", "GetQueueAttributes"),
    ],
)
def test_what_the_caller_may_not_do_is_skipped(
    name: str, service: str, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = outcome_of(name, SmokeService(f"{service} denied"), monkeypatch)

    assert (outcome.state, outcome.detail) == (SKIPPED, f"your AWS credentials do not allow {operation}")


def test_with_one_token_for_all_no_scope_can_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = outcome_of("wrong-scope", SmokeService("manage for all"), monkeypatch, has_scoped_clients=False)

    assert outcome.state == SKIPPED
    assert "TASKLATCH_WORKER_TOKEN" in outcome.detail


def test_timers_are_looked_for_where_the_service_lists_them() -> None:
    assert (timer_checks.INDEX, timer_checks.SHARDS) == (keys.DUE_INDEX, keys.SHARDS)


def test_rule_that_comes_into_force_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    service = SmokeService("slow rule")

    assert outcome_of("event-bus", service, monkeypatch).state == OK
    assert service.removed[0] == "rule"


def test_failed_check_does_not_stop_the_others() -> None:
    def breaks(_session: SmokeSession) -> str:
        raise ApiError("GET /v1/health", 500, {"detail": "boom"})

    def is_odd(_session: SmokeSession) -> str:
        raise KeyError("task")

    checks = [Check("a", breaks, "the log"), Check("b", is_odd, "the log"), Check("c", lambda _: "fine", "the log")]
    lines: list[Outcome] = []

    outcomes = run_checks(session_of(SmokeService()), checks, lines.append)

    assert outcomes == lines
    assert [outcome.state for outcome in outcomes] == [FAILED, FAILED, OK]
    assert outcomes[0].detail == "GET /v1/health: 500 boom. Look at: the log"
    assert outcomes[1].detail == "a response is not as described: KeyError 'task'. Look at: the log"
    assert str(outcomes[2]) == "ok      c                     0 ms  fine"


def test_all_that_is_created_has_the_prefix_and_is_over_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    service = connected(SmokeService(), monkeypatch)

    outcomes = run_checks(session_of(service))

    assert [outcome.name for outcome in outcomes if outcome.state != OK] == []
    running = [run for run in service.runs.values() if run.status == "RUNNING"]
    # What the platforms name themselves is deleted through them
    assert [run.execution_id for run in running if run.execution_id not in service.removed] == []
    own = [run for run in service.runs.values() if run.execution_id.removeprefix("run-of-").startswith(PREFIX)]
    assert {run.execution_id for run in service.runs.values()} - {run.execution_id for run in own} <= {*service.removed}


def test_clean_up_goes_on_where_something_is_over_already() -> None:
    session, calls = session_of(SmokeService()), []

    def refuse() -> None:
        calls.append("refused")
        raise ApiError("POST", 409, {})

    session.undo_at_end(lambda: calls.append("first"))
    session.undo_at_end(refuse)
    session.clean_up()
    session.clean_up()

    assert calls == ["refused", "first"]


OUTPUTS: Final = {
    "ApiUrl": "https://api",
    "TableName": "t",
    "EventBusName": "night",
    "TimerFailuresUrl": "https://timers",
    "TimerQueueUrl": "https://timer-queue",
}
OWN_POOL: Final = {
    "TokenUrl": "https://token",
    "UserPoolId": "pool",
    "WorkerClientId": "w",
    "ReaderClientId": "r",
    "OperatorClientId": "o",
}


class Account:
    """boto3's session of an account with one stack."""

    region_name = "eu-north-1"

    def __init__(self, outputs: dict[str, str]) -> None:
        self.outputs = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]

    def client(self, service: str) -> Any:
        self.service = service
        return self

    def describe_stacks(self, **requested: Any) -> dict[str, Any]:
        assert requested == {"StackName": "night"}
        return {"Stacks": [{"Outputs": self.outputs}]}

    def get_paginator(self, _operation: str) -> Any:
        return self

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        kind = {"ResourceType": "AWS::Lambda::Function", "LogicalResourceId": "NotifierFunction"}
        return [{"StackResourceSummaries": [{**kind, "PhysicalResourceId": "night-n"}]}]

    def describe_user_pool_client(self, UserPoolId: str, ClientId: str) -> dict[str, Any]:  # noqa: N803
        assert UserPoolId == "pool"
        scopes = ["tasklatch/report", "tasklatch/read"] if ClientId == "o" else ["tasklatch/report"]
        return {"UserPoolClient": {"ClientSecret": f"secret of {ClientId}", "AllowedOAuthScopes": scopes}}


@pytest.mark.parametrize(
    ("broken", "status", "summary"),
    [("", 0, "29 ok, 0 failed, 0 skipped"), ("health", 1, "28 ok, 1 failed, 0 skipped")],
)
def test_exit_status_says_whether_all_hold(
    broken: str,
    status: int,
    summary: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = connected(SmokeService(broken), monkeypatch)
    monkeypatch.setattr(runner, "SmokeSession", lambda _api, _stack, **settings: session_of(service, **settings))
    Stack("http://api", "", "", "", "", {}, "", "").save(StateDir(tmp_path))

    assert run_smoke(StateDir(tmp_path), None) == status

    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), lines[-1]) == (len(CHECKS) + 1, summary)
    assert lines[0].split()[:2] == [FAILED if broken else OK, "health"]


def test_without_a_stack_nothing_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_smoke(StateDir(tmp_path), None) == 2
    assert "make up" in capsys.readouterr().err


def test_stack_on_aws_is_read_from_its_outputs_with_the_clients_of_its_user_pool() -> None:
    target = aws_target("night", Account(OUTPUTS | OWN_POOL), {})

    stack = target.stack
    assert (stack.api_url, stack.token_url, stack.event_bus_name) == ("https://api", "https://token", "night")
    assert stack.queues["TimerFailures"] == "https://timers"
    assert stack.functions == {"notifier": "night-n"}
    assert stack.clients["operator"] == Client("o", "secret of o", "tasklatch/report tasklatch/read")
    assert target.has_scoped_clients
    assert isinstance(stack, AwsStack)
    assert stack.aws("sqs")._client.service == "sqs"


def test_stack_with_an_issuer_of_its_users_needs_a_token() -> None:
    with pytest.raises(LocalCloudError, match="TASKLATCH_TOKEN"):
        aws_target("night", Account(OUTPUTS), {})


@pytest.mark.parametrize("outputs", [OUTPUTS, OUTPUTS | OWN_POOL])
def test_token_of_the_environment_serves_all_requests(outputs: dict[str, str]) -> None:
    target = aws_target("night", Account(outputs), {"TASKLATCH_TOKEN": "all"})

    assert target == SmokeTarget(target.stack, {"worker": "all", "reader": "all", "operator": "all"})
    assert target.stack.clients == {}
    assert not target.has_scoped_clients


def test_workers_token_can_be_another() -> None:
    environment = {"TASKLATCH_TOKEN": "all", "TASKLATCH_WORKER_TOKEN": "report"}

    target = aws_target("night", Account(OUTPUTS), environment)

    assert (target.access_tokens["worker"], target.has_scoped_clients) == ("report", True)
