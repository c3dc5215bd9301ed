"""The same over real HTTP, with real tokens, through the local cloud's gateway and its functions' own processes."""

from typing import Any, Final

import httpx
import pytest
import requests
from hypothesis import given

from local.stack import Stack
from local.tokens import fetch_token
from tests.fuzzing import (
    Target,
    cases,
    check_case,
    fuzz_settings,
    keys_of_description,
    made_targets,
)

KEYS: Final = keys_of_description()
CASES_A_ROUTE: Final = 12
FREE: Final = frozenset({"GET /v1/health", "GET /v1/openapi.json", "GET /v1/docs"})


@pytest.fixture(scope="session")
def tokens(stack: Stack) -> dict[str, str]:
    return {name: fetch_token(stack, name) for name in ("worker", "reader", "operator")}


@pytest.fixture(scope="session")
def targets(stack: Stack, tokens: dict[str, str]) -> list[Target]:
    headers = {"Authorization": f"Bearer {tokens['operator']}"}
    with httpx.Client(base_url=stack.api_url, headers=headers, timeout=30, trust_env=False) as caller:
        return made_targets(caller)


@pytest.fixture(scope="session")
def session(tokens: dict[str, str]) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {tokens['operator']}"
    return session


@pytest.mark.parametrize("key", KEYS)
def test_whatever_the_description_leads_to_is_answered_as_described(
    key: str, stack: Stack, session: requests.Session, targets: list[Target], record_property: Any
) -> None:
    answers: dict[int, int] = {}

    @fuzz_settings(CASES_A_ROUTE, repeatable=True)
    @given(cases(key, targets))
    def answered(drawn: tuple[Any, bool]) -> None:
        case, aimed = drawn
        response = case.call(base_url=stack.api_url, session=session)
        answers[response.status_code] = answers.get(response.status_code, 0) + 1
        check_case(case, response, aimed=aimed)

    answered()
    record_property("answers", dict(sorted(answers.items())))
