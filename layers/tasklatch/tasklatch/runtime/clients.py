"""The AWS clients, made when first needed and then kept. Endpoints come from the SDK's own configuration.

All of them can be shared between threads. They are botocore's, which boto3 hands out too: boto3 itself would add its
resources and S3's transfers, of which nothing is used here, to every cold start.
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

# Trying again is up to `tasklatch.runtime.backoff`, which knows the time that is left; and requests are checked by
# AWS, so that botocore need not do it first, for each parameter of each statement of a batch.
_CONFIG = Config(
    connect_timeout=1,
    read_timeout=3,
    retries={"mode": "standard", "total_max_attempts": 1},
    max_pool_connections=10,
    parameter_validation=False,
)


@cache
def dynamodb() -> "DynamoDBClient":
    """The table's client."""
    return cast("DynamoDBClient", _client("dynamodb"))


@cache
def sqs() -> "SQSClient":
    """The client of the timer queue and of dead-letter queues."""
    return cast("SQSClient", _client("sqs"))


@cache
def scheduler() -> "EventBridgeSchedulerClient":
    """The client for timers that wait longer than a queue can."""
    return cast("EventBridgeSchedulerClient", _client("scheduler"))


@cache
def events() -> "EventBridgeClient":
    """The event bus's client."""
    return cast("EventBridgeClient", _client("events"))


@cache
def live_callback(url: str) -> "ApiGatewayManagementApiClient":
    """The client by which watchers' connections are reached.

    Parameters
    ----------
    url
        The address of the WebSocket API's stage.
    """
    return cast("ApiGatewayManagementApiClient", _client("apigatewaymanagementapi", endpoint_url=url))


def _client(service: str, endpoint_url: str | None = None) -> object:
    return _session().create_client(service, endpoint_url=endpoint_url, config=_CONFIG)


@cache
def _session() -> Session:
    """What clients are made from: credentials are looked up, and endpoints read, once for all of them."""
    return get_session()
