"""Results of reports and heartbeats."""

from dataclasses import dataclass

from tasklatch.domain.report import Verdict
from tasklatch.domain.task import Task


@dataclass(frozen=True, slots=True)
class ReportResult:
    """Result of a report: the verdict, and the task afterwards."""

    verdict: Verdict
    task: Task


@dataclass(frozen=True, slots=True)
class HeartbeatResult:
    """Result of a heartbeat: continue or stop, the reason to stop, and the task."""

    should_continue: bool
    reason: str | None
    task: Task
