"""What is told to the outside of each change: one announcement, and only one."""

from dataclasses import dataclass
from enum import StrEnum

from tasklatch.domain.dependencies import retries_exhausted
from tasklatch.domain.execution import Execution
from tasklatch.domain.failure import FAILURE_POLICY
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task


class DetailType(StrEnum):
    """The kinds of announcement; on the event bus, the detail type."""

    TASK_SCHEDULED = "Task Scheduled"
    TASK_STATUS_CHANGED = "Task Status Changed"
    TASK_NEEDS_ATTENTION = "Task Needs Attention"
    EXECUTION_STATUS_CHANGED = "Execution Status Changed"


@dataclass(frozen=True, slots=True)
class Change:
    """One applied transition of a task; `before` is None where the task was created."""

    task: Task
    before: Task | None

    @property
    def is_a_sign_of_life(self) -> bool:
        """Whether work goes on as before: the timer that is armed looks again by itself."""
        is_running = self.task.status is TaskStatus.IN_PROGRESS
        return is_running and self.before is not None and self.before.precedence == self.task.precedence


@dataclass(frozen=True, slots=True)
class ExecutionChange:
    """One applied transition of an execution; `before` is None where it was created."""

    execution: Execution
    before: Execution | None


def attention_reason(task: Task) -> str | None:
    """Why a person should look at a task; None where nobody need.

    Failures that only an administrator can mend, and tasks whose retries are spent, ask for attention.
    """
    reason = task.failure_reason
    if task.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR and reason is not None:
        return f"{reason}: an administrator must act" if FAILURE_POLICY[reason].needs_attention else None
    if task.status in (TaskStatus.FAILED, TaskStatus.TIMED_OUT) and retries_exhausted(task):
        return "its retries are spent"
    return None


def detail_type_for(task: Task) -> DetailType:
    """The one announcement that a change of this task makes."""
    if task.status is TaskStatus.SCHEDULED:
        return DetailType.TASK_SCHEDULED
    return DetailType.TASK_NEEDS_ATTENTION if attention_reason(task) else DetailType.TASK_STATUS_CHANGED
