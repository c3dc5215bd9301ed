"""Setup that all tests share: the environment of the functions, and the figures that tests print."""

import os

import pytest

from tasklatch.runtime import clients
from tasklatch.runtime.attempt_ids import attempt_ids
from tasklatch.runtime.settings import get_settings

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "TABLE_NAME": "ledger",
    "TENANT_CLAIM": "",
    "RETENTION_DAYS": "90",
    "EVENT_BUS_NAME": "bus",
    "TIMER_QUEUE_URL": "https://queue/timers",
    "ADVANCE_QUEUE_URL": "https://queue/advance",
    "DEAD_LETTER_QUEUE_URL": "https://queue/failures",
    "STREAM_FAILURES_BUCKET": "failures",
    "TRIGGER_QUEUE_URL": "https://queue/triggers",
    "TRIGGER_QUEUE_ARN": "arn:triggers",
    "TRIGGER_FAILURES_ARN": "arn:trigger-failures",
    "TRIGGER_GROUP": "trigger-group",
    "TRIGGER_ROLE_ARN": "arn:trigger-role",
    "LIVE_URL": "wss://live",
    "LIVE_CALLBACK_URL": "https://live",
    "POWERTOOLS_METRICS_NAMESPACE": "Tasklatch",
    "POWERTOOLS_SERVICE_NAME": "tests",
    "POWERTOOLS_LOG_LEVEL": "INFO",
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}

# The functions' logger and metrics read theirs when they are imported
os.environ |= {name: value for name, value in ENVIRONMENT.items() if name.startswith("POWERTOOLS_")}


@pytest.fixture(autouse=True)
def _environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables of a deployment, and drop the settings that an earlier test has cached."""
    if request.node.get_closest_marker("e2e"):
        return
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    get_settings.cache_clear()
    attempt_ids.cache_clear()
    clients.dynamodb.cache_clear()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures of tests (`record_property`), whichever process they ran in."""
    figures = [
        (report.nodeid, name, value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
    ]
    if figures:
        terminalreporter.section("figures")
        for nodeid, name, value in sorted(figures, key=lambda figure: figure[:2]):
            module, _, test = nodeid.partition("::")
            terminalreporter.line(f"{module.rpartition('/')[2]}::{test}: {name}: {value}")
