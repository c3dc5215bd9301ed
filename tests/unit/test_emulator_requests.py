"""The local cloud's emulator decodes paths as live captures of API Gateway show it."""

import pytest
from ministack.services import apigateway

from local.cloud.emulator_requests import DecodedPaths

ROUTE = "/v1/executions/{executionId}/tasks/{taskId}/status"


@pytest.fixture(autouse=True)
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator's functions are put back afterwards."""
    for name in ("decode_http_api_path", "_extract_path_params"):
        monkeypatch.setattr(apigateway, name, getattr(apigateway, name))
    DecodedPaths().install()


def task_named_by(encoded: str) -> str | None:
    path = apigateway.decode_http_api_path(f"/v1/executions/e/tasks/{encoded}/status")
    parameters = apigateway._extract_path_params(ROUTE, path)
    return None if parameters is None else parameters["taskId"]


@pytest.mark.parametrize(
    ("encoded", "task_id"),
    [
        ("fetch", "fetch"),
        ("a%20b%23%C3%BC", "a b#ü"),
        ("50%25", "50%"),
        ("50%2525", "50%"),
        ("a%252Fb", "a/b"),
        ("%2541", "A"),
        ("a%FF", "a\ufffd"),
    ],
)
def test_parameter_is_decoded_twice(encoded: str, task_id: str) -> None:
    assert task_named_by(encoded) == task_id


@pytest.mark.parametrize("encoded", ["a%2Fb", "a%3Fb", ""])
def test_decoded_slash_or_question_mark_leads_to_no_route(encoded: str) -> None:
    assert task_named_by(encoded) is None


def test_path_ends_at_a_decoded_question_mark() -> None:
    assert apigateway.decode_http_api_path("/v1/executions/e/tasks/a%3Fb/history") == "/v1/executions/e/tasks/a"
