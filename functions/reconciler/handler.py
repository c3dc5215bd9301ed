"""The safety net: every few minutes it looks for what nothing else would drive on any more."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from aws_lambda_powertools.metrics import MetricUnit

from tasklatch.aws.clients import dynamodb, scheduler, sqs
from tasklatch.aws.follow_up import FollowUp
from tasklatch.aws.ledger import Ledger
from tasklatch.aws.patience import Patience
from tasklatch.aws.safety_net import SafetyNet
from tasklatch.aws.timers import Timers
from tasklatch.aws.workflow import Workflow
from tasklatch.clock import system_clock
from tasklatch.observability import logger, metrics
from tasklatch.settings import settings

TIME_FOR_A_PAGE_MS: Final = 15_000


def handler(_event: dict[str, Any], context: Any) -> dict[str, int]:
    """Go on through what is open, and say what was found."""
    remaining_ms = context.get_remaining_time_in_millis
    found = _safety_net(Patience(remaining_ms)).run(_while_time(remaining_ms))
    told = {
        "looked_at": found.looked_at,
        "overdue_tasks": found.overdue_tasks,
        "stuck_executions": found.stuck_executions,
    }
    logger().info("reconciled", extra=told)
    metrics().add_metric("OverdueTasks", MetricUnit.Count, found.overdue_tasks)
    metrics().add_metric("StuckExecutions", MetricUnit.Count, found.stuck_executions)
    metrics().flush_metrics()
    return told


def _while_time(remaining_ms: Callable[[], int]) -> Iterator[bool]:
    while remaining_ms() > TIME_FOR_A_PAGE_MS:
        yield True


def _safety_net(patience: Patience) -> SafetyNet:
    client, found = dynamodb(), settings()
    ledger = Ledger(client, found, system_clock, patience)
    timers = Timers(sqs(), scheduler(), found, system_clock, patience)
    follow_up = FollowUp(ledger, timers, system_clock)
    workflow = Workflow(client, found, system_clock, patience)
    return SafetyNet(client, found, follow_up, workflow, system_clock, patience)
