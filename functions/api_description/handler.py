"""Routes that need no token. This function has no access to the table or to any other service."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import JSON, Request, Response
from tasklatch.api.operation import Operation
from tasklatch.api.static_content import StaticContent
from tasklatch.api.swagger import swagger_page
from tasklatch.api.v1.description import GET_DOCS, GET_HEALTH, GET_OPENAPI
from tasklatch.domain.errors import NotFoundError
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.settings import get_settings

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(GET_HEALTH)
def get_health(_: Request) -> Response:
    return Response({"status": "ok"})


@app.route(GET_OPENAPI)
def get_openapi(request: Request) -> Response:
    return _respond(GET_OPENAPI, _description, request)


@app.route(GET_DOCS)
def get_docs(request: Request) -> Response:
    return _respond(GET_DOCS, _page, request)


def _respond(operation: Operation, content: Callable[[], StaticContent], request: Request) -> Response:
    if not get_settings().serves_description:
        raise NotFoundError("route", operation.key)
    return content().respond(request)


@cache
def _description() -> StaticContent:
    data = Path(__file__).with_name("openapi.json").read_bytes()
    return StaticContent(data, JSON, "default-src 'none'; frame-ancestors 'none'")


@cache
def _page() -> StaticContent:
    page, policy = swagger_page()
    return StaticContent(page, "text/html; charset=utf-8", policy)
