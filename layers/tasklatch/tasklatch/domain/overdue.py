"""What should have happened by now."""

from typing import Final

from tasklatch.domain.dependencies import retries_exhausted
from tasklatch.domain.task import Task
from tasklatch.domain.timer import timer_for

OVERDUE_MS: Final = 120_000
"""How late a thing may be before it counts as lost, in milliseconds: what is only slow must not be driven twice."""


def is_overdue(task: Task, now: int) -> bool:
    """Whether a task's timer should have fired, or its end been noted, some time ago.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    """
    if retries_exhausted(task):
        return now - task.updated_at > OVERDUE_MS
    timer = timer_for(task)
    return timer is not None and now - timer.due > OVERDUE_MS
