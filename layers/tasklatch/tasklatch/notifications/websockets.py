"""WebSocket connections: tickets, the execution that each connection watches, and messages to watchers."""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from tasklatch.domain.errors import ForbiddenError, ServiceBusyError
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item, primary_key
from tasklatch.dynamodb.pagination import paginate
from tasklatch.runtime.aws_errors import is_condition_failure
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.concurrency import map_concurrently
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_apigatewaymanagementapi import ApiGatewayManagementApiClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

TICKET_SECONDS: Final = 60
_CONNECTION_SECONDS: Final = 2 * 3600
"""A WebSocket API closes every connection after two hours."""

_LONGEST_TICKET: Final = 64
"""In characters. A longer ticket was never issued, and could be too long for a key."""

_GONE: Final = frozenset({"GoneException", "ForbiddenException"})


class WebSocketConnections:
    """Store of watchers' tickets and connections.

    Parameters
    ----------
    callback
        Returns the API Gateway management client; called only when there is a message to send.
    backoff
        Retry policy for a busy service.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        callback: "Callable[[], ApiGatewayManagementApiClient]",
        settings: Settings,
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._client = client
        self._callback = callback
        self._table = settings.table_name
        self._clock = clock
        self._backoff = backoff

    def issue_ticket(self, tenant: str, execution_id: str) -> tuple[str, int]:
        """Issue a ticket with which one connection can watch one execution.

        Returns
        -------
        str, int
            The ticket, and the end of its validity in milliseconds since the epoch.
        """
        ticket = secrets.token_urlsafe(32)
        valid_until = self._clock() + TICKET_SECONDS * 1000
        item: Item = {
            **_ticket_key(ticket),
            "tenant": {"S": tenant},
            "executionId": {"S": execution_id},
            "validUntil": {"N": str(valid_until)},
            "expiresAt": {"N": str(valid_until // 1000 + TICKET_SECONDS)},
        }
        self._backoff.run(lambda: self._client.put_item(TableName=self._table, Item=item))
        return ticket, valid_until

    def connect(self, ticket: str, connection_id: str) -> None:
        """Register a connection as a watcher of its ticket's execution, and delete the ticket.

        Raises
        ------
        ForbiddenError
            If the ticket was never issued, was used before, or has expired.
        """
        if len(ticket) > _LONGEST_TICKET:
            raise ForbiddenError("invalid ticket")
        now = self._clock()
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": _ticket_key(ticket),
            "ConditionExpression": "#until >= :now",
            "ExpressionAttributeNames": {"#until": "validUntil"},
            "ExpressionAttributeValues": {":now": {"N": str(now)}},
            "ReturnValues": "ALL_OLD",
        }
        try:
            ticket_item = self._backoff.run(lambda: self._client.delete_item(**request))["Attributes"]
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            raise ForbiddenError("ticket is invalid or expired") from error
        tenant, execution_id = ticket_item["tenant"]["S"], ticket_item["executionId"]["S"]
        expires_at: AttributeValueTypeDef = {"N": str(now // 1000 + _CONNECTION_SECONDS)}
        watched: Item = {
            **primary_key(keys.live_pk(tenant, execution_id), connection_id),
            "expiresAt": expires_at,
        }
        # API Gateway reports a disconnection by the connection's id alone: the pointer leads to the watched execution
        pointer: Item = {
            **_connection_key(connection_id),
            "watched": watched[keys.PK],
            "expiresAt": expires_at,
        }
        for item in (watched, pointer):
            self._backoff.run(partial(self._client.put_item, TableName=self._table, Item=item))

    def disconnect(self, connection_id: str) -> None:
        """Delete a connection."""
        removed_fields = self._backoff.run(
            lambda: self._client.delete_item(
                TableName=self._table, Key=_connection_key(connection_id), ReturnValues="ALL_OLD"
            ),
        ).get("Attributes")
        if removed_fields:
            self._delete_connection(removed_fields["watched"]["S"], connection_id)

    def broadcast(self, messages_by_execution: Mapping[tuple[str, str], Sequence[dict[str, Any]]]) -> None:
        """Send messages to the watchers of executions, in order; delete connections that cannot be reached.

        A watcher that cannot be reached does not delay the others: it lists the tasks after it connects again.

        Parameters
        ----------
        messages_by_execution
            The messages by tenant and execution. Most executions have no watchers, so they are queried concurrently.
        """
        pks = [keys.live_pk(tenant, execution_id) for tenant, execution_id in messages_by_execution]
        watchers = map_concurrently(lambda pk: list(self._watchers(pk)), pks)
        for pk, connection_ids, messages in zip(pks, watchers, messages_by_execution.values(), strict=True):
            for connection_id in connection_ids:
                if not self._send(connection_id, messages):
                    self.disconnect(connection_id)
                    # disconnect() finds no pointer if connect() failed between its two writes
                    self._delete_connection(pk, connection_id)

    def _watchers(self, pk: str) -> Iterable[str]:
        query: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "#pk = :pk",
            "ProjectionExpression": "#sk",
            "ExpressionAttributeNames": {"#pk": keys.PK, "#sk": keys.SK},
            "ExpressionAttributeValues": {":pk": {"S": pk}},
            "ConsistentRead": True,
        }
        return (item[keys.SK]["S"] for item in paginate(self._client, query, self._backoff))

    def _send(self, connection_id: str, messages: Sequence[dict[str, Any]]) -> bool:
        client = self._callback()
        for message in messages:
            data = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
            try:
                self._backoff.run(partial(client.post_to_connection, ConnectionId=connection_id, Data=data))
            except ClientError as error:
                if error.response["Error"]["Code"] not in _GONE:
                    raise
                return False
            except ServiceBusyError:
                # A disconnected watcher connects again and lists what it missed; a gap would go unnoticed
                with suppress(ClientError, ServiceBusyError):
                    self._backoff.run(partial(client.delete_connection, ConnectionId=connection_id))
                return False
        return True

    def _delete_connection(self, pk: str, connection_id: str) -> None:
        key: Item = primary_key(pk, connection_id)
        self._backoff.run(lambda: self._client.delete_item(TableName=self._table, Key=key))


def _ticket_key(ticket: str) -> Item:
    key = keys.ticket_pk(ticket)
    return primary_key(key, key)


def _connection_key(connection_id: str) -> Item:
    key = keys.connection_pk(connection_id)
    return primary_key(key, key)
