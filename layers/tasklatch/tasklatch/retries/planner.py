"""Retry planner: schedules the timers that tasks need, and closes tasks whose retries are exhausted."""

from collections.abc import Iterable, Sequence

from tasklatch.domain.conditional_write import system_write
from tasklatch.domain.dependencies import retries_exhausted
from tasklatch.domain.errors import ServiceBusyError
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import OnFailure, Task
from tasklatch.domain.timer import timer_for
from tasklatch.ledger.ledger import Ledger
from tasklatch.retries.timer_scheduler import TimerScheduler
from tasklatch.runtime.clock import Clock


class RetryPlanner:
    """Planner of the next step of a task; every plan is safe to repeat."""

    def __init__(self, ledger: Ledger, timers: TimerScheduler, clock: Clock) -> None:
        self._ledger = ledger
        self._timers = timers
        self._clock = clock

    def plan(self, tasks: Iterable[Task]) -> Sequence[Task]:
        """Schedule the timers of tasks, and close those whose retries are exhausted.

        Timers come first, because they are due. A task whose retries are exhausted is sealed if its failure lets the
        execution continue; otherwise it is removed from the list of open tasks.

        Returns
        -------
        Sequence[Task]
            The tasks that a busy service left undone: plan them again.
        """
        planned = list(tasks)
        left = self._schedule(planned)
        for task in planned:
            if retries_exhausted(task) and not self._close(task):
                left.append(task)
        return left

    def _schedule(self, tasks: Sequence[Task]) -> list[Task]:
        timers = {timer: task for task in tasks if (timer := timer_for(task)) is not None}
        return [timers[timer] for timer in self._timers.schedule(list(timers))]

    def _close(self, task: Task) -> bool:
        try:
            self._close_failed(task)
        except ServiceBusyError:
            return False
        return True

    def _close_failed(self, task: Task) -> None:
        if task.on_failure is OnFailure.CONTINUE:
            write = system_write(task, TaskStatus.COMPLETED_WITH_ERRORS, now=self._clock(), message=task.message)
            self._ledger.write(task.tenant, task.execution_id, write)
        else:
            self._ledger.close(task)
