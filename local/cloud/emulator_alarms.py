"""Lets the emulator deploy alarms on metric math.

ministack 1.5 refuses a stack with an alarm on metric math. Here it stores such an alarm, whose state then stays
INSUFFICIENT_DATA: the local cloud shows which alarms there are, and only AWS evaluates them.
"""

from typing import Any

from ministack.services.cloudformation import provisioners


class MetricMathAlarms:
    """The emulator's alarms, those on metric math among them."""

    def __init__(self) -> None:
        self._make_record = provisioners._cw_metric_alarm_record  # noqa: SLF001 - it has no other place for this

    def make_record(self, name: str, properties: dict[str, Any]) -> dict[str, Any]:
        """Return what the emulator stores of an alarm."""
        metrics = properties.get("Metrics")
        if not metrics:
            return dict(self._make_record(name, properties))
        # It insists on one metric, and evaluates no alarm that has none
        placeholder = {**properties, "Metrics": None, "Namespace": "none", "MetricName": "none"}
        return {**self._make_record(name, placeholder), "Namespace": None, "MetricName": None, "Metrics": metrics}


def store_metric_math_alarms() -> None:
    """Let the emulator store alarms on metric math."""
    provisioners._cw_metric_alarm_record = MetricMathAlarms().make_record  # noqa: SLF001
