"""Each field of each request takes no value that the API description leaves out, however near it comes to one.

Asked of every model that a route reads: a field that is added is asked too.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any, Final, get_args

import pytest
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from pydantic import BaseModel, ValidationError

from tasklatch.api.v1.executions.models import ExecutionsQuery
from tasklatch.api.v1.reports.models import BatchBody, BatchedReportBody
from tasklatch.platforms.superai.models import FlowExecutionsQuery
from tests.api_gateway import operations

FORMATS: Final = FormatChecker(formats=["uuid"])
TEXTS: Final = (
    "",
    " 5 ",
    "5\n",
    "+5",
    "05",
    "1_0",
    "5.0",
    "1e3",
    "0x5",
    "\u0665",
    "6",
    "1",
    "t",
    "on",
    "yes",
    "TRUE",
    " true",
    "null",
    "1700000000",
    "2026-01-31",
    "2026-01-31T12:00Z",
    "2026-01-31T12:00:00",
    "2026-01-31 12:00:00Z",
    "2026-01-31_12:00:00Z",
    "2026-01-31T12:00:00,5Z",
    "2026-01-31T12:00:00+0200",
    "2026-01-31T12:00:00\u221202:00",
    "2026-13-31T12:00:00Z",
    "6f1c3cf65d0b4a869d6c5c8f3b1f2a01",
    "{6f1c3cf6-5d0b-4a86-9d6c-5c8f3b1f2a01}",
    "urn:uuid:6f1c3cf6-5d0b-4a86-9d6c-5c8f3b1f2a01",
)
VALUES: Final[tuple[Any, ...]] = (*TEXTS, True, False, 0, 1, 6, -1, 1.5, 1e300, [], {}, [1], {"a": 1}, None)


@FORMATS.checks("date-time")  # type: ignore[untyped-decorator]
def is_rfc_3339(value: object) -> bool:
    """Written as the API itself writes times: what is near to it is near to the edge of RFC 3339."""
    if not isinstance(value, str):
        return True
    try:
        return datetime.fromisoformat(value).strftime("%Y-%m-%dT%H:%M:%SZ") == value
    except ValueError:
        return False


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and all that its fields are made of."""
    yield model
    nested = [field.annotation for field in model.model_fields.values()]
    while nested:
        item = nested.pop()
        if isinstance(item, type) and issubclass(item, BaseModel):
            yield from models(item)
        nested += get_args(item)


def fields(kind: str) -> list[tuple[type[BaseModel], str]]:
    """Each field of each model of that kind, `query` or `request`."""
    roots = [getattr(operation, kind) for _, operation in operations().values()]
    roots += [BatchedReportBody] if kind == "request" else []
    every = dict.fromkeys(model for root in roots if root is not None for model in models(root))
    # A batch is no model of its reports: each is checked, and refused, on its own
    return [(model, field) for model in every for field in model.model_fields if model is not BatchBody]


@cache
def described(model: type[BaseModel], field: str) -> Any:
    """What the description says of a field."""
    schema = model.model_json_schema()
    whole = {**schema["properties"][field], "$defs": schema.get("$defs", {})}
    return Draft202012Validator(whole, format_checker=FORMATS)


def is_described(model: type[BaseModel], field: str, values: tuple[Any, ...]) -> bool:
    return any(described(model, field).is_valid(value) for value in values)


def meanings(text: str) -> tuple[Any, ...]:
    """What a text in a query string can stand for: JSON's own words stand for JSON's values."""
    if text in ("true", "false"):
        return (text, text == "true")
    is_number = text.isascii() and text.isdecimal() and str(int(text)) == text
    return (text, int(text)) if is_number else (text,)


def is_refused(model: type[BaseModel], field: str, value: Any, *, as_text: bool) -> bool:
    try:
        (model.model_validate_strings if as_text else model.model_validate)({field: value})
    except ValidationError as error:
        return any(item["loc"][:1] == (field,) for item in error.errors())
    return False


def named(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


@pytest.mark.parametrize(("model", "field"), fields("query"), ids=named)
def test_query_takes_no_text_that_the_description_leaves_out(model: type[BaseModel], field: str) -> None:
    left_out = [text for text in TEXTS if not is_described(model, field, meanings(text))]

    assert [text for text in left_out if not is_refused(model, field, text, as_text=True)] == []


@pytest.mark.parametrize(("model", "field"), fields("request"), ids=named)
def test_body_takes_no_value_that_the_description_leaves_out(model: type[BaseModel], field: str) -> None:
    left_out = [value for value in VALUES if not is_described(model, field, (value,))]

    assert [value for value in left_out if not is_refused(model, field, value, as_text=False)] == []


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00z",
        "2026-01-31T12:00:00.123456789+02:00",
        "2026-01-31T12:00:00.5-00:00",
    ],
)
def test_time_is_taken_as_rfc_3339_writes_it(time: str) -> None:
    assert ExecutionsQuery.model_validate_strings({"createdAfter": time}).createdAfter is not None


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("false", False), ("False", False)])
def test_boolean_is_taken_as_json_and_python_write_it(text: str, value: bool) -> None:
    query = {"flow_id": "6f1c3cf6-5d0b-4a86-9d6c-5c8f3b1f2a01", "include_credits": text}

    assert FlowExecutionsQuery.model_validate_strings(query).include_credits is value
