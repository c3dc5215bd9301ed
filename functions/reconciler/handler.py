"""Reconciliation: every few minutes, finds tasks and executions that nothing else would move on."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Final

from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import EventServices

TIME_FOR_A_PAGE_MS: Final = 15_000
_METRICS: Final = {
    "overdue_tasks": "OverdueTasks",
    "stuck_executions": "StuckExecutions",
    "lost_changes": "LostChanges",
    "faults": "ReconcilerFaults",
}


@logger.inject_lambda_context(correlation_id_path=correlation_paths.EVENT_BRIDGE, clear_state=True)
@metrics.log_metrics
def handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Reconcile unfinished executions while time remains; return the counts of `ReconcileSummary`."""
    remaining_ms = context.get_remaining_time_in_millis
    services = EventServices(remaining_ms)
    summary = asdict(services.reconciler.run(_while_time(remaining_ms)))
    enlisted = services.enlisting.run(_while_time(remaining_ms))
    logger.info("reconciled", extra={**summary, "enlisted": enlisted})
    for count, name in _METRICS.items():
        metrics.add_metric(name, MetricUnit.Count, summary[count])
    return summary


def _while_time(remaining_ms: Callable[[], int]) -> Iterator[bool]:
    while remaining_ms() > TIME_FOR_A_PAGE_MS:
        yield True
