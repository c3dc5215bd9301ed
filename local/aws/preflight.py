"""Preflight: what would stop a deployment or its first load, read from the account before anything is changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.aws.deployed import DeployedStack
from local.aws.limits import QUEUES, USUAL_CONCURRENCY, Concurrency, quotas_with_values, read_concurrency


class Level(StrEnum):
    """Weight of a finding for the deployment."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a preflight: its level, and a text with the remedy where there is something to do."""

    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.level:<8} {self.text}"


@dataclass(frozen=True, slots=True)
class AccountClients:
    """boto3 clients of the account and region that are deployed to."""

    sts: Any
    functions: Any
    service_quotas: Any
    api_gateway: Any


def preflight(clients: AccountClients, stack: DeployedStack, parameters: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is to be known before a deployment with these parameters; a call that fails is a note.

    Parameters
    ----------
    stack
        The stack as it is deployed.
    parameters
        Every parameter of the template with the value that it will have.
    """
    for check in (_account, _concurrency, _quotas, _role_for_logs):
        try:
            yield from check(clients, parameters)
        except (BotoCoreError, ClientError) as error:
            yield Finding(Level.NOTE, f"cannot be checked: {error}")
    obstacle = stack.obstacle()
    if obstacle:
        yield Finding(Level.PROBLEM, f"the stack is {obstacle}")
    else:
        yield Finding(Level.OK, f"the stack is {stack.status}" if stack.exists else "the stack will be created")


def has_problem(findings: Iterable[Finding]) -> bool:
    """Return True if a finding would make the deployment fail, or the stack unusable."""
    return any(finding.level is Level.PROBLEM for finding in findings)


def _account(clients: AccountClients, _parameters: Mapping[str, str]) -> Iterator[Finding]:
    caller = clients.sts.get_caller_identity()
    region = clients.functions.meta.region_name
    yield Finding(Level.OK, f"account {caller['Account']}, region {region}, as {caller['Arn']}")


def _concurrency(clients: AccountClients, parameters: Mapping[str, str]) -> Iterator[Finding]:
    concurrency = read_concurrency(clients.functions)
    of_queues = QUEUES * int(parameters["QueueConcurrency"])
    left = concurrency.unreserved - of_queues
    numbers = f"Lambda runs {concurrency.unreserved} at once, the queues take up to {of_queues} of them"
    if left <= 0:
        yield Finding(Level.PROBLEM, f"{numbers}, nothing is left for requests: lower QueueConcurrency")
    else:
        yield Finding(Level.OK, f"{numbers}, {left} are left for requests and the table's stream")
        if int(parameters["ThrottlingBurst"]) > concurrency.unreserved:
            yield Finding(
                Level.NOTE, "ThrottlingBurst is above that: what Lambda refuses is answered 5xx and not 429; lower it"
            )
    yield from _small_quota(concurrency)


def _small_quota(concurrency: Concurrency) -> Iterator[Finding]:
    if concurrency.total < USUAL_CONCURRENCY:
        yield Finding(
            Level.NOTE,
            f"Lambda's quota 'Concurrent executions' is {concurrency.total}, as in new accounts: "
            f"ask Service Quotas for {USUAL_CONCURRENCY} before there is load",
        )


def _quotas(clients: AccountClients, parameters: Mapping[str, str]) -> Iterator[Finding]:
    for quota, value in quotas_with_values(clients.service_quotas):
        line = f"{quota.service}, {quota.name}: {value if isinstance(value, str) else f'{value:,.0f}'} ({quota.bounds})"
        if isinstance(value, str):
            yield Finding(Level.NOTE, line)
        elif quota.parameter and int(parameters[quota.parameter]) > value:
            yield Finding(Level.NOTE, f"{line}; {quota.parameter} is above that, and so without effect")
        else:
            yield Finding(Level.OK, line)


def _role_for_logs(clients: AccountClients, parameters: Mapping[str, str]) -> Iterator[Finding]:
    if parameters["LiveAccessLogs"] != "true":
        return
    role = clients.api_gateway.get_account().get("cloudwatchRoleArn")
    if role:
        yield Finding(Level.OK, f"API Gateway logs WebSocket connections as {role}")
    else:
        yield Finding(
            Level.PROBLEM,
            "LiveAccessLogs=true, but API Gateway has no role for logs in this region: see docs/operations.md",
        )
