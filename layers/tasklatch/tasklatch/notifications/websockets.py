"""WebSocket connections: tickets, and the execution that each connection watches."""

import secrets
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import ClientError

from tasklatch.domain.errors import ForbiddenError, TooManyWatchersError
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_write import batch_delete
from tasklatch.dynamodb.items import Item, Value, from_attribute, primary_key, sort_key_of, to_attribute, to_item
from tasklatch.dynamodb.pagination import paginate
from tasklatch.dynamodb.queries import partition_query
from tasklatch.runtime.aws_errors import is_condition_failure
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.concurrency import map_concurrently
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MAX_WATCHERS: Final = 25
"""Of one execution at a time: each is one more to send every change to."""

TICKET_SECONDS: Final = 60
_CONNECTION_SECONDS: Final = 2 * 3600
"""A WebSocket API closes every connection after two hours."""

_LONGEST_TICKET: Final = 64
"""In characters. A longer ticket was never issued, and could be too long for a key."""


class Watcher(NamedTuple):
    """One connection, and the execution that it watches."""

    tenant: str
    execution_id: str
    connection_id: str


class WebSocketConnections:
    """Store of watchers' tickets and connections.

    Parameters
    ----------
    backoff
        Retry policy for a busy service.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff) -> None:
        self._client = client
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
        values: dict[str, Value] = {
            "tenant": tenant,
            "executionId": execution_id,
            "validUntil": valid_until,
            "expiresAt": valid_until // 1000 + TICKET_SECONDS,
        }
        item = {**_ticket_key(ticket), **to_item(values)}
        self._backoff.run(lambda: self._client.put_item(TableName=self._table, Item=item))
        return ticket, valid_until

    def connect(self, ticket: str, connection_id: str) -> None:
        """Register a connection as a watcher of its ticket's execution, and delete the ticket.

        Raises
        ------
        ForbiddenError
            If the ticket was never issued, was used before, or has expired.
        TooManyWatchersError
            If the execution has `MAX_WATCHERS` already.
        """
        if len(ticket) > _LONGEST_TICKET:
            raise ForbiddenError("invalid ticket")
        now = self._clock()
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": _ticket_key(ticket),
            "ConditionExpression": "#until >= :now",
            "ExpressionAttributeNames": {"#until": "validUntil"},
            "ExpressionAttributeValues": to_item({":now": now}),
            "ReturnValues": "ALL_OLD",
        }
        try:
            ticket_item = self._backoff.run(lambda: self._client.delete_item(**request))["Attributes"]
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            raise ForbiddenError("ticket is invalid or expired") from error
        tenant, execution_id = (from_attribute(ticket_item[name]) for name in ("tenant", "executionId"))
        self._check_room(tenant, execution_id, now)
        expires_at = to_attribute(now // 1000 + _CONNECTION_SECONDS)
        watched: Item = {**_watched_key(Watcher(tenant, execution_id, connection_id)), "expiresAt": expires_at}
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
            watched = primary_key(from_attribute(removed_fields["watched"]), connection_id)
            self._backoff.run(lambda: self._client.delete_item(TableName=self._table, Key=watched))

    def is_connected(self, connection_id: str) -> bool:
        """Return True if a connection watches an execution: it was not cut off."""
        response = self._backoff.run(
            lambda: self._client.get_item(
                TableName=self._table,
                Key=_connection_key(connection_id),
                ProjectionExpression=keys.PK,
                ConsistentRead=True,
            )
        )
        return "Item" in response

    def watchers_of(self, executions: Iterable[tuple[str, str]]) -> list[Watcher]:
        """Return the watchers of executions; most have none, so they are queried concurrently.

        Parameters
        ----------
        executions
            Pairs of tenant and execution id.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        by_execution = map_concurrently(self._watchers_of, executions)
        return [watcher for watchers in by_execution for watcher in watchers]

    def forget(self, watchers: Iterable[Watcher]) -> None:
        """Delete what is stored of connections.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        item_keys: list[Item] = []
        for watcher in watchers:
            item_keys += [_watched_key(watcher), _connection_key(watcher.connection_id)]
        batch_delete(self._client, self._table, item_keys, self._backoff)

    def _watchers_of(self, execution: tuple[str, str]) -> list[Watcher]:
        query = {**partition_query(self._table, keys.live_pk(*execution)), "ProjectionExpression": keys.SK}
        items = paginate(self._client, query, self._backoff)
        return [Watcher(*execution, sort_key_of(item)) for item in items]

    def _check_room(self, tenant: str, execution_id: str, now: int) -> None:
        """Raise if an execution has as many watchers as it may have.

        Those that connect at the same moment do not see each other, so there can be a few more.
        """
        query = partition_query(self._table, keys.live_pk(tenant, execution_id))
        # Connections that ended without a word are there until the time to live removes them
        query |= {"FilterExpression": "expiresAt > :now", "Select": "COUNT"}
        query["ExpressionAttributeValues"][":now"] = to_attribute(now // 1000)
        response = self._backoff.run(lambda: self._client.query(**query))
        if response["Count"] >= MAX_WATCHERS:
            raise TooManyWatchersError(MAX_WATCHERS)


def _ticket_key(ticket: str) -> Item:
    key = keys.ticket_pk(ticket)
    return primary_key(key, key)


def _connection_key(connection_id: str) -> Item:
    key = keys.connection_pk(connection_id)
    return primary_key(key, key)


def _watched_key(watcher: Watcher) -> Item:
    pk = keys.live_pk(watcher.tenant, watcher.execution_id)
    return primary_key(pk, watcher.connection_id)
