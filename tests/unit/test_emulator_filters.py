"""The local cloud's emulator takes a filter for an attribute that is absent as AWS does."""

from collections.abc import Callable
from typing import Any

import pytest
from ministack.services import lambda_svc

from local.cloud.emulator_filters import FiltersOfAbsentAttributes

PATTERN = {
    "dynamodb": {"NewImage": {"version": {"N": [{"exists": True}]}, "beat": {"N": [{"exists": False}]}}},
}


@pytest.fixture
def match(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, Any], bool]:
    monkeypatch.setattr(lambda_svc, "_match_esm_filter", lambda_svc._match_esm_filter)
    FiltersOfAbsentAttributes().install()
    return lambda record, pattern: bool(lambda_svc._match_esm_filter(record, pattern))


@pytest.mark.parametrize(
    ("change", "matches"),
    [
        ({"NewImage": {"version": {"N": "1"}}}, True),
        ({"NewImage": {"version": {"N": "1"}, "beat": {"N": "1"}}}, False),
        ({"NewImage": {"beat": {"N": "1"}}}, False),
        ({"NewImage": {}}, False),
        ({}, False),
    ],
)
def test_record_without_the_attribute_matches(
    match: Callable[[Any, Any], bool], change: dict[str, Any], *, matches: bool
) -> None:
    assert match({"dynamodb": change}, PATTERN) is matches


def test_other_rules_stay_as_they_are(match: Callable[[Any, Any], bool]) -> None:
    record = {"dynamodb": {"Keys": {"sk": {"S": "TASK#a"}}, "NewImage": {"status": {"S": "FAILED"}}}}

    assert match(record, {"dynamodb": {"Keys": {"sk": {"S": [{"prefix": "TASK#"}]}}}})
    assert not match(record, {"dynamodb": {"Keys": {"sk": {"S": ["EXEC"]}}}})
    assert not match(record, {"dynamodb": {"OldImage": {"status": {"S": ["FAILED"]}}}})


def test_rule_also_holds_where_the_emulator_is_not_patched() -> None:
    assert FiltersOfAbsentAttributes().match({"dynamodb": {"NewImage": {"version": {"N": "1"}}}}, PATTERN)
