"""The app that dispatches requests to the handlers of their routes.

API Gateway has already matched the request to a route (``routeKey``) and decoded the path's parameters. The app uses
both unchanged: a second match, on the decoded path, would misread an id that contains a reserved character.
"""

import base64
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from tasklatch.api.authorization import get_client, get_tenant
from tasklatch.api.body import parse_json, read_body
from tasklatch.api.errors import STATUS, ErrorFormat, to_problem_details
from tasklatch.api.ids import check_path_ids
from tasklatch.api.messages import Request, Response
from tasklatch.api.operation import Operation
from tasklatch.domain.errors import (
    ForbiddenError,
    InvalidRequestError,
    ServiceBusyError,
    TasklatchError,
    UnexpectedError,
)
from tasklatch.runtime.observability import logger, report_unhandled
from tasklatch.runtime.settings import get_settings

_LONGEST_DETAIL: Final = 300
"""Characters of an error's detail in the log line; the response has the whole detail."""

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")

Event = Mapping[str, Any]

RouteHandler = Callable[[Request], Response]


class HttpApp:
    """Routes of one function: its operations and their handlers."""

    def __init__(self) -> None:
        self.operations: dict[str, Operation] = {}
        self._handlers: dict[str, RouteHandler] = {}

    def route(self, operation: Operation) -> Callable[[RouteHandler], RouteHandler]:
        """Return a decorator that registers the handler of an operation."""

        def declare(handler: RouteHandler) -> RouteHandler:
            self.operations[operation.key] = operation
            self._handlers[operation.key] = handler
            return handler

        return declare

    def resolve(self, event: Event, context: Any) -> dict[str, Any]:
        """Return the response to one API Gateway request (HTTP API, payload format 2.0).

        Parameters
        ----------
        context
            Lambda's context, used for the remaining time.
        """
        started = time.perf_counter()
        route: str = event["routeKey"]
        operation, correlation_id = self.operations[route], _correlation_id(event)
        logger.set_correlation_id(correlation_id)
        try:
            response = self._dispatch(operation, event, correlation_id, context.get_remaining_time_in_millis)
            body = _text(response.body)
        except Exception as error:  # noqa: BLE001 - the caller gets a response to any error, and an alarm reports it
            if not isinstance(error, TasklatchError):
                report_unhandled(route=route, request_id=correlation_id)
                error = UnexpectedError()
            response = _error_response(error, operation.error_format, correlation_id)
            body = _text(response.body)
        log_fields = {
            "route": route,
            "status": response.status.value,
            "request_id": correlation_id,
            "ms": round((time.perf_counter() - started) * 1000, 1),
        }
        logger.info("request handled", extra={**log_fields, **response.log_fields})
        return {
            "statusCode": response.status.value,
            "headers": {"content-type": response.media_type, "x-request-id": correlation_id, **response.headers},
            "body": body,
            "isBase64Encoded": isinstance(response.body, bytes),
        }

    def _dispatch(
        self, operation: Operation, event: Event, correlation_id: str, remaining_ms: Callable[[], int]
    ) -> Response:
        """Check a request against its operation, and call the handler."""
        tenant_claim = get_settings().tenant_claim
        tenant = get_tenant(event, operation.scope, tenant_claim) if operation.scope else ""
        path: Mapping[str, str] = event.get("pathParameters") or {}
        check_path_ids(path, operation.body_route)
        if operation.query is not None:
            _check_no_repeats(event.get("rawQueryString", ""), operation.repeatable)
        if operation.tenant_parameter and tenant_claim and path[operation.tenant_parameter] != tenant:
            raise ForbiddenError(f"token is not valid for this {operation.tenant_parameter}")
        headers = _headers(event)
        return self._handlers[operation.key](
            Request(
                tenant=tenant,
                path=path,
                query=event.get("queryStringParameters") or {},
                headers=headers,
                body=parse_json(read_body(event, headers) or b"{}") if operation.request else None,
                correlation_id=correlation_id,
                request_id=event["requestContext"]["requestId"],
                remaining_ms=remaining_ms,
                client=get_client(event),
            ),
        )


def _headers(event: Event) -> Mapping[str, str]:
    return event.get("headers") or {}


def _correlation_id(event: Event) -> str:
    """Return the caller's ``X-Request-ID``, or API Gateway's id of the request if it sent none that is valid."""
    requested_id = _headers(event).get("x-request-id", "")
    return requested_id if _REQUEST_ID.fullmatch(requested_id) else str(event["requestContext"]["requestId"])


def _check_no_repeats(query: str, repeatable: frozenset[str]) -> None:
    """Check that no query parameter is repeated: API Gateway joins repeated values with a comma.

    Raises
    ------
    InvalidRequestError
        If one is; the error names the first.
    """
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True) if name not in repeatable]
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        field_error: dict[str, object] = {
            "loc": ["query", repeated[:255]],
            "msg": "sent more than once",
            "type": "repeated_key",
        }
        raise InvalidRequestError("invalid query parameters", [field_error])


def _text(body: Any) -> str:
    if isinstance(body, bytes):
        return base64.b64encode(body).decode()
    return body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def _error_response(error: TasklatchError, error_format: ErrorFormat, correlation_id: str) -> Response:
    status = error_format.status(STATUS[type(error)])
    problem = to_problem_details(error, correlation_id, status)
    headers = {"retry-after": str(error.retry_after_seconds)} if isinstance(error, ServiceBusyError) else {}
    log_fields = {"problem": problem["type"], "detail": problem["detail"][:_LONGEST_DETAIL]}
    return Response(error_format.render(error, problem), status, headers, error_format.media_type, log_fields)
