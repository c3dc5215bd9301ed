"""Emulator patch: deploy alarms on metric math."""

from typing import Any

from ministack.services.cloudformation import provisioners


class MetricMathAlarms:
    """Alarms on metric math.

    Fault of ministack 1.5: it rejects a stack with an alarm on metric math. With this patch it stores such an alarm,
    and the alarm's state stays INSUFFICIENT_DATA: the local cloud shows the alarm, and only AWS evaluates it.
    """

    def __init__(self) -> None:
        self._make_record = provisioners._cw_metric_alarm_record  # noqa: SLF001 - it has no other place for this

    def install(self) -> None:
        """Patch the emulator."""
        provisioners._cw_metric_alarm_record = self.make_record  # noqa: SLF001

    def make_record(self, name: str, properties: dict[str, Any]) -> dict[str, Any]:
        """Return the record that the emulator stores for an alarm."""
        metrics = properties.get("Metrics")
        if not metrics:
            return dict(self._make_record(name, properties))
        # The emulator requires one metric here, and evaluates no alarm without a metric name
        placeholder = {**properties, "Metrics": None, "Namespace": "none", "MetricName": "none"}
        return {**self._make_record(name, placeholder), "Namespace": None, "MetricName": None, "Metrics": metrics}
