"""Sweep of timers: every minute, sends those that are due soon to their queue."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import EventServices

TIME_FOR_A_PAGE_MS: Final = 10_000


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Send the timers that are due soon while time remains; return the counts of `SweepSummary`."""
    remaining_ms = context.get_remaining_time_in_millis
    summary = EventServices(remaining_ms).timer_sweep.run(_while_time(remaining_ms))
    log_fields = {"sent": summary.sent, "left": summary.left, "faults": summary.faults}
    logger.info("timers swept", extra=log_fields)
    if any(log_fields.values()):
        metrics.add_metric("SweptTimers", MetricUnit.Count, summary.sent)
        metrics.add_metric("SweepFaults", MetricUnit.Count, summary.faults)
    return log_fields


def _while_time(remaining_ms: Callable[[], int]) -> Iterator[bool]:
    while remaining_ms() > TIME_FOR_A_PAGE_MS:
        yield True
