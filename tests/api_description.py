"""Check of responses against the API description that the service serves; undescribed properties are errors."""

import json
from functools import cache
from typing import Any, Final

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from local.describe import DESCRIPTION
from tests.factories import Reply

_ID: Final = "urn:description"


@cache
def description() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DESCRIPTION.read_text())
    return document


def check_schemas() -> None:
    """Check that every schema is valid.

    Raises
    ------
    jsonschema.SchemaError
        If one is not.
    """
    for schema in description()["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@cache
def _closed_description() -> dict[str, Any]:
    """Return the description, in which every object that names its properties allows no others."""

    def close(node: Any) -> Any:
        if isinstance(node, list):
            return [close(item) for item in node]
        if not isinstance(node, dict):
            return node
        closed = {name: close(element) for name, element in node.items()}
        if closed.get("type") == "object" and "properties" in closed:
            closed.setdefault("additionalProperties", False)
        return closed

    closed: dict[str, Any] = close(description())
    return closed


def check_answer(route: str, reply: Reply) -> None:
    """Check a response against the description of its route and status: headers, type and body.

    Raises
    ------
    KeyError
        If the route can have no such status or media type.
    jsonschema.ValidationError
        If the body does not fit.
    """
    method, _, path = route.partition(" ")
    document = _closed_description()
    answer = document["paths"][path][method.lower()]["responses"][str(reply.status)]
    assert reply.headers["x-request-id"]
    if "content" not in answer:
        assert reply.text == ""
        return
    media_type = reply.headers["content-type"].partition(";")[0]
    schema = answer["content"][media_type]["schema"]
    body = reply.body if media_type.endswith("json") else reply.text
    Draft202012Validator({**schema, "components": document["components"]}).validate(body)
