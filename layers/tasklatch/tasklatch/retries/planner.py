"""Retry planner: schedules the timers that tasks need, and closes tasks whose retries are exhausted."""

from collections.abc import Iterable

from tasklatch.domain.conditional_write import system_write
from tasklatch.domain.dependencies import retries_exhausted
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

    def plan(self, tasks: Iterable[Task]) -> None:
        """Close the tasks whose retries are exhausted, and schedule the timers of the others.

        A task whose retries are exhausted is sealed if its failure lets the execution continue; otherwise it is
        removed from the list of open tasks.

        Raises
        ------
        ServiceBusyError
            If a service stays busy until the deadline; retry the call.
        """
        timers = []
        for task in tasks:
            if retries_exhausted(task):
                self._close_failed(task)
            timer = timer_for(task)
            if timer is not None:
                timers.append(timer)
        self._timers.schedule(timers)

    def _close_failed(self, task: Task) -> None:
        if task.on_failure is OnFailure.CONTINUE:
            write = system_write(task, TaskStatus.COMPLETED_WITH_ERRORS, now=self._clock(), message=task.message)
            self._ledger.write(task.tenant, task.execution_id, write)
        else:
            self._ledger.close(task)
