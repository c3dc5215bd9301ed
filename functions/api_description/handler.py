"""Routes that need no token. This function has no access to the table or to any other service."""

from functools import cache
from pathlib import Path
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.api.app import HttpApp
from tasklatch.api.messages import Request, Response
from tasklatch.api.swagger import swagger_page
from tasklatch.api.v1.description import GET_DOCS, GET_HEALTH, GET_OPENAPI
from tasklatch.runtime.observability import logger, metrics

app = HttpApp()


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)


@app.route(GET_HEALTH)
def get_health(_: Request) -> Response:
    return Response({"status": "ok"})


@app.route(GET_OPENAPI)
def get_openapi(_: Request) -> Response:
    return Response(_description())


@app.route(GET_DOCS)
def get_docs(_: Request) -> Response:
    return Response(swagger_page(_description()), media_type="text/html; charset=utf-8")


@cache
def _description() -> str:
    return Path(__file__).with_name("openapi.json").read_text(encoding="utf-8")
