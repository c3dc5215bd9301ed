"""Messages of the advance queue: what follows from changes, and the continuation of a sweep over all tasks."""

from dataclasses import dataclass
from enum import StrEnum

from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus


class Advance(StrEnum):
    """Kind of work that a message requests."""

    TASK = "task"
    """Schedule the dependents of a terminal task, or fail its execution; end the execution if it is finished."""
    CHILDREN = "children"
    """Create the children of a task that has started, and complete it if all of them have ended."""
    COMPLETE = "complete"
    """End an execution if all its tasks are terminal."""
    CANCEL = "cancel"
    """Cancel the open tasks of an execution that has ended."""
    REOPEN = "reopen"
    """Grant one more attempt to what failed or was cancelled, then let the execution run."""
    SCHEDULE = "schedule"
    """Schedule the waiting tasks of an execution that runs again, or that got its slot."""
    RESUME = "resume"
    """Let an execution run again whose failure a success took back; if none did, cancel its open tasks."""
    SLOT = "slot"
    """Give the free slots of a concurrency key to executions that wait; first free what the execution holds no more."""


@dataclass(frozen=True, slots=True)
class SweepPosition:
    """Position of a sweep over all tasks of an execution, and the state of the execution that it holds for.

    Attributes
    ----------
    after
        The sort key of the last task of the pages that are done; None before the first page.
    version, additions
        The execution's, when the sweep began: a sweep of a completion is worth nothing once one of them has changed.
    outcome
        The status that the execution ends with, by the tasks of the pages that are done.
    """

    version: int
    additions: int
    after: str | None = None
    outcome: ExecutionStatus = ExecutionStatus.COMPLETED

    def holds_for(self, execution: Execution) -> bool:
        """Return True if the execution has neither changed nor got tasks since the sweep began."""
        return (self.version, self.additions) == (execution.version, execution.additions)


@dataclass(frozen=True, slots=True)
class AdvanceMessage:
    """One message of the advance queue.

    Attributes
    ----------
    task_id
        The terminal task or the parent, in a message about one.
    is_final
        True if that task can never be reopened, so that it need not be read again.
    position
        Where a sweep goes on; None where it begins.
    concurrency_key
        The key in a message about its slots; such a message may be about no execution.
    """

    kind: Advance
    tenant: str
    execution_id: str
    task_id: str = ""
    is_final: bool = False
    position: SweepPosition | None = None
    concurrency_key: str = ""


def start_of_sweep(execution: Execution) -> SweepPosition:
    """Return the position before the first task of an execution as it was read."""
    return SweepPosition(execution.version, execution.additions)
