"""AWS clients, created on first use and then cached. Endpoints come from the SDK's own configuration.

All of them are safe to share between threads.
"""

from functools import cache
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_apigatewaymanagementapi import ApiGatewayManagementApiClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

USER_AGENT: Final = "tasklatch/0.2.0"
"""Name and version of this program in each request, with which AWS's logs tell its requests from others."""

# `tasklatch.runtime.backoff` retries, because it knows the remaining time. AWS validates requests, so botocore need not
# validate each parameter of each statement of a batch first. A constant user agent spares composing one a request.
_CONFIG: Final = Config(
    user_agent=USER_AGENT,
    connect_timeout=1,
    read_timeout=3,
    retries={"mode": "standard", "total_max_attempts": 1},
    max_pool_connections=10,
    parameter_validation=False,
)

# One watcher that does not take its message must not use up the time of the others
_WATCHERS: Final = Config(connect_timeout=1, read_timeout=1, max_pool_connections=20)


@cache
def dynamodb() -> "DynamoDBClient":
    """Return the client of the table."""
    return _session().client("dynamodb", config=_CONFIG)


@cache
def sqs() -> "SQSClient":
    """Return the client of the timer queue, the advance queue and dead-letter queues."""
    return _session().client("sqs", config=_CONFIG)


@cache
def s3() -> "S3Client":
    """Return the client of the bucket for the stream's records that no attempt can process."""
    return _session().client("s3", config=_CONFIG)


@cache
def scheduler() -> "EventBridgeSchedulerClient":
    """Return the client of the schedules that start executions."""
    return _session().client("scheduler", config=_CONFIG)


@cache
def events() -> "EventBridgeClient":
    """Return the client of the event bus."""
    return _session().client("events", config=_CONFIG)


@cache
def secrets_manager() -> "SecretsManagerClient":
    """Return the client that reads the keys of attempt ids."""
    return _session().client("secretsmanager", config=_CONFIG)


@cache
def live_callback(url: str) -> "ApiGatewayManagementApiClient":
    """Return the client that sends to watchers' WebSocket connections.

    Parameters
    ----------
    url
        The callback address of the WebSocket API's stage.
    """
    return _session().client("apigatewaymanagementapi", endpoint_url=url, config=_CONFIG.merge(_WATCHERS))


@cache
def _session() -> boto3.Session:
    """Return the session of all clients, so that credentials and endpoints are read only once."""
    return boto3.Session()
