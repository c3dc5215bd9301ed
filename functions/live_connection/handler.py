"""WebSocket routes for watchers: a ticket, used once, allows a connection to watch one execution."""

from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.errors import STATUS
from tasklatch.domain.errors import TasklatchError
from tasklatch.notifications.websockets import WebSocketConnections
from tasklatch.runtime.observability import logger, metrics, report_unhandled
from tasklatch.runtime.services import EventServices


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP, clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle a connect, disconnect or ping event of API Gateway's WebSocket API."""
    connection = event["requestContext"]
    status, reason = HTTPStatus.OK, ""
    try:
        _route(event, EventServices(context.get_remaining_time_in_millis))
    except TasklatchError as error:
        status, reason = STATUS[type(error)], str(error)
    except Exception:  # noqa: BLE001 - API Gateway gets a status for any error, and an alarm reports it
        report_unhandled(route=connection["routeKey"])
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    refusal = {"reason": reason} if reason else {}
    logger.info("live", extra={"route": connection["routeKey"], "status": status.value, **refusal})
    return {"statusCode": status.value, **({"body": reason} if connection["routeKey"] == "$connect" and reason else {})}


def _route(event: dict[str, Any], services: EventServices) -> None:
    route, connection_id = event["requestContext"]["routeKey"], event["requestContext"]["connectionId"]
    connections: WebSocketConnections = services.websocket_connections
    if route == "$connect":
        connections.connect((event.get("queryStringParameters") or {}).get("ticket") or "", connection_id)
    elif route == "$disconnect":
        connections.disconnect(connection_id)
    elif not connections.is_connected(connection_id):
        # Cut off, but its connection could not be closed: it would stay open by its pings, and get nothing
        services.close_connection(connection_id)
