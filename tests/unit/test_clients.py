"""AWS clients of the functions."""

import tomllib
from collections.abc import Iterator
from typing import Any, Final

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders

from local.handlers import ROOT
from tasklatch.runtime import clients

CALLS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "dynamodb": ("list_tables", {}),
    "sqs": ("list_queues", {}),
    "scheduler": ("list_schedules", {}),
    "events": ("list_event_buses", {}),
}


@pytest.fixture(autouse=True)
def _new_clients() -> Iterator[None]:
    yield
    for name in CALLS:
        getattr(clients, name).cache_clear()


def test_user_agent_is_this_program_in_its_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"{project['name']}/{project['version']}" == clients.USER_AGENT


@pytest.mark.parametrize("service", sorted(CALLS))
def test_each_client_sends_it(service: str) -> None:
    # given
    sent: list[Any] = []

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        sent.append(request)
        raw: Any = type("Raw", (), {"stream": lambda *_: [b"{}"]})()
        return AWSResponse(request.url, 200, HTTPHeaders(), raw)

    client: Any = getattr(clients, service)()
    client.meta.events.register("before-send", answer)

    # when
    operation, arguments = CALLS[service]
    getattr(client, operation)(**arguments)

    # then: Powertools and boto3 each add their own version, which is all that is composed
    (user_agent,) = (request.headers["User-Agent"].decode() for request in sent)
    assert user_agent.startswith(f"{clients.USER_AGENT} Botocore/")
    assert "ua/2" not in user_agent


def test_clients_share_one_session() -> None:
    assert clients.dynamodb() is clients.dynamodb()
    assert clients._session() is clients._session()
