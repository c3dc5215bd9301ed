"""The AWS clients, made when first needed and then kept. Endpoints come from the SDK's own configuration."""

from functools import cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Trying again is up to `tasklatch.aws.patience`, which knows the time that is left.
_CONFIG = Config(
    connect_timeout=1,
    read_timeout=3,
    retries={"mode": "standard", "total_max_attempts": 1},
    max_pool_connections=10,
)


@cache
def dynamodb() -> "DynamoDBClient":
    """The table's client; safe to share between threads."""
    return boto3.client("dynamodb", config=_CONFIG)
