"""What anyone may ask without a token. This function can reach nothing: no table, no other service."""

from functools import cache
from pathlib import Path

from tasklatch.http.description_contract import GET_DOCS, GET_HEALTH, GET_OPENAPI
from tasklatch.http.routes import Answer, Call, Routes
from tasklatch.http.swagger import swagger_page

routes = Routes()
handler = routes.serve


@routes.serves(GET_HEALTH)
def get_health(_: Call) -> Answer:
    return Answer({"status": "ok"})


@routes.serves(GET_OPENAPI)
def get_openapi(_: Call) -> Answer:
    return Answer(_description())


@routes.serves(GET_DOCS)
def get_docs(_: Call) -> Answer:
    return Answer(swagger_page(_description()), media_type="text/html; charset=utf-8")


@cache
def _description() -> str:
    return Path(__file__).with_name("openapi.json").read_text(encoding="utf-8")
