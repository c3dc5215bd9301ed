"""When an attempt has been silent for too long."""

from dataclasses import dataclass

from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment (milliseconds since the epoch) at which an attempt is given up, and why."""

    due: int
    reason: str


def next_deadline(task: Task) -> Deadline | None:
    """Tell when the current attempt is given up if nothing more is heard of it.

    An attempt may wait `timeout_seconds` for a worker, and then take as long again to be done; once it is under way it
    may be silent for `heartbeat_timeout_seconds`.

    Returns
    -------
    Deadline or None
        None for an attempt that may take for ever, or that is not under way.
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
            heard = max(task.started_at, task.heartbeat_at or 0)
            due = heard + task.heartbeat_timeout_seconds * 1000
            candidates.append(Deadline(due, f"its worker was silent for {task.heartbeat_timeout_seconds} s"))
    return min(candidates, key=lambda candidate: candidate.due, default=None)
