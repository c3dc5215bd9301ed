"""Assignment of free slots to executions that wait, in the order of their creation.

Slots are assigned here and nowhere else: after a change of an execution that has a concurrency key, after a change of a
limit, and by the reconciler. Every step is safe to repeat, and follows from what is in the table alone.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from tasklatch.domain.advance import Advance, AdvanceMessage
from tasklatch.domain.concurrency import Slots, holds_slot, slot_owner
from tasklatch.domain.execution import Execution
from tasklatch.executions.concurrency_slots import ConcurrencySlots, WaitingEntry
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.advance_queue import AdvanceQueue
from tasklatch.workflow.closer import TIME_FOR_A_PAGE_MS

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_ENTRIES_A_PAGE: Final = 25


class SlotAssigner:
    """Assignment of slots. All methods raise `ServiceBusyError` if a service stays busy until the deadline.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    queue
        Queue that carries what one invocation has no time for to the next.
    """

    def __init__(
        self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff, queue: AdvanceQueue
    ) -> None:
        self._backoff = backoff
        self._queue = queue
        self._executions = ExecutionTable(client, settings, clock, backoff)
        self._slots = ConcurrencySlots(client, settings, clock, backoff)

    def assign(self, tenant: str, concurrency_key: str, execution_id: str = "") -> int:
        """Free the slot of one execution if it does not run in it any more, and give what is free to those that wait.

        Parameters
        ----------
        execution_id
            The execution that has changed; none after a change of the limit.

        Returns
        -------
        int
            Number of executions that started.
        """
        if execution_id:
            self._withdraw(tenant, concurrency_key, execution_id)
        return self._start_waiting(tenant, concurrency_key)

    def repair(self, tenant: str, concurrency_key: str) -> int:
        """Free the slots of all executions that do not run in them any more, and give them to those that wait.

        Returns
        -------
        int
            Number of executions that started.
        """
        slots = self._slots.read(tenant, concurrency_key)
        owners = self._executions.read_all(tenant, {slot_owner(name) for name in slots.held})
        self._free(tenant, concurrency_key, slots, owners)
        return self._start_waiting(tenant, concurrency_key)

    def _withdraw(self, tenant: str, concurrency_key: str, execution_id: str) -> None:
        """Free the slots of an execution in which it does not run, and take it out of the line if it does not wait."""
        slots = self._slots.read(tenant, concurrency_key)
        # Read after the slots: one that it gets later has another name
        executions = self._executions.read_all(tenant, [execution_id])
        held = frozenset(name for name in slots.held if slot_owner(name) == execution_id)
        self._free(tenant, concurrency_key, Slots(slots.limit, held), executions)
        for execution in executions:
            if execution.waiting_since is None:
                entry = WaitingEntry(
                    tenant, concurrency_key, execution_id, execution.version, created_at=execution.created_at
                )
                self._slots.remove_entry(entry)

    def _free(self, tenant: str, concurrency_key: str, slots: Slots, owners: Iterable[Execution]) -> None:
        in_use = {name for name in slots.held for execution in owners if holds_slot(execution, name)}
        if slots.held - in_use:
            self._slots.free(tenant, concurrency_key, slots.held - in_use)

    def _start_waiting(self, tenant: str, concurrency_key: str) -> int:
        started = 0
        while self._backoff.has_time(TIME_FOR_A_PAGE_MS):
            free = self._slots.read(tenant, concurrency_key).free
            if not free:
                return started
            entries = self._slots.first_waiting(tenant, concurrency_key, min(free, _ENTRIES_A_PAGE))
            if not entries:
                return started
            started += sum(map(self._slots.start, entries))
        self._queue.send([AdvanceMessage(Advance.SLOT, tenant, "", concurrency_key=concurrency_key)])
        return started
