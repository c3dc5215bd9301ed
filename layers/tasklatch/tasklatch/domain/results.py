"""Results of reports and heartbeats."""

from typing import NamedTuple

from tasklatch.domain.report import Verdict
from tasklatch.domain.task import Task


class ReportResult(NamedTuple):
    """Result of a report: the verdict, and the task afterwards.

    Attributes
    ----------
    is_stored
        False if the report was ignored, and the task's version has as many ignored reports as are stored.
    """

    verdict: Verdict
    task: Task
    is_stored: bool = True


class HeartbeatResult(NamedTuple):
    """Result of a heartbeat: continue or stop, the reason to stop, and the task."""

    should_continue: bool
    reason: str | None
    task: Task
