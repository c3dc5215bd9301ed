"""Timers: checks of an attempt at a later time."""

from dataclasses import dataclass
from enum import StrEnum

from tasklatch.domain.deadline import next_deadline
from tasklatch.domain.retry import decide_retry
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


def timer_for(task: Task) -> Timer | None:
    """Return the timer that a task needs now, for its next attempt or for its deadline; None if it needs none."""
    decision = decide_retry(task)
    if decision is not None:
        return _timer(TimerKind.RETRY, task, decision.not_before) if decision.not_before is not None else None
    deadline = next_deadline(task)
    return _timer(TimerKind.DEADLINE, task, deadline.due) if deadline else None


def _timer(kind: TimerKind, task: Task, due: int) -> Timer:
    return Timer(kind, task.tenant, task.execution_id, task.task_id, task.attempt, due)
