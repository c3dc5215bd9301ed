"""The environment that the functions are deployed with, the same for every test that does not start a cloud."""

import pytest

from tasklatch.aws import clients
from tasklatch.settings import settings

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "TABLE_NAME": "ledger",
    "TENANT_CLAIM": "",
    "RETENTION_DAYS": "90",
    "POWERTOOLS_METRICS_NAMESPACE": "Tasklatch",
    "POWERTOOLS_SERVICE_NAME": "tests",
    "POWERTOOLS_LOG_LEVEL": "INFO",
}


@pytest.fixture(autouse=True)
def _environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what a deployment sets, and forget what an earlier test's settings made."""
    if request.node.get_closest_marker("e2e"):
        return
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    clients.dynamodb.cache_clear()
