"""What has to follow from how a task stands: a timer for its next attempt, or its end."""

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
    """Does what follows; doing it twice does no harm."""

    def __init__(self, ledger: Ledger, timers: TimerScheduler, clock: Clock) -> None:
        self._ledger = ledger
        self._timers = timers
        self._clock = clock

    def plan(self, tasks: Iterable[Task]) -> None:
        """Settle the tasks that gave up, and arm the timers that the others need.

        A task that gave up is sealed if its execution is to go on all the same; if not, it leaves the list of open
        ones.

        Raises
        ------
        ServiceBusyError
            When not all of it could be done in time; do it all again.
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
