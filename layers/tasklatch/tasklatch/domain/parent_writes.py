"""Writes on a task that brings others: it starts, and it is completed once all of these have ended."""

from tasklatch.domain.conditional_write import ConditionalWrite, system_write
from tasklatch.domain.status import TaskStatus, status_precedence
from tasklatch.domain.task import Task


def parent_start_write(task: Task, *, now: int) -> ConditionalWrite:
    """Derive the write that starts a task which brings others.

    The precedence stays that of a waiting attempt: none is open, so that nobody can report on such a task.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    """
    waiting = status_precedence(TaskStatus.PENDING, task.attempt)
    return system_write(task, TaskStatus.IN_PROGRESS, now=now)._replace(
        precedence_from=waiting,
        max_precedence=status_precedence(TaskStatus.SCHEDULED, task.attempt),
        precedence=waiting,
    )


def parent_end_write(task: Task, *, now: int) -> ConditionalWrite:
    """Derive the write that completes a task all of whose children have ended.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    """
    return system_write(task, TaskStatus.COMPLETED, now=now)._replace(
        precedence_from=status_precedence(TaskStatus.PENDING, task.attempt)
    )
