"""Handling of the times of schedules: each starts one execution, however often it is delivered."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from tasklatch.domain.errors import (
    ConflictError,
    DuplicateNameError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    TasklatchError,
)
from tasklatch.domain.new_execution import NewExecution
from tasklatch.domain.schedule import Firing, Schedule, ScheduleKind
from tasklatch.executions.creation import ExecutionCreator
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.runtime.clock import Clock
from tasklatch.schedules.schedule_history import ScheduleHistory
from tasklatch.schedules.schedule_table import ScheduleTable
from tasklatch.schedules.scheduler_sync import ScheduleMessage, SchedulerSync

Translators = Mapping[ScheduleKind, Callable[[Schedule, str], NewExecution]]
"""For each contract, the execution of a schedule with an execution id."""

_REFUSALS: Final = (ConflictError, DuplicateNameError, InvalidRequestError, NotFoundError, PayloadTooLargeError)
"""Errors that another attempt would meet too."""


class FiringResult(StrEnum):
    """Result of handling a message."""

    CHECKED = "checked"
    OBSOLETE = "obsolete"
    REPEATED = "repeated"
    STARTED = "started"
    FAILED = "failed"


class ScheduleFiring:
    """Handler of the messages of schedules."""

    def __init__(
        self,
        table: ScheduleTable,
        sync: SchedulerSync,
        history: ScheduleHistory,
        creator: ExecutionCreator,
        executions: ExecutionTable,
        clock: Clock,
    ) -> None:
        self._table = table
        self._sync = sync
        self._history = history
        self._creator = creator
        self._executions = executions
        self._clock = clock

    def handle(self, message: ScheduleMessage, translators: Translators) -> FiringResult:
        """Start the execution of one time, or check that EventBridge Scheduler agrees with the table.

        A time of a schedule that is paused, deleted or created anew starts nothing; it shows that EventBridge Scheduler
        does not agree, and mends that.

        Raises
        ------
        ServiceBusyError
            If a service stays busy until the deadline; the message must be delivered again.
        """
        schedule = self._table.find(message.ref)
        if message.fire_time is None:
            self._sync.apply(message.ref, schedule)
            return FiringResult.CHECKED
        if schedule is None or schedule.is_paused or schedule.generation != message.generation:
            self._sync.apply(message.ref, schedule)
            return FiringResult.OBSOLETE
        if self._history.has(schedule, message.fire_time):
            return FiringResult.REPEATED
        firing = self._fire(schedule, message.fire_time, translators)
        self._history.record(schedule, firing, self._clock())
        return FiringResult.FAILED if firing.execution_id is None else FiringResult.STARTED

    def _fire(self, schedule: Schedule, fire_time: int, translators: Translators) -> Firing:
        execution_id = schedule.execution_id(fire_time)
        workflow = schedule.content.workflow
        try:
            self._creator.create(translators[schedule.ref.kind](schedule, execution_id))
        except _REFUSALS as error:
            # Created by an earlier delivery, before the schedule or its workflow was replaced: nobody else has the id
            if not self._exists(schedule.ref.tenant, execution_id):
                return Firing(fire_time=fire_time, reason=_reason(error), workflow=workflow)
        return Firing(fire_time=fire_time, execution_id=execution_id, workflow=workflow)

    def _exists(self, tenant: str, execution_id: str) -> bool:
        try:
            self._executions.read(tenant, execution_id)
        except NotFoundError:
            return False
        return True


def _reason(error: TasklatchError) -> str:
    """Return an error with all its details in one line."""
    details = [str(entry["msg"]) for entry in error.errors] if isinstance(error, InvalidRequestError) else []
    return ": ".join((str(error), "; ".join(details))) if details else str(error)
