"""Routes as data, and the app that dispatches requests to them.

API Gateway has already matched the request to a route (``routeKey``) and decoded the path's parameters. The app uses
both unchanged: a second match, on the decoded path, would misread an id that contains a reserved character. The API
description is generated from the same data (`local.openapi`).
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
from tasklatch.runtime.observability import logger, report_unhandled
from tasklatch.runtime.settings import get_settings

JSON: Final = "application/json"
_LONGEST_DETAIL: Final = 300
"""Characters of an error's detail in the log line; the response has the whole detail."""

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")

Event = Mapping[str, Any]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as passed to a route's function.

    Attributes
    ----------
    tenant
        Tenant of the caller; empty on a route that needs no token.
    path
        Parameters of the path, decoded.
    body
        Parsed JSON, not yet validated; None if the route has no request model.
    correlation_id
        The caller's ``X-Request-ID``, or `request_id` if it sent none that is valid.
    request_id
        API Gateway's id of the request: no two requests share it.
    remaining_ms
        Returns the function's remaining time in milliseconds.
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
        """Return the body as a model.

        Raises
        ------
        InvalidRequestError
            If the body does not match the model.
        """
        return validate(model, self.body)

    def parse_query(self, model: type[M]) -> M:
        """Return the query string as a model.

        Raises
        ------
        InvalidRequestError
            If the query string does not match the model.
        """
        try:
            return model.model_validate_strings(dict(self.query))
        except ValidationError as error:
            errors = field_errors(error, "query")
            raise InvalidRequestError("invalid query parameters", errors) from error


@dataclass(frozen=True, slots=True)
class Response:
    """Response of a route; `log_fields` are added to the log line of the request."""

    body: Any
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = JSON
    log_fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Declaration of one operation of the API.

    Attributes
    ----------
    name
        Unique among all operations.
    key
        API Gateway's key of the route: method and path.
    scope
        Scope that the caller's token needs; None if no token is needed.
    responses
        Types of the response bodies by status code; None if there is no body.
    request, query
        Models of the body and the query string.
    problems
        Status codes of errors, besides those that follow from the scope and the models.
    headers
        Request headers that the operation uses.
    error_format
        Format of the contract's error responses.
    repeatable
        Query parameters that a request may repeat.
    body_route
        Key of the operation that takes the task's id in the body, for ids that do not fit into a path.
    tenant_parameter
        Parameter of the path that names the tenant, for contracts that have one: it must equal the token's tenant.
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
        operation = self.operations[event["routeKey"]]
        headers: Mapping[str, str] = event.get("headers") or {}
        request_id: str = event["requestContext"]["requestId"]
        requested_id = headers.get("x-request-id", "")
        correlation_id = requested_id if _REQUEST_ID.fullmatch(requested_id) else request_id
        logger.set_correlation_id(correlation_id)
        try:
            response = self._dispatch(
                operation, event, headers, correlation_id, request_id, context.get_remaining_time_in_millis
            )
            body = _text(response.body)
        except Exception as error:  # noqa: BLE001 - the caller gets a response to any error, and an alarm reports it
            if not isinstance(error, TasklatchError):
                report_unhandled(route=event["routeKey"], request_id=correlation_id)
                error = UnexpectedError()
            response = _error_response(error, operation.error_format, correlation_id)
            body = _text(response.body)
        logger.info(
            "request processed",
            extra={
                "route": event["routeKey"],
                "status": response.status.value,
                "request_id": correlation_id,
                "ms": round((time.perf_counter() - started) * 1000, 1),
                **response.log_fields,
            },
        )
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
    """Check that no query parameter is repeated: API Gateway joins repeated values with a comma.

    Raises
    ------
    InvalidRequestError
        If one is; the error names the first.
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
    """Return one page of a list, with the cursor of the next page if there is one."""
    return Response({"items": items, "nextCursor": cursor} if cursor else {"items": items})


def _text(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def _error_response(error: TasklatchError, error_format: ErrorFormat, correlation_id: str) -> Response:
    status = error_format.status(STATUS[type(error)])
    problem = to_problem_details(error, correlation_id, status)
    headers = {"retry-after": str(error.retry_after_seconds)} if isinstance(error, ServiceBusyError) else {}
    log_fields = {"problem": problem["type"], "detail": problem["detail"][:_LONGEST_DETAIL]}
    return Response(error_format.render(error, problem), status, headers, error_format.media_type, log_fields)
