"""Whose data a request opens, and whether its token allows it."""

from typing import Any

import pytest

from tasklatch.domain.errors import ForbiddenError, InvalidRequestError, UnauthorizedError
from tasklatch.http.access import DEFAULT_TENANT, Scope, tenant_of
from tasklatch.http.idempotency import execution_id_for
from tasklatch.http.names import check_path_ids
from tests.factories import api_event


def event_with(**claims: Any) -> dict[str, Any]:
    return api_event("GET /v1/executions", claims=claims)


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": "tasklatch/read"},
        {"scope": "openid tasklatch/report tasklatch/read"},
        {"scp": "tasklatch/read"},
        {"scp": "[tasklatch/report tasklatch/read]"},
        {"scp": "[tasklatch/report, tasklatch/read]"},
    ],
)
def test_token_with_the_scope_is_let_in(claims: dict[str, str]) -> None:
    assert tenant_of(event_with(**claims), Scope.READ, "") == DEFAULT_TENANT


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"scope": ""},
        {"scope": "tasklatch/report"},
        {"scope": "tasklatch/reader"},
        {"scope": "xtasklatch/read"},
        {"scope": "TASKLATCH/READ"},
        {"roles": "tasklatch/read"},
    ],
)
def test_token_without_the_scope_is_forbidden(claims: dict[str, str]) -> None:
    with pytest.raises(ForbiddenError, match="tasklatch/read"):
        tenant_of(event_with(**claims), Scope.READ, "")


@pytest.mark.parametrize("context", [{}, {"authorizer": None}, {"authorizer": {}}, {"authorizer": {"jwt": None}}])
def test_request_without_a_verified_token_is_unauthorized(context: dict[str, Any]) -> None:
    with pytest.raises(UnauthorizedError):
        tenant_of({"requestContext": context}, Scope.READ, "")


def test_tenant_is_what_the_configured_claim_says() -> None:
    event = event_with(scope="tasklatch/read", org="Ä corp #1")
    assert tenant_of(event, Scope.READ, "org") == "Ä corp #1"


@pytest.mark.parametrize("org", [None, "", "a" * 129, "a\nb", "\ud800", 5, ["a"]])
def test_token_that_names_no_tenant_is_forbidden(org: Any) -> None:
    claims = {"scope": "tasklatch/read"} | ({} if org is None else {"org": org})
    with pytest.raises(ForbiddenError, match="org"):
        tenant_of(event_with(**claims), Scope.READ, "org")


@pytest.mark.parametrize("value", ["a", "A-1._~:z", "x" * 128])
def test_execution_id_can_be(value: str) -> None:
    check_path_ids({"executionId": value})


@pytest.mark.parametrize("value", ["", "a b", "a/b", "a\n", "ä", "x" * 129, "a#b"])
def test_execution_id_cannot_be(value: str) -> None:
    with pytest.raises(InvalidRequestError):
        check_path_ids({"executionId": value})


@pytest.mark.parametrize("value", ["a", "a b", "a/b#c%d", "ä", "x" * 255, "#" * 255, "漢" * 255])
def test_task_id_can_be(value: str) -> None:
    check_path_ids({"taskId": value})


@pytest.mark.parametrize("value", ["", "x" * 256, "a\n", "a\x7f", "\x85", "\ud800", "\U0001f600" * 255])
def test_task_id_cannot_be(value: str) -> None:
    with pytest.raises(InvalidRequestError):
        check_path_ids({"taskId": value})


def test_execution_gets_its_id_from_the_caller_or_the_key_or_by_chance() -> None:
    assert execution_id_for("tenant", "given", "key") == "given"
    by_key = execution_id_for("tenant", None, "key")
    assert execution_id_for("tenant", None, "key") == by_key
    others = {
        execution_id_for("another", None, "key"),
        execution_id_for("tenant", None, "other"),
        execution_id_for("tenant", None, None),
        execution_id_for("tenant", None, None),
    }
    assert len(others | {by_key}) == 5


@pytest.mark.parametrize("key", ["", "x" * 256, "a\n", "ä"])
def test_key_that_cannot_be_used_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequestError):
        execution_id_for("tenant", None, key)
