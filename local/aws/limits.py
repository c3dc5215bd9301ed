"""Limits of the account: Lambda's concurrency, other quotas, and the load parameters that fit them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from local.aws.parameters import Parameters

QUEUES: Final = 2
"""Queues that feed functions: timers, and settled tasks."""

USUAL_CONCURRENCY: Final = 1_000
"""Lambda's quota of an account that is not new."""


@dataclass(frozen=True, slots=True)
class Quota:
    """A quota of Service Quotas, and what it bounds.

    Attributes
    ----------
    service, name
        Its service's code, and its name there.
    bounds
        What meets it.
    parameter
        The template's parameter that must not be above it, if there is one.
    """

    service: str
    name: str
    bounds: str
    parameter: str | None = None


QUOTAS: Final = (
    Quota("apigateway", "Throttle rate", "requests a second, over all APIs of the region", "ThrottlingRate"),
    Quota("apigateway", "Throttle burst rate", "requests at once, over all APIs of the region", "ThrottlingBurst"),
    Quota("events", "PutEvents throttle limit in transactions per second", "announcements a second, ten to a call"),
    Quota("dynamodb", "Table-level write throughput limit", "write units a second, about one a report"),
)


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Lambda's concurrency in this account and region.

    Attributes
    ----------
    total
        Invocations at once.
    unreserved
        Those of them that no function has reserved.
    """

    total: int
    unreserved: int


def read_concurrency(functions: Any) -> Concurrency:
    """Read the account's concurrency from Lambda.

    Raises
    ------
    BotoCoreError, ClientError
        If the call fails.
    """
    limit = functions.get_account_settings()["AccountLimit"]
    return Concurrency(limit["ConcurrentExecutions"], limit["UnreservedConcurrentExecutions"])


def fitting_load(concurrency: Concurrency) -> Parameters:
    """Return the load parameters for a new stack in an account: a fifth for the queues, requests up to all of it.

    An account of 1,000 gets 1,000 requests a second, 500 at once and 100 batches a queue; one of 10 gets the template's
    defaults.
    """
    at_once = concurrency.unreserved
    return {
        "ThrottlingRate": str(max(100, min(1_000, at_once * 10))),
        "ThrottlingBurst": str(max(10, min(500, at_once))),
        "QueueConcurrency": str(max(2, min(100, at_once // 10))),
    }


def read_quotas(service_quotas: Any, service: str) -> dict[str, float]:
    """Return a service's quotas by name: the account's where it has its own, AWS's defaults otherwise.

    Raises
    ------
    BotoCoreError, ClientError
        If a call fails.
    """
    values: dict[str, float] = {}
    for operation in ("list_aws_default_service_quotas", "list_service_quotas"):
        for page in service_quotas.get_paginator(operation).paginate(ServiceCode=service):
            values |= {quota["QuotaName"]: quota["Value"] for quota in page["Quotas"]}
    return values


def quotas_with_values(service_quotas: Any) -> Iterator[tuple[Quota, float | str]]:
    """Yield each quota that matters with its value, or with the reason why it is not known."""
    values: dict[str, dict[str, float] | str] = {}
    for quota in QUOTAS:
        if quota.service not in values:
            try:
                values[quota.service] = read_quotas(service_quotas, quota.service)
            except (BotoCoreError, ClientError) as error:
                values[quota.service] = str(error)
        listed = values[quota.service]
        yield quota, listed if isinstance(listed, str) else listed.get(quota.name, "not listed by Service Quotas")
