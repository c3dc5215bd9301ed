"""Operations that need no token: the health check and the API description."""

from http import HTTPStatus
from typing import Any, Final

from tasklatch.api.operation import Operation

GET_HEALTH: Final = Operation(
    name="get_health",
    key="GET /v1/health",
    summary="Say that the service answers",
    scope=None,
    responses={HTTPStatus.OK: dict[str, str]},
)
GET_OPENAPI: Final = Operation(
    name="get_openapi",
    key="GET /v1/openapi.json",
    summary="Describe this API",
    scope=None,
    responses={HTTPStatus.OK: dict[str, Any], HTTPStatus.NOT_MODIFIED: None},
    problems=(HTTPStatus.NOT_FOUND,),
    headers=("If-None-Match",),
)
GET_DOCS: Final = Operation(
    name="get_docs",
    key="GET /v1/docs",
    summary="Show the description in a browser",
    scope=None,
    responses={HTTPStatus.OK: str, HTTPStatus.NOT_MODIFIED: None},
    problems=(HTTPStatus.NOT_FOUND,),
    headers=("If-None-Match",),
)
