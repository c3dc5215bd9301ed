"""Handler of fired timers; the current state of the task decides what a timer does."""

from typing import Final

from tasklatch.domain.conditional_write import ConditionalWrite, next_attempt_write, system_write
from tasklatch.domain.deadline import next_deadline
from tasklatch.domain.errors import NotFoundError, ServiceBusyError
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.domain.timer import Timer, TimerKind, timer_for
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.ledger.ledger import Ledger
from tasklatch.retries.timer_scheduler import TimerScheduler
from tasklatch.runtime.clock import Clock

_MAX_READS: Final = 5


class TimerHandler:
    """Handler that opens next attempts and times out silent ones. A duplicate or obsolete timer changes nothing."""

    def __init__(self, ledger: Ledger, executions: ExecutionTable, timers: TimerScheduler, clock: Clock) -> None:
        self._ledger = ledger
        self._executions = executions
        self._timers = timers
        self._clock = clock

    def handle(self, timer: Timer) -> str:
        """Handle a timer if the task still needs it.

        Returns
        -------
        str
            Result for the log: opened, timed out, rescheduled (not due yet) or obsolete.

        Raises
        ------
        ServiceBusyError
            If a service stays busy until the deadline, or the task keeps changing; deliver the timer again.
        """
        for _ in range(_MAX_READS):
            task = self._read_task(timer)
            now = self._clock()
            current = timer_for(task) if task is not None else None
            if task is None or current is None or (current.kind, current.attempt) != (timer.kind, timer.attempt):
                return "obsolete"
            if current.due > now:
                if self._timers.schedule([current]):
                    raise ServiceBusyError(f"timer of task {timer.task_id!r} could not be scheduled")
                return "rescheduled"
            write = self._write_for_timer(task, timer.kind, now)
            if write is None:
                return "obsolete"
            if self._ledger.write(task.tenant, task.execution_id, write) is not None:
                return "opened" if timer.kind is TimerKind.RETRY else "timed out"
        raise ServiceBusyError(f"task {timer.task_id!r} kept changing while its timer was handled")

    def _read_task(self, timer: Timer) -> Task | None:
        try:
            return self._ledger.read(timer.tenant, timer.execution_id, timer.task_id)
        except NotFoundError:
            return None

    def _write_for_timer(self, task: Task, kind: TimerKind, now: int) -> ConditionalWrite | None:
        if kind is TimerKind.DEADLINE:
            deadline = next_deadline(task)
            return system_write(task, TaskStatus.TIMED_OUT, now=now, message=deadline.reason if deadline else None)
        try:
            execution = self._executions.read(task.tenant, task.execution_id)
        except NotFoundError:
            return None
        is_running = execution.status is ExecutionStatus.RUNNING
        return next_attempt_write(task, now=now) if is_running else None
