"""What a preflight says of an account, from the answers of Lambda, Service Quotas and API Gateway."""

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from local.aws.deployed import DeployedStack
from local.aws.limits import QUOTAS, Concurrency, fitting_load
from local.aws.parameters import declared_parameters
from local.aws.preflight import AccountClients, Finding, Level, has_problem, preflight
from local.aws.release import load_for, with_defaults

NEW, USUAL = 10, 1_000
VALUES = {
    "Throttle rate": 10_000.0,
    "Throttle burst rate": 5_000.0,
    "PutEvents throttle limit in transactions per second": 10_000.0,
    "Table-level write throughput limit": 40_000.0,
}


class Account:
    """Clients of an account, stubbed: botocore checks each request and each answer against AWS's model."""

    def __init__(self) -> None:
        session = boto3.Session("test", "test", region_name="eu-north-1")
        names = ("sts", "lambda", "service-quotas", "apigateway")
        self.clients = AccountClients(*(session.client(name) for name in names))  # type: ignore[call-overload]
        clients = (self.clients.sts, self.clients.functions, self.clients.service_quotas, self.clients.api_gateway)
        self.stubs = dict(zip(names, map(Stubber, clients), strict=True))
        for stub in self.stubs.values():
            stub.activate()
        identity = {"Account": "123456789012", "Arn": "arn:aws:sts::123456789012:assumed-role/deploy/me", "UserId": "x"}
        self.stubs["sts"].add_response("get_caller_identity", identity)

    def concurrency(self, total: int, unreserved: int | None = None) -> None:
        limit = {"ConcurrentExecutions": total, "UnreservedConcurrentExecutions": unreserved or total}
        self.stubs["lambda"].add_response("get_account_settings", {"AccountLimit": limit})

    def quotas(self, **applied: float) -> None:
        for service in dict.fromkeys(quota.service for quota in QUOTAS):
            names = [quota.name for quota in QUOTAS if quota.service == service]
            defaults = [{"QuotaName": name, "Value": VALUES[name]} for name in names]
            own = [{"QuotaName": name, "Value": applied[name]} for name in names if name in applied]
            expected = {"ServiceCode": service}
            self.stubs["service-quotas"].add_response("list_aws_default_service_quotas", {"Quotas": defaults}, expected)
            self.stubs["service-quotas"].add_response("list_service_quotas", {"Quotas": own}, expected)

    def findings(self, stack: DeployedStack | None = None, **parameters: str) -> list[Finding]:
        findings = list(preflight(self.clients, stack or DeployedStack(), with_defaults(parameters)))
        for stub in self.stubs.values():
            stub.assert_no_pending_responses()
        return findings


@pytest.fixture
def account() -> Account:
    return Account()


def _texts(findings: list[Finding], level: Level) -> list[str]:
    return [finding.text for finding in findings if finding.level is level]


def test_a_usual_account_is_fine(account: Account) -> None:
    account.concurrency(USUAL)
    account.quotas()

    findings = account.findings(None, **fitting_load(Concurrency(USUAL, USUAL)))

    assert {finding.level for finding in findings} == {Level.OK}
    assert not has_problem(findings)
    texts = _texts(findings, Level.OK)
    assert texts[0] == "account 123456789012, region eu-north-1, as arn:aws:sts::123456789012:assumed-role/deploy/me"
    assert texts[1].startswith("Lambda runs 1000 at once, the queues take up to 200 of them, 800 are left")
    assert texts[-1] == "the stack will be created"


def test_a_new_account_holds_the_templates_defaults_and_is_told_what_to_ask_for(account: Account) -> None:
    account.concurrency(NEW)
    account.quotas()

    findings = account.findings()

    assert not has_problem(findings)
    [note] = _texts(findings, Level.NOTE)
    assert "'Concurrent executions' is 10, as in new accounts: ask Service Quotas for 1000" in note


@pytest.mark.parametrize(
    ("total", "unreserved", "queue_concurrency"), [(NEW, NEW, "5"), (USUAL, NEW, "100")], ids=["new", "reserved"]
)
def test_queues_that_would_take_all_of_lambda_are_a_problem(
    account: Account, total: int, unreserved: int, queue_concurrency: str
) -> None:
    account.concurrency(total, unreserved)
    account.quotas()

    findings = account.findings(QueueConcurrency=queue_concurrency)

    [problem] = _texts(findings, Level.PROBLEM)
    assert "nothing is left for requests: lower QueueConcurrency" in problem


def test_more_requests_at_once_than_lambda_runs_are_noted(account: Account) -> None:
    account.concurrency(NEW)
    account.quotas()

    findings = account.findings(ThrottlingBurst="500")

    assert any(text.startswith("ThrottlingBurst is above that") for text in _texts(findings, Level.NOTE))


def test_a_throttle_above_the_accounts_own_is_noted(account: Account) -> None:
    account.concurrency(USUAL)
    account.quotas(**{"Throttle rate": 2_500.0})

    findings = account.findings(ThrottlingRate="5000")

    [note] = _texts(findings, Level.NOTE)
    assert note.startswith("apigateway, Throttle rate: 2,500 ")
    assert note.endswith("ThrottlingRate is above that, and so without effect")


def test_what_cannot_be_read_is_a_note_and_the_rest_goes_on(account: Account) -> None:
    # Not every account lets whoever deploys read its quotas
    account.stubs["lambda"].add_client_error("get_account_settings", "AccessDeniedException")
    for _ in dict.fromkeys(quota.service for quota in QUOTAS):
        account.stubs["service-quotas"].add_client_error("list_aws_default_service_quotas", "AccessDeniedException")

    findings = account.findings()

    notes = _texts(findings, Level.NOTE)
    assert len(notes) == 1 + len(QUOTAS)
    assert all("AccessDeniedException" in text for text in notes)
    assert not has_problem(findings)


@pytest.mark.parametrize(
    ("settings", "level"),
    [({"cloudwatchRoleArn": "arn:aws:iam::123456789012:role/logs"}, Level.OK), ({}, Level.PROBLEM)],
    ids=["has-role", "has-none"],
)
def test_access_logs_of_websockets_need_the_accounts_role(account: Account, settings: Any, level: Level) -> None:
    account.concurrency(USUAL)
    account.quotas()
    account.stubs["apigateway"].add_response("get_account", settings)

    findings = account.findings(LiveAccessLogs="true")

    [finding] = [finding for finding in findings if "API Gateway" in finding.text]
    assert finding.level is level


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "UPDATE_IN_PROGRESS", "DELETE_FAILED"])
def test_a_stack_that_cannot_be_deployed_to_is_a_problem_with_its_remedy(account: Account, status: str) -> None:
    account.concurrency(USUAL)
    account.quotas()

    [problem] = _texts(account.findings(DeployedStack(status)), Level.PROBLEM)

    assert problem.startswith(f"the stack is {status}: ")


def test_a_stack_that_was_updated_or_whose_update_was_undone_can_be_deployed_to() -> None:
    for status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"):
        assert DeployedStack(status).obstacle() == ""


def test_a_new_accounts_load_is_the_templates_default() -> None:
    load = fitting_load(Concurrency(NEW, NEW))

    assert load == {name: str(declared_parameters()[name]["Default"]) for name in load}


@pytest.mark.parametrize("unreserved", [NEW, 40, 100, 400, USUAL, 50_000])
def test_the_load_that_fits_leaves_most_of_lambda_to_requests(unreserved: int) -> None:
    load = fitting_load(Concurrency(unreserved, unreserved))

    assert 2 * int(load["QueueConcurrency"]) <= unreserved / 2
    assert int(load["ThrottlingBurst"]) <= unreserved


def test_load_is_fitted_to_a_new_stack_only() -> None:
    concurrency = Concurrency(USUAL, USUAL)

    assert load_for(DeployedStack(), concurrency) == fitting_load(concurrency)
    assert load_for(DeployedStack("CREATE_COMPLETE"), concurrency) == {}
    assert load_for(DeployedStack(), None) == {}
