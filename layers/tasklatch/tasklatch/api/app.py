"""Routes as data, and the few lines that serve them.

API Gateway has matched the request to a route already and says which (``routeKey``), with the path's parameters
decoded. Both are taken as they are: matching again, on the decoded path, would misread an id that holds a
reserved character. The API description is made from the same data (`local.openapi`).
"""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from tasklatch.api.authorization import Scope, get_tenant
from tasklatch.api.body import field_errors, parse_json, read_body, validate
from tasklatch.api.errors import PROBLEM_DETAILS, STATUS, ErrorFormat, to_problem_details
from tasklatch.api.ids import check_path_ids
from tasklatch.domain.errors import (
    ForbiddenError,
    InvalidRequestError,
    ServiceBusyError,
    TasklatchError,
    UnexpectedError,
)
from tasklatch.runtime.observability import logger, metrics, report_unhandled
from tasklatch.runtime.settings import get_settings

JSON: Final = "application/json"
_LONGEST_DETAIL: Final = 300
"""In the log; a caller is told all of it."""

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")

Event = Mapping[str, Any]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as a route's function sees it.

    Attributes
    ----------
    tenant
        Whose data it is; empty on a route that needs no token.
    path
        The path's parameters, decoded.
    body
        The parsed JSON, not yet checked; None where the route takes none.
    request_id
        The caller's ``X-Request-ID``, or API Gateway's own id of the request.
    request_id
        API Gateway's own id of the request: no two requests share it.
    remaining_ms
        Gives the milliseconds that the function has left.
    """

    tenant: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    correlation_id: str
    request_id: str
    remaining_ms: Callable[[], int]

    def parse_body(self, model: type[M]) -> M:
        """The body as a model.

        Raises
        ------
        InvalidRequestError
            If it does not fit.
        """
        return validate(model, self.body)

    def parse_query(self, model: type[M]) -> M:
        """The query string as a model.

        Raises
        ------
        InvalidRequestError
            If it does not fit.
        """
        try:
            return model.model_validate_strings(dict(self.query))
        except ValidationError as error:
            errors = field_errors(error, "query")
            raise InvalidRequestError("invalid query parameters", errors) from error


@dataclass(frozen=True, slots=True)
class Response:
    """What is sent back. `noted` goes to the log line of the request."""

    body: Any
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = JSON
    log_fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the API, as a contract declares it.

    Attributes
    ----------
    name
        Unique among all.
    key
        As API Gateway names the route: method and path.
    scope
        What the caller's token must allow; None where no token is needed.
    request, query
        The models of body and query string.
    answers
        Status codes and what their bodies are made of; None where there is no body.
    problems
        Further status codes of what can go wrong, besides those that scope and models bring with them.
    headers
        Request headers that mean something here.
    wording
        How the contract tells what went wrong.
    repeatable
        Query parameters that may come more than once.
    body_route
        The operation that does the same with the task's id in the body, for ids that cannot stand in a path.
    tenant_parameter
        The path's parameter that names the tenant as well, for contracts whose paths do: it must be the token's.
    """

    name: str
    key: str
    summary: str
    scope: Scope | None
    responses: Mapping[HTTPStatus, Any]
    request: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    problems: tuple[HTTPStatus, ...] = ()
    headers: tuple[str, ...] = ()
    error_format: ErrorFormat = PROBLEM_DETAILS
    repeatable: frozenset[str] = frozenset()
    body_route: str | None = None
    tenant_parameter: str | None = None


RouteHandler = Callable[[Request], Response]


class HttpApp:
    """The routes of one function: which operations it serves, and with what."""

    def __init__(self) -> None:
        self.operations: dict[str, Operation] = {}
        self._handlers: dict[str, RouteHandler] = {}

    def route(self, operation: Operation) -> Callable[[RouteHandler], RouteHandler]:
        """Declare the function that serves an operation."""

        def declare(handler: RouteHandler) -> RouteHandler:
            self.operations[operation.key] = operation
            self._handlers[operation.key] = handler
            return handler

        return declare

    def resolve(self, event: Event, context: Any) -> dict[str, Any]:
        """Answer one API Gateway request (HTTP API, payload format 2.0).

        Parameters
        ----------
        context
            Lambda's context: tells the time that is left.
        """
        started = time.perf_counter()
        operation = self.operations[event["routeKey"]]
        headers: Mapping[str, str] = event.get("headers") or {}
        request_id: str = event["requestContext"]["requestId"]
        requested_id = headers.get("x-request-id", "")
        correlation_id = requested_id if _REQUEST_ID.fullmatch(requested_id) else request_id
        try:
            response = self._dispatch(
                operation, event, headers, correlation_id, request_id, context.get_remaining_time_in_millis
            )
            body = _text(response.body)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer, and an alarm tells of it
            if not isinstance(error, TasklatchError):
                report_unhandled(route=event["routeKey"], request_id=correlation_id)
                error = UnexpectedError()
            response = _error_response(error, operation.error_format, correlation_id)
            body = _text(response.body)
        logger().info(
            "answered",
            extra={
                "route": event["routeKey"],
                "status": response.status.value,
                "request_id": correlation_id,
                "ms": round((time.perf_counter() - started) * 1000, 1),
                **response.log_fields,
            },
        )
        if metrics().metric_set:
            metrics().flush_metrics()
        return {
            "statusCode": response.status.value,
            "headers": {"content-type": response.media_type, "x-request-id": correlation_id, **response.headers},
            "body": body,
        }

    def _dispatch(
        self,
        operation: Operation,
        event: Event,
        headers: Mapping[str, str],
        correlation_id: str,
        request_id: str,
        remaining_ms: Callable[[], int],
    ) -> Response:
        tenant_claim = get_settings().tenant_claim
        tenant = get_tenant(event, operation.scope, tenant_claim) if operation.scope else ""
        path: Mapping[str, str] = event.get("pathParameters") or {}
        check_path_ids(path, operation.body_route)
        if operation.query is not None:
            _check_once(event.get("rawQueryString", ""), operation.repeatable)
        if operation.tenant_parameter and tenant_claim and path[operation.tenant_parameter] != tenant:
            raise ForbiddenError(f"token is not valid for this {operation.tenant_parameter}")
        return self._handlers[operation.key](
            Request(
                tenant=tenant,
                path=path,
                query=event.get("queryStringParameters") or {},
                headers=headers,
                body=parse_json(read_body(event, headers) or b"{}") if operation.request else None,
                correlation_id=correlation_id,
                request_id=request_id,
                remaining_ms=remaining_ms,
            ),
        )


def _check_once(query: str, repeatable: frozenset[str]) -> None:
    """Check that no query parameter comes twice: API Gateway makes one text of both, with a comma between them.

    Raises
    ------
    InvalidRequestError
        Naming the first that does.
    """
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True) if name not in repeatable]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        fault: dict[str, object] = {
            "loc": ["query", twice[:255]],
            "msg": "given more than once",
            "type": "repeated_key",
        }
        raise InvalidRequestError("invalid query parameters", [fault])


def page_response(items: Sequence[Any], cursor: str | None) -> Response:
    """One page of a list, and where to go on if there is more."""
    return Response({"items": items, "nextCursor": cursor} if cursor else {"items": items})


def _text(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def _error_response(error: TasklatchError, error_format: ErrorFormat, correlation_id: str) -> Response:
    status = error_format.status(STATUS[type(error)])
    problem = to_problem_details(error, correlation_id, status)
    headers = {"retry-after": str(error.retry_after_seconds)} if isinstance(error, ServiceBusyError) else {}
    log_fields = {"problem": problem["type"], "detail": problem["detail"][:_LONGEST_DETAIL]}
    return Response(error_format.render(error, problem), status, headers, error_format.media_type, log_fields)
