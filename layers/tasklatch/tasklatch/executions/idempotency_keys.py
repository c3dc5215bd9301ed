"""Idempotency keys, each bound to the first request that carries it."""

from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from tasklatch.domain.errors import IdempotencyKeyReusedError
from tasklatch.domain.idempotency import KeyedRequest
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.expiry import with_expiry
from tasklatch.dynamodb.items import Item, from_attribute, primary_key, to_attribute
from tasklatch.runtime.aws_errors import is_condition_failure
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_FINGERPRINT: Final = "fingerprint"


class IdempotencyKeys:
    """Store of the idempotency keys.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._backoff = backoff

    def claim(self, tenant: str, request: KeyedRequest) -> None:
        """Bind a key to its request in one write; safe to repeat for the same request.

        Raises
        ------
        IdempotencyKeyReusedError
            If the key is bound to another request.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        item: Item = {
            **primary_key(keys.idempotency_pk(tenant, request.key), keys.IDEMPOTENCY_SK),
            _FINGERPRINT: to_attribute(request.fingerprint),
        }
        expiring_item = with_expiry(item, self._settings.expires_at(self._clock()))
        try:
            self._backoff.run(
                lambda: self._client.put_item(
                    TableName=self._settings.table_name,
                    Item=expiring_item,
                    ConditionExpression="attribute_not_exists(#pk)",
                    ExpressionAttributeNames={"#pk": keys.PK},
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                ),
            )
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            bound = cast("dict[str, Any]", error.response)["Item"]
            if from_attribute(bound[_FINGERPRINT]) != request.fingerprint:
                raise IdempotencyKeyReusedError from error
