"""Stack to check: the local cloud, or a stack in an AWS account."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import boto3

from local.backoff import DEADLINE_SECONDS, DeadlineBackoff
from local.cloud.deploy import read_client
from local.cloud.stack import Client, LocalCloudError, Stack
from local.redrive import aws_context
from local.retrying_client import RetryingClient

CLIENTS: Final = ("worker", "reader", "operator")
_SCOPES: Final = "tasklatch/report, tasklatch/read and tasklatch/manage"


@dataclass(frozen=True)
class AwsStack(Stack):
    """A stack in the account and region of a boto3 session."""

    session: Any = None

    def aws(self, service: str, deadline_seconds: float = DEADLINE_SECONDS) -> Any:
        """Return a boto3 client of one AWS service; it retries calls up to the deadline, in seconds."""
        return RetryingClient(self.session.client(service), DeadlineBackoff(deadline_seconds))


@dataclass(frozen=True, slots=True)
class SmokeTarget:
    """A stack, and the access to it.

    Attributes
    ----------
    access_tokens
        Access tokens by client, where they are not requested from the stack's own user pool.
    """

    stack: Stack
    access_tokens: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_scoped_clients(self) -> bool:
        """True if the worker's token is not the operator's."""
        tokens = self.access_tokens
        return not tokens or tokens["worker"] != tokens["operator"]


def aws_target(stack_name: str, session: Any = None, environment: Mapping[str, str] = os.environ) -> SmokeTarget:
    """Return a stack in the account and region of the session, by default boto3's default session.

    Parameters
    ----------
    environment
        With `TASKLATCH_TOKEN`, an access token with all scopes, no token is requested from the user pool;
        `TASKLATCH_WORKER_TOKEN` can hold a token that may only report.

    Raises
    ------
    BotoCoreError, ClientError
        If the stack does not exist, or access to it is denied.
    LocalCloudError
        If the stack has no user pool of its own, and there is no token.
    """
    session = session or boto3.Session()
    described = session.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    access_tokens = _access_tokens(environment)
    if not access_tokens and "UserPoolId" not in outputs:
        raise LocalCloudError(f"{stack_name} has an issuer of yours: set TASKLATCH_TOKEN to a token with {_SCOPES}.")
    context = aws_context(stack_name, session)
    stack = AwsStack(
        api_url=outputs["ApiUrl"],
        token_url=outputs.get("TokenUrl", ""),
        region=session.region_name,
        aws_endpoint_url="",
        table_name=outputs["TableName"],
        clients={} if access_tokens else _clients(session, outputs),
        live_url="",
        event_bus_name=outputs["EventBusName"],
        queues=context.queue_urls,
        functions=context.function_names,
        session=session,
    )
    return SmokeTarget(stack, access_tokens)


def _access_tokens(environment: Mapping[str, str]) -> dict[str, str]:
    token = environment.get("TASKLATCH_TOKEN")
    if not token:
        return {}
    return dict.fromkeys(CLIENTS, token) | {"worker": environment.get("TASKLATCH_WORKER_TOKEN") or token}


def _clients(session: Any, outputs: Mapping[str, str]) -> dict[str, Client]:
    """Read the clients of the stack's user pool, with their secrets."""
    cognito, pool = session.client("cognito-idp"), outputs["UserPoolId"]
    return {name: read_client(cognito, pool, outputs[f"{name.capitalize()}ClientId"]) for name in CLIENTS}
