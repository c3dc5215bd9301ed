"""Declaration of one operation: its route, scope and models, as data. The API description is generated from it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from pydantic import BaseModel

from tasklatch.api.authorization import Scope
from tasklatch.api.errors import PROBLEM_DETAILS, ErrorFormat


class Operation(NamedTuple):
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
