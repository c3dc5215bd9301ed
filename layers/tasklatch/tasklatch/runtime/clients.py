"""AWS clients, created on first use and then cached. Endpoints come from the SDK's own configuration.

All of them are safe to share between threads. They are botocore's, which boto3 returns too: boto3 itself would add its
resources and S3 transfers, which are not used here, to every cold start.
"""

from functools import cache
from typing import TYPE_CHECKING, cast

from botocore.config import Config
from botocore.session import Session, get_session

if TYPE_CHECKING:
    from mypy_boto3_apigatewaymanagementapi import ApiGatewayManagementApiClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_sqs import SQSClient

# `tasklatch.runtime.backoff` retries, because it knows the remaining time. AWS validates requests, so botocore need not
# validate each parameter of each statement of a batch first.
_CONFIG = Config(
    connect_timeout=1,
    read_timeout=3,
    retries={"mode": "standard", "total_max_attempts": 1},
    max_pool_connections=10,
    parameter_validation=False,
)


@cache
def dynamodb() -> "DynamoDBClient":
    """Return the client of the table."""
    return cast("DynamoDBClient", _client("dynamodb"))


@cache
def sqs() -> "SQSClient":
    """Return the client of the timer queue and of dead-letter queues."""
    return cast("SQSClient", _client("sqs"))


@cache
def scheduler() -> "EventBridgeSchedulerClient":
    """Return the client for timers that wait longer than a queue can."""
    return cast("EventBridgeSchedulerClient", _client("scheduler"))


@cache
def events() -> "EventBridgeClient":
    """Return the client of the event bus."""
    return cast("EventBridgeClient", _client("events"))


@cache
def live_callback(url: str) -> "ApiGatewayManagementApiClient":
    """Return the client that sends to watchers' WebSocket connections.

    Parameters
    ----------
    url
        The callback address of the WebSocket API's stage.
    """
    return cast("ApiGatewayManagementApiClient", _client("apigatewaymanagementapi", endpoint_url=url))


def _client(service: str, endpoint_url: str | None = None) -> object:
    return _session().create_client(service, endpoint_url=endpoint_url, config=_CONFIG)


@cache
def _session() -> Session:
    """Return the session of all clients, so that credentials and endpoints are read only once."""
    return get_session()
