"""The AWS clients, made when first needed and then kept. Endpoints come from the SDK's own configuration.

All of them can be shared between threads.
"""

from functools import cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_apigatewaymanagementapi import ApiGatewayManagementApiClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_sqs import SQSClient

# Trying again is up to `tasklatch.aws.patience`, which knows the time that is left.
_CONFIG = Config(
    connect_timeout=1,
    read_timeout=3,
    retries={"mode": "standard", "total_max_attempts": 1},
    max_pool_connections=10,
)


@cache
def dynamodb() -> "DynamoDBClient":
    """The table's client."""
    return boto3.client("dynamodb", config=_CONFIG)


@cache
def sqs() -> "SQSClient":
    """The timer queue's client."""
    return boto3.client("sqs", config=_CONFIG)


@cache
def scheduler() -> "EventBridgeSchedulerClient":
    """The client for timers that wait longer than a queue can."""
    return boto3.client("scheduler", config=_CONFIG)


@cache
def events() -> "EventBridgeClient":
    """The event bus's client."""
    return boto3.client("events", config=_CONFIG)


@cache
def live_callback(url: str) -> "ApiGatewayManagementApiClient":
    """The client by which watchers' connections are reached.

    Parameters
    ----------
    url
        The address of the WebSocket API's stage.
    """
    return boto3.client("apigatewaymanagementapi", endpoint_url=url, config=_CONFIG)
