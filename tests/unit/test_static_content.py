"""What is open to anyone is small, cached and confined: compression, entity tags, headers, and the switch."""

import base64
import gzip
import json
import re
from hashlib import sha256
from typing import Any

import pytest

from local.describe import DESCRIPTION
from local.handlers import load_handler
from tasklatch.api.static_content import accepts_gzip
from tasklatch.runtime.settings import get_settings
from tests.api_description import check_answer
from tests.factories import Context, Reply, api_event

ROUTES = ("GET /v1/openapi.json", "GET /v1/docs")


def answer(route: str, **headers: str) -> dict[str, Any]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    response: dict[str, Any] = load_handler("api_description").handler(api_event(route, headers=sent), Context())
    return response


def ask(route: str, **headers: str) -> Reply:
    response = answer(route, **headers)
    return Reply(response["statusCode"], response["headers"], response["body"])


@pytest.mark.parametrize(("route", "most"), [("GET /v1/openapi.json", 20_000), ("GET /v1/docs", 460_000)])
def test_who_accepts_gzip_gets_the_same_content_in_few_bytes(route: str, most: int) -> None:
    plain, packed = answer(route), answer(route, accept_encoding="br, gzip;q=0.8")
    data = base64.b64decode(packed["body"], validate=True)
    assert (plain["isBase64Encoded"], packed["isBase64Encoded"]) == (False, True)
    assert packed["headers"]["content-encoding"] == "gzip"
    assert "content-encoding" not in plain["headers"]
    assert gzip.decompress(data) == plain["body"].encode()
    assert len(data) < most


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("GZIP", True),
        ("deflate , gzip ; q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*", True),
        ("*;q=0", False),
        ("br;q=1, *;q=0.1", True),
        ("gzip;q=x", False),
        ("xgzip", False),
    ],
)
def test_gzip_is_sent_only_where_it_is_accepted(accepted: str, expected: bool) -> None:
    assert accepts_gzip(accepted) is expected


@pytest.mark.parametrize("route", ROUTES)
def test_who_has_the_current_copy_gets_304_without_a_body(route: str) -> None:
    first = ask(route)
    tag = first.headers["etag"]
    for listed in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = ask(route, if_none_match=listed, accept_encoding="gzip")
        assert (again.status, again.text) == (304, "")
        assert again.headers["etag"] == tag
        assert again.headers["cache-control"] == first.headers["cache-control"] == "public, max-age=300"
        check_answer(route, again)
    assert ask(route, if_none_match='W/"another"').status == 200
    assert first.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize("route", ROUTES)
def test_browser_is_confined(route: str) -> None:
    headers = ask(route).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy


def test_page_runs_its_own_scripts_and_no_others_and_loads_from_this_host_alone() -> None:
    page = ask("GET /v1/docs")
    scripts = re.findall(r"<script>(.*?)</script>", page.text, flags=re.DOTALL)
    admitted = re.search(r"script-src ([^;]*);", page.headers["content-security-policy"])
    assert admitted is not None
    digests = [f"'sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts]
    assert admitted[1].split() == digests
    assert 'url: "openapi.json"' in scripts[-1]
    assert "validatorUrl: null" in scripts[-1]
    rest = re.sub(r"<script>.*?</script>|<style>.*?</style>", "", page.text, flags=re.DOTALL)
    assert not re.search(r"https?:|src=|href=|<script", rest)


def test_description_is_the_committed_one() -> None:
    reply = ask("GET /v1/openapi.json")
    assert json.loads(reply.text) == json.loads(DESCRIPTION.read_text())


@pytest.mark.parametrize("route", ROUTES)
def test_description_can_be_switched_off_and_health_stays(route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_DOCS", "false")
    get_settings.cache_clear()
    refused = ask(route)
    assert refused.status == 404
    assert refused.body["type"] == "urn:tasklatch:problem:not-found"
    check_answer(route, refused)
    assert ask("GET /v1/health").status == 200
