"""Messages to watchers, side by side and for a bounded time. A watcher that cannot be served in it is cut off.

A watcher that is cut off connects again and lists what it missed; a gap would go unnoticed. Watchers never fail a
batch of the stream, so that nobody who may watch can hold it up.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError

from tasklatch.notifications.websockets import Watcher, WebSocketConnections
from tasklatch.runtime.aws_errors import is_busy
from tasklatch.runtime.backoff import Backoff, TimeBudget
from tasklatch.runtime.concurrency import map_concurrently
from tasklatch.runtime.observability import WATCHERS_CUT_OFF_METRIC, logger, metrics

if TYPE_CHECKING:
    from mypy_boto3_apigatewaymanagementapi import ApiGatewayManagementApiClient

Messages = Mapping[tuple[str, str], Sequence[dict[str, Any]]]
"""Messages in order, by tenant and execution id."""

_SENDING_MS: Final = 3_000
_SENDING_RESERVE_MS: Final = 7_000
"""A last message takes up to 2 s; then what is stored of connections is deleted, for which the table may be busy."""

_CLOSING_MS: Final = 3_000
_CLOSING_RESERVE_MS: Final = 2_500
_ATTEMPTS: Final = 3
_LONGEST_WAIT: Final = 0.2
_AT_ONCE: Final = 16
_GONE: Final = frozenset({"GoneException", "ForbiddenException"})


class _Outcome(Enum):
    SERVED = auto()
    GONE = auto()
    UNREACHED = auto()


class WatcherBroadcast:
    """Sender of messages to watchers.

    Parameters
    ----------
    callback
        Returns the API Gateway management client; called only when there is a message to send.
    backoff
        Knows the time that the function has left.
    """

    def __init__(
        self,
        connections: WebSocketConnections,
        callback: "Callable[[], ApiGatewayManagementApiClient]",
        backoff: Backoff,
    ) -> None:
        self._connections = connections
        self._callback = callback
        self._backoff = backoff

    def broadcast(self, messages: Messages) -> None:
        """Send messages to the watchers of executions, and cut off those that cannot be reached in time.

        Raises
        ------
        ServiceBusyError
            If the table is busy: who watches is not known, or a connection that was cut off is still stored.
        """
        try:
            watchers = self._connections.watchers_of(messages)
        except (BotoCoreError, ClientError):
            # Not a busy table, which is waited for: without permission, say, the changes still go to all others
            logger.exception("watchers not looked up", extra={"executions": len(messages)})
            return
        budget = self._backoff.budget(_SENDING_MS, _SENDING_RESERVE_MS)
        outcomes = map_concurrently(partial(self._serve, messages, budget), watchers, _AT_ONCE)
        results = list(zip(watchers, outcomes, strict=True))
        lost = [watcher for watcher, outcome in results if outcome is not _Outcome.SERVED]
        if lost:
            self._connections.forget(lost)
            self._cut_off([watcher for watcher, outcome in results if outcome is _Outcome.UNREACHED])

    def _serve(self, messages: Messages, budget: TimeBudget, watcher: Watcher) -> _Outcome:
        for message in messages[watcher.tenant, watcher.execution_id]:
            data = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
            outcome = self._post(watcher.connection_id, data, budget)
            if outcome is not _Outcome.SERVED:
                return outcome
        return _Outcome.SERVED

    def _post(self, connection_id: str, data: bytes, budget: TimeBudget) -> _Outcome:
        for _ in range(_ATTEMPTS):
            if not budget.is_left:
                break
            try:
                self._callback().post_to_connection(ConnectionId=connection_id, Data=data)
            except ClientError as error:
                if error.response["Error"]["Code"] in _GONE:
                    return _Outcome.GONE
                if not is_busy(error):
                    break
                budget.wait(_LONGEST_WAIT)
            except BotoCoreError:
                budget.wait(_LONGEST_WAIT)
            else:
                return _Outcome.SERVED
        return _Outcome.UNREACHED

    def _cut_off(self, watchers: Sequence[Watcher]) -> None:
        """Close connections. One that stays open gets nothing, and is closed at its next ping, or when it is idle."""
        if not watchers:
            return
        logger.warning("watchers cut off", extra={"watchers": len(watchers)})
        metrics.add_metric(WATCHERS_CUT_OFF_METRIC, MetricUnit.Count, len(watchers))
        budget = self._backoff.budget(_CLOSING_MS, _CLOSING_RESERVE_MS)
        map_concurrently(partial(self._close, budget), watchers, _AT_ONCE)

    def _close(self, budget: TimeBudget, watcher: Watcher) -> None:
        if budget.is_left:
            close_connection(self._callback(), watcher.connection_id)


def close_connection(client: "ApiGatewayManagementApiClient", connection_id: str) -> None:
    """Close a connection if it can be reached."""
    with suppress(BotoCoreError, ClientError):
        client.delete_connection(ConnectionId=connection_id)
