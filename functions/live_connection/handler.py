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
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Handle a connect or disconnect event of API Gateway's WebSocket API."""
    connection = event["requestContext"]
    connections: WebSocketConnections = EventServices(context.get_remaining_time_in_millis).websocket_connections
    status = HTTPStatus.OK
    try:
        if connection["routeKey"] == "$connect":
            connections.connect(
                (event.get("queryStringParameters") or {}).get("ticket") or "", connection["connectionId"]
            )
        elif connection["routeKey"] == "$disconnect":
            connections.disconnect(connection["connectionId"])
    except TasklatchError as error:
        status = STATUS[type(error)]
    except Exception:  # noqa: BLE001 - API Gateway gets a status for any error, and an alarm reports it
        report_unhandled(route=connection["routeKey"])
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    logger.info("live", extra={"route": connection["routeKey"], "status": status.value})
    return {"statusCode": status.value}
