"""Whose data a request opens, and whether its token allows it."""

from typing import Any

import pytest

from tasklatch.api.authorization import DEFAULT_TENANT, MAX_CLIENT_CHARACTERS, Scope, get_client, get_tenant
from tasklatch.api.idempotency import execution_id_for, keyed_request
from tasklatch.api.ids import check_path_ids
from tasklatch.domain.errors import ForbiddenError, IdNotInPathError, InvalidRequestError, UnauthorizedError
from tasklatch.domain.idempotency import KeyedRequest
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
    assert get_tenant(event_with(**claims), Scope.READ, "") == DEFAULT_TENANT


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
        get_tenant(event_with(**claims), Scope.READ, "")


@pytest.mark.parametrize("context", [{}, {"authorizer": None}, {"authorizer": {}}, {"authorizer": {"jwt": None}}])
def test_request_without_a_verified_token_is_unauthorized(context: dict[str, Any]) -> None:
    with pytest.raises(UnauthorizedError):
        get_tenant({"requestContext": context}, Scope.READ, "")


def test_tenant_is_what_the_configured_claim_says() -> None:
    event = event_with(scope="tasklatch/read", org="Ä corp #1")
    assert get_tenant(event, Scope.READ, "org") == "Ä corp #1"


@pytest.mark.parametrize("org", [None, "", "a" * 129, "a\nb", "\ud800", 5, ["a"]])
def test_token_that_names_no_tenant_is_forbidden(org: Any) -> None:
    claims = {"scope": "tasklatch/read"} | ({} if org is None else {"org": org})
    with pytest.raises(ForbiddenError, match="org"):
        get_tenant(event_with(**claims), Scope.READ, "org")


@pytest.mark.parametrize("value", ["a", "A-1._~:z", "x" * 128])
def test_execution_id_can_be(value: str) -> None:
    check_path_ids({"executionId": value})


@pytest.mark.parametrize("value", ["", "a b", "a/b", "a\n", "ä", "x" * 129, "a#b"])
def test_execution_id_cannot_be(value: str) -> None:
    with pytest.raises(InvalidRequestError):
        check_path_ids({"executionId": value})


@pytest.mark.parametrize("value", ["a", "a b", "a+b#c", "ä", "x" * 255, "#" * 255, "漢" * 255])
def test_task_id_can_be(value: str) -> None:
    check_path_ids({"taskId": value})


@pytest.mark.parametrize("value", ["", "x" * 256, "a\n", "a\x7f", "\x85", "\ud800", "\U0001f600" * 255])
def test_task_id_cannot_be(value: str) -> None:
    with pytest.raises(InvalidRequestError):
        check_path_ids({"taskId": value})


@pytest.mark.parametrize("value", ["50%", "a/b", "a\\b", "a?b", "a;b", ".", "..", "\ufffd"])
def test_task_id_that_a_path_may_have_changed_is_refused(value: str) -> None:
    with pytest.raises(IdNotInPathError, match="body of POST /elsewhere"):
        check_path_ids({"taskId": value}, "POST /elsewhere")


def test_execution_gets_its_id_from_the_caller_or_the_key_or_by_chance() -> None:
    keyed, other = KeyedRequest("key", "f"), KeyedRequest("other", "f")
    assert execution_id_for("tenant", "given", keyed) == "given"
    by_key = execution_id_for("tenant", None, keyed)
    assert execution_id_for("tenant", None, keyed) == by_key
    others = {
        execution_id_for("another", None, keyed),
        execution_id_for("tenant", None, other),
        execution_id_for("tenant", None, None),
        execution_id_for("tenant", None, None),
    }
    assert len(others | {by_key}) == 5


@pytest.mark.parametrize("key", ["", "x" * 256, "a\n", "ä"])
def test_key_that_cannot_be_used_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequestError):
        keyed_request("create", {"idempotency-key": key}, {})


@pytest.mark.parametrize("key", ["x" * 255, " ", "~", "a,a"])
def test_key_of_printable_characters_is_taken(key: str) -> None:
    keyed = keyed_request("create", {"idempotency-key": key}, {})
    assert keyed is not None
    assert keyed.key == key


def fingerprint(body: Any, operation: str = "create") -> str:
    keyed = keyed_request(operation, {"idempotency-key": "k"}, body)
    assert keyed is not None
    return keyed.fingerprint


def test_same_body_has_the_same_fingerprint_in_any_order_of_its_keys() -> None:
    body = {"tasks": [{"taskId": "a", "input": {"x": 1, "y": [1, 2]}}], "name": "n"}
    turned = {"name": "n", "tasks": [{"input": {"y": [1, 2], "x": 1}, "taskId": "a"}]}

    assert fingerprint(turned) == fingerprint(body)


def test_whatever_else_differs_makes_another_fingerprint() -> None:
    body: dict[str, Any] = {"tasks": [{"taskId": "a", "input": {"y": [1, 2]}}]}
    others: list[Any] = [
        {**body, "executionId": "x"},
        {**body, "name": None},
        {"tasks": [{"taskId": "a", "input": {"y": [2, 1]}}]},
        {"tasks": [{"taskId": "a", "input": {"y": [1, "2"]}}]},
        {"tasks": [{"taskId": "a", "input": {"y": [1, 2], "z": {}}}]},
        {"tasks": [{"taskId": "A", "input": {"y": [1, 2]}}]},
        [body],
    ]
    result = {fingerprint(item) for item in (body, *others)} | {fingerprint(body, "other")}
    assert len(result) == len(others) + 2


@pytest.mark.parametrize(
    ("claims", "client"),
    [
        ({"client_id": "fleet", "azp": "other", "sub": "third"}, "fleet"),
        ({"azp": "fleet", "sub": "other"}, "fleet"),
        ({"sub": "fleet@clients"}, "fleet@clients"),
        ({"client_id": "", "sub": "fleet"}, "fleet"),
        ({"client_id": "a\nb", "sub": "fleet"}, "fleet"),
        ({"client_id": 7, "azp": ["x"]}, None),
        ({"client_id": "\ud800"}, None),
        ({}, None),
        ({"client_id": "x" * 500}, "x" * MAX_CLIENT_CHARACTERS),
    ],
)
def test_client_is_the_one_that_the_token_names(claims: dict[str, Any], client: str | None) -> None:
    assert get_client(event_with(**claims)) == client


@pytest.mark.parametrize("context", [{}, {"authorizer": None}, {"authorizer": {"jwt": None}}])
def test_request_without_a_token_has_no_client(context: dict[str, Any]) -> None:
    assert get_client({"requestContext": context}) is None
