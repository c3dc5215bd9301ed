"""The same over real HTTP, with real tokens, through the local cloud's gateway and its functions' own processes."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from local.cloud.stack import Stack
from local.cloud.tokens import fetch_token
from tests.api_description import description
from tests.api_gateway import route_of
from tests.factories import ALL_SCOPES, Reply
from tests.fuzzing import (
    NAMES,
    HostileRequest,
    Target,
    cases,
    check_case,
    check_reply,
    fuzz_settings,
    hostile_requests,
    keys_of_description,
    made_targets,
)

KEYS: Final = keys_of_description()
CASES_A_ROUTE: Final = 8
HOSTILE_A_ROUTE: Final = 6


def described(key: str) -> Any:
    method, _, path = key.partition(" ")
    return description()["paths"][path][method.lower()]


@pytest.fixture(scope="session")
def tokens(stack: Stack) -> dict[str, str]:
    return {name: fetch_token(stack, name) for name in ("worker", "reader", "operator")}


@pytest.fixture(scope="session")
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A caller who has no token of his own."""
    with httpx.Client(base_url=stack.api_url, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def targets(operator: httpx.Client) -> list[Target]:
    return made_targets(operator)


@pytest.fixture(scope="session")
def session(tokens: dict[str, str]) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {tokens['operator']}"
        yield session


@pytest.mark.parametrize("key", KEYS)
def test_whatever_the_description_leads_to_is_answered_as_described(
    key: str, stack: Stack, session: requests.Session, targets: list[Target], record_property: Any
) -> None:
    answers: Counter[int] = Counter()

    @fuzz_settings(CASES_A_ROUTE, repeatable=True)
    @given(cases(key, targets))
    def answered(drawn: tuple[Any, bool]) -> None:
        case, aimed = drawn
        response = case.call(base_url=stack.api_url, session=session)
        answers[response.status_code] += 1
        check_case(case, response, aimed=aimed)

    answered()
    record_property("answers", str(dict(sorted(answers.items()))))


@pytest.mark.parametrize("key", [key for key in KEYS if "requestBody" in described(key)])
def test_hostile_request_is_answered_as_described(
    key: str, operator: httpx.Client, targets: list[Target], record_property: Any
) -> None:
    answers: Counter[int] = Counter()
    method, _, path = key.partition(" ")

    @fuzz_settings(HOSTILE_A_ROUTE, repeatable=True)
    @given(hostile_requests(key, targets), st.sampled_from(targets))
    def answered(hostile: HostileRequest, target: Target) -> None:
        names = {name: quote(value, safe="") for name, value in target.names.items()}
        headers = [(name.encode(), value.encode("latin-1")) for name, value in hostile.headers.items()]
        response = operator.request(
            method,
            path.format(**names),
            headers=[(b"content-type", b"application/json"), *headers],
            params=list(hostile.query),
            content=hostile.body,
        )
        answers[response.status_code] += 1
        check_reply(key, Reply(response.status_code, response.headers, response.text))

    answered()
    record_property("answers", str(dict(sorted(answers.items()))))


@pytest.mark.parametrize("key", [key for key in KEYS if described(key)["security"]])
def test_route_is_closed_to_broken_tokens_and_other_scopes(
    key: str, http: httpx.Client, tokens: dict[str, str]
) -> None:
    # given tokens that are broken, and one that is good but for another purpose
    ((scope,),) = [item["token"] for item in described(key)["security"]]
    method, _, path = key.partition(" ")
    head, claims, signature = tokens["operator"].split(".")
    more = {**json.loads(base64.urlsafe_b64decode(f"{claims}==")), "scope": ALL_SCOPES, "org": "other"}
    changed = base64.urlsafe_b64encode(json.dumps(more).encode()).decode().rstrip("=")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    broken = {
        "none": None,
        "empty": "Bearer",
        "no JWT": "Bearer nonsense",
        "another scheme": f"Basic {tokens['operator']}",
        "no signature": f"Bearer {head}.{claims}.",
        "another signature": f"Bearer {head}.{claims}.{signature[::-1]}",
        "other claims": f"Bearer {head}.{changed}.{signature}",
        "no algorithm": f"Bearer {unsigned}.{changed}.",
    }
    other = tokens["reader" if scope == "tasklatch/report" else "worker"]

    # when
    def ask(authorization: str | None) -> httpx.Response:
        headers = {} if authorization is None else {"Authorization": authorization}
        return http.request(method, path.format(**dict.fromkeys(NAMES, "x")), headers=headers)

    refused = {name: ask(authorization).status_code for name, authorization in broken.items()}
    forbidden = ask(f"Bearer {other}")

    # then
    assert refused == dict.fromkeys(broken, 401)
    assert forbidden.status_code == 403
    check_reply(key, Reply(forbidden.status_code, forbidden.headers, forbidden.text))


@pytest.mark.parametrize("path", sorted(description()["paths"]))
def test_method_that_is_no_route_is_not_found(path: str, operator: httpx.Client) -> None:
    sent = path.format(**dict.fromkeys(NAMES, "x"))
    others = [method for method in ("GET", "PUT", "POST", "PATCH", "DELETE") if route_of(method, sent) is None]

    replies = [operator.request(method, sent) for method in others]

    assert {reply.status_code for reply in replies} == {404}
    assert all(list(reply.json()) == ["message"] for reply in replies)
