"""Reconciliation: every few minutes, finds tasks and executions that nothing else would move on."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from tasklatch.ledger.ledger import Ledger
from tasklatch.retries.planner import RetryPlanner
from tasklatch.retries.reconciler import Reconciler
from tasklatch.retries.timer_scheduler import TimerScheduler
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clients import dynamodb, scheduler, sqs
from tasklatch.runtime.clock import system_clock
from tasklatch.runtime.observability import logger, metrics
from tasklatch.runtime.settings import get_settings
from tasklatch.workflow.advancer import WorkflowAdvancer
from tasklatch.workflow.closer import ExecutionCloser

TIME_FOR_A_PAGE_MS: Final = 15_000


@logger.inject_lambda_context(correlation_id_path=correlation_paths.EVENT_BRIDGE, clear_state=True)
@metrics.log_metrics
def handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Reconcile open tasks and executions while time remains; return the counts of `ReconcileSummary`."""
    remaining_ms = context.get_remaining_time_in_millis
    summary = _reconciler(Backoff(remaining_ms)).run(_while_time(remaining_ms))
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


def _reconciler(backoff: Backoff) -> Reconciler:
    client, settings = dynamodb(), get_settings()
    ledger = Ledger(client, settings, system_clock, backoff)
    timers = TimerScheduler(sqs(), scheduler(), settings, system_clock, backoff)
    retry_planner = RetryPlanner(ledger, timers, system_clock)
    advancer = WorkflowAdvancer(client, settings, system_clock, backoff)
    closer = ExecutionCloser(client, settings, system_clock, backoff)
    return Reconciler(client, settings, retry_planner, advancer, closer, system_clock, backoff)
