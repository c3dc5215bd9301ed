"""Deadlines of attempts: the time at which a silent or slow attempt is given up."""

from dataclasses import dataclass

from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task


@dataclass(frozen=True, slots=True)
class Deadline:
    """Time (milliseconds since the epoch) at which an attempt is given up, and the reason."""

    due: int
    reason: str


def next_deadline(task: Task) -> Deadline | None:
    """Return the next deadline of the current attempt, if no further report or heartbeat arrives.

    An attempt may wait `timeout_seconds` for a worker and may then run as long again; while it runs, it may be silent
    for `heartbeat_timeout_seconds`.

    Returns
    -------
    Deadline or None
        None for an attempt without a time limit, or one that is neither scheduled nor in progress.
    """
    candidates: list[Deadline] = []
    if task.status is TaskStatus.SCHEDULED and task.timeout_seconds and task.scheduled_at is not None:
        due = task.scheduled_at + task.timeout_seconds * 1000
        candidates.append(Deadline(due, f"no worker started it within {task.timeout_seconds} s"))
    if task.status is TaskStatus.IN_PROGRESS and task.started_at is not None:
        if task.timeout_seconds:
            due = task.started_at + task.timeout_seconds * 1000
            candidates.append(Deadline(due, f"it was not done within {task.timeout_seconds} s"))
        if task.heartbeat_timeout_seconds:
            last_signal = max(task.started_at, task.heartbeat_at or 0)
            due = last_signal + task.heartbeat_timeout_seconds * 1000
            candidates.append(Deadline(due, f"its worker was silent for {task.heartbeat_timeout_seconds} s"))
    return min(candidates, key=lambda candidate: candidate.due, default=None)
