"""The local cloud's alarms: the template's are stored, and those on metric math are not evaluated."""

from typing import Any

import pytest
from ministack.services import cloudwatch
from ministack.services.cloudformation import provisioners

from local.cloud.emulator_alarms import MetricMathAlarms

COMMON = {"ComparisonOperator": "GreaterThanThreshold", "Threshold": 0, "EvaluationPeriods": 1}


@pytest.fixture(autouse=True)
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provisioners, "_cw_metric_alarm_record", provisioners._cw_metric_alarm_record)
    MetricMathAlarms().install()


def create(name: str, **properties: Any) -> dict[str, Any]:
    """Create an alarm as a stack does, and return what the emulator stores of it."""
    physical_id, _ = provisioners._RESOURCE_HANDLERS["AWS::CloudWatch::Alarm"]["create"](
        name, COMMON | properties, "tasklatch"
    )
    alarm: dict[str, Any] = cloudwatch._alarms.pop(physical_id)
    return alarm


def test_an_alarm_on_metric_math_is_stored_and_not_evaluated() -> None:
    metrics = [{"Id": "alarm", "Expression": "SUM(METRICS())"}]

    alarm = create("DeadLettersAlarm", Metrics=metrics, AlarmDescription="Dead-letter queue is not empty")

    cloudwatch._evaluate_alarm(alarm)
    assert (alarm["Metrics"], alarm["AlarmDescription"]) == (metrics, "Dead-letter queue is not empty")
    assert alarm["StateValue"] == "INSUFFICIENT_DATA"


def test_an_alarm_on_one_metric_is_as_it_was() -> None:
    alarm = create("ServerErrorsAlarm", Namespace="AWS/ApiGateway", MetricName="5xx")

    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/ApiGateway", "5xx")
    assert "Metrics" not in alarm
