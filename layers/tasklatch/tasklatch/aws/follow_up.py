"""What has to follow from how a task stands: a timer for its next attempt, or its end."""

from collections.abc import Iterable

from tasklatch.aws.ledger import Ledger
from tasklatch.aws.timers import Timers
from tasklatch.clock import Clock
from tasklatch.domain.latch import service_latch
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import OnFailure, Task
from tasklatch.domain.timer import timer_of
from tasklatch.domain.workflow import gave_up


class FollowUp:
    """Does what follows; doing it twice does no harm."""

    def __init__(self, ledger: Ledger, timers: Timers, clock: Clock) -> None:
        self._ledger = ledger
        self._timers = timers
        self._clock = clock

    def follow(self, tasks: Iterable[Task]) -> None:
        """Settle the tasks that gave up, and arm the timers that the others need.

        A task that gave up is sealed if its execution is to go on all the same; if not, it leaves the list of open
        ones.

        Raises
        ------
        BusyError
            When not all of it could be done in time; do it all again.
        """
        timers = []
        for task in tasks:
            if gave_up(task):
                self._settle(task)
            timer = timer_of(task)
            if timer is not None:
                timers.append(timer)
        self._timers.arm(timers)

    def _settle(self, task: Task) -> None:
        if task.on_failure is OnFailure.CONTINUE:
            latch = service_latch(task, TaskStatus.COMPLETED_WITH_ERRORS, now=self._clock(), message=task.message)
            self._ledger.apply(task.tenant, task.execution_id, latch)
        else:
            self._ledger.close(task)
