"""Changes and the event that each of them publishes: exactly one."""

from dataclasses import dataclass
from enum import StrEnum

from tasklatch.domain.dependencies import retries_exhausted
from tasklatch.domain.execution import Execution
from tasklatch.domain.failure import FAILURE_POLICY
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task


class DetailType(StrEnum):
    """Detail type of a published event on the event bus."""

    TASK_SCHEDULED = "Task Scheduled"
    TASK_STATUS_CHANGED = "Task Status Changed"
    TASK_NEEDS_ATTENTION = "Task Needs Attention"
    EXECUTION_STATUS_CHANGED = "Execution Status Changed"


@dataclass(frozen=True, slots=True)
class Change:
    """One applied transition of a task; `before` is None if the task was created."""

    task: Task
    before: Task | None

    @property
    def only_continues(self) -> bool:
        """True if a running attempt only continues: its scheduled timer will check the task again by itself."""
        is_running = self.task.status is TaskStatus.IN_PROGRESS
        return is_running and self.before is not None and self.before.precedence == self.task.precedence


@dataclass(frozen=True, slots=True)
class ExecutionChange:
    """One applied transition of an execution; `before` is None if it was created."""

    execution: Execution
    before: Execution | None


def attention_reason(task: Task) -> str | None:
    """Return the reason why a task needs a person's attention; None if it does not.

    A failure that only an administrator can fix, and a task without retries left, need attention.
    """
    reason = task.failure_reason
    if task.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR and reason is not None:
        return f"{reason}: an administrator must act" if FAILURE_POLICY[reason].needs_attention else None
    if task.status in (TaskStatus.FAILED, TaskStatus.TIMED_OUT) and retries_exhausted(task):
        return "no attempts left"
    return None


def detail_type_for(task: Task) -> DetailType:
    """Return the detail type of the one event that a change of this task publishes."""
    if task.status is TaskStatus.SCHEDULED:
        return DetailType.TASK_SCHEDULED
    return DetailType.TASK_NEEDS_ATTENTION if attention_reason(task) else DetailType.TASK_STATUS_CHANGED
