"""Reconciliation: every few minutes, finds tasks and executions that nothing else would move on."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.retries.reconciler import Reconciler
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.services import EventServices

TIME_FOR_A_PAGE_MS: Final = 15_000


@logger.inject_lambda_context(correlation_id_path=correlation_paths.EVENT_BRIDGE, clear_state=True)
@metrics.log_metrics
def handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Reconcile open tasks and executions while time remains; return the counts of `ReconcileSummary`."""
    remaining_ms = context.get_remaining_time_in_millis
    reconciler: Reconciler = EventServices(remaining_ms).reconciler
    summary = reconciler.run(_while_time(remaining_ms))
    log_fields = {
        "looked_at": summary.looked_at,
        "overdue_tasks": summary.overdue_tasks,
        "stuck_executions": summary.stuck_executions,
    }
    logger.info("reconciled", extra=log_fields)
    metrics.add_metric("OverdueTasks", MetricUnit.Count, summary.overdue_tasks)
    metrics.add_metric("StuckExecutions", MetricUnit.Count, summary.stuck_executions)
    return log_fields


def _while_time(remaining_ms: Callable[[], int]) -> Iterator[bool]:
    while remaining_ms() > TIME_FOR_A_PAGE_MS:
        yield True
