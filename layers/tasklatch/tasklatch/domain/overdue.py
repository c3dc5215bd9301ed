"""Detection of timers that did not fire and of ended tasks that were not followed up."""

from typing import Final

from tasklatch.domain.dependencies import retries_exhausted
from tasklatch.domain.task import Task
from tasklatch.domain.timer import timer_for

OVERDUE_MS: Final = 120_000
"""Delay in milliseconds after which an action counts as lost: one that is only slow must not run twice."""


LOST_CHANGE_MS: Final = 300_000
"""Delay in milliseconds after which a change that was not published counts as lost, if the one before it was."""

STREAM_MS: Final = 86_400_000
"""Time in milliseconds after which the table's stream no longer has a change."""


def is_overdue(task: Task, now: int) -> bool:
    """Return True if a task's timer, or the follow-up of its exhausted retries, is late by more than `OVERDUE_MS`.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    """
    if retries_exhausted(task):
        return now - task.updated_at > OVERDUE_MS
    timer = timer_for(task)
    return timer is not None and now - timer.due > OVERDUE_MS
