"""Requests and responses of the HTTP application."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from tasklatch.api.body import field_errors, validate
from tasklatch.domain.errors import InvalidRequestError
from tasklatch.domain.report import Report

JSON: Final = "application/json"

M = TypeVar("M", bound=BaseModel)


class Request(NamedTuple):
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
    client
        Client of the caller's token; None if the token names none.
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
    client: str | None = None

    def parse_body(self, model: type[M]) -> M:
        """Return the body as a model.

        Raises
        ------
        InvalidRequestError
            If the body does not match the model.
        """
        return validate(model, self.body)

    def sign(self, report: Report) -> Report:
        """Return a report with the client that sent it."""
        return replace(report, reported_by=self.client)

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


class Response(NamedTuple):
    """Response of a route.

    Attributes
    ----------
    body
        Text or bytes to send as they are, or a value to send as JSON.
    log_fields
        Fields to add to the log line of the request.
    """

    body: Any
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = MappingProxyType({})
    media_type: str = JSON
    log_fields: Mapping[str, object] = MappingProxyType({})


def page_response(items: Sequence[Any], cursor: str | None) -> Response:
    """Return one page of a list, with the cursor of the next page if there is one."""
    return Response({"items": items, "nextCursor": cursor} if cursor else {"items": items})
