"""What became of what a worker said."""

from dataclasses import dataclass

from tasklatch.domain.report import Verdict
from tasklatch.domain.task import Task


@dataclass(frozen=True, slots=True)
class ReportResult:
    """What became of a report: the verdict, and the task after it."""

    verdict: Verdict
    task: Task


@dataclass(frozen=True, slots=True)
class HeartbeatResult:
    """What became of a heartbeat: whether the worker should go on, and the task; `reason` says why not."""

    should_continue: bool
    reason: str | None
    task: Task
