"""Timers: checks of an attempt at a later time."""

from dataclasses import dataclass
from enum import StrEnum

from tasklatch.domain.conditional_write import heartbeat_interval
from tasklatch.domain.deadline import next_deadline
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import TaskStatus, status_precedence
from tasklatch.domain.task import Task


class TimerKind(StrEnum):
    """Purpose of a timer."""

    RETRY = "retry"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class Timer:
    """Scheduled check of one attempt. It is never cancelled: the task's state when it fires decides what it does.

    Attributes
    ----------
    due
        Milliseconds since the epoch.
    """

    kind: TimerKind
    tenant: str
    execution_id: str
    task_id: str
    attempt: int
    due: int

    @property
    def precedence_interval(self) -> tuple[int, int]:
        """Precedence interval of a task for which the timer holds: the lower end, and the upper end (excluded).

        A retry follows a failure that can be retried; a deadline is that of a scheduled or running attempt.
        """
        if self.kind is TimerKind.DEADLINE:
            return heartbeat_interval(self.attempt)
        lowest = status_precedence(TaskStatus.TIMED_OUT, self.attempt)
        return lowest, status_precedence(TaskStatus.FAILED_WITH_TERMINAL_ERROR, self.attempt)


def timer_for(task: Task) -> Timer | None:
    """Return the timer that a task needs now, for its next attempt or for its deadline; None if it needs none."""
    decision = decide_retry(task)
    if decision is not None:
        return _timer(TimerKind.RETRY, task, decision.not_before) if decision.not_before is not None else None
    deadline = next_deadline(task)
    return _timer(TimerKind.DEADLINE, task, deadline.due) if deadline else None


def _timer(kind: TimerKind, task: Task, due: int) -> Timer:
    return Timer(kind, task.tenant, task.execution_id, task.task_id, task.attempt, due)
