"""Assignment of free slots to executions that wait, in the order of their creation.

Slots are assigned here and nowhere else: after a change of an execution that has a concurrency key, after a change of a
limit, and by the reconciler. Every step is safe to repeat, and follows from what is in the table alone.
"""

from collections.abc import Iterable, Sequence
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
        slots = self._slots.read(tenant, concurrency_key)
        if execution_id:
            slots = self._withdraw(tenant, concurrency_key, slots, execution_id)
        return self._start_waiting(tenant, concurrency_key, slots)

    def repair(self, tenant: str, concurrency_key: str) -> int:
        """Free the slots of all executions that do not run in them any more, and give them to those that wait.

        Returns
        -------
        int
            Number of executions that started.
        """
        slots = self._slots.read(tenant, concurrency_key)
        owners = self._executions.read_all(tenant, {slot_owner(name) for name in slots.held})
        slots = self._free(tenant, concurrency_key, slots, slots.held, owners)
        return self._start_waiting(tenant, concurrency_key, slots)

    def _withdraw(self, tenant: str, concurrency_key: str, slots: Slots, execution_id: str) -> Slots:
        """Free the slots of an execution in which it does not run, and take it out of the line if it does not wait."""
        # Read after the slots: one that it gets later has another name
        executions = self._executions.read_all(tenant, [execution_id])
        for execution in executions:
            if execution.waiting_since is None:
                entry = WaitingEntry(
                    tenant, concurrency_key, execution_id, execution.version, created_at=execution.created_at
                )
                self._slots.remove_entry(entry)
        held = {name for name in slots.held if slot_owner(name) == execution_id}
        return self._free(tenant, concurrency_key, slots, held, executions)

    def _free(
        self, tenant: str, concurrency_key: str, slots: Slots, names: Iterable[str], owners: Sequence[Execution]
    ) -> Slots:
        """Free those of some slots in which none of these executions runs; return the slots after it."""
        unused = {name for name in names if not any(holds_slot(execution, name) for execution in owners)}
        if unused:
            self._slots.free(tenant, concurrency_key, unused)
        return Slots(slots.limit, slots.held - unused)

    def _start_waiting(self, tenant: str, concurrency_key: str, slots: Slots) -> int:
        """Start executions while slots are free, as far as is known; each start compares them with the limit itself."""
        started, free = 0, slots.free
        while free:
            if not self._backoff.has_time(TIME_FOR_A_PAGE_MS):
                self._queue.send([AdvanceMessage(Advance.SLOT, tenant, "", concurrency_key=concurrency_key)])
                return started
            entries = self._slots.first_waiting(tenant, concurrency_key, min(free, _ENTRIES_A_PAGE))
            if not entries:
                return started
            count = sum(map(self._slots.start, entries))
            started += count
            free = free - count if count == len(entries) else self._slots.read(tenant, concurrency_key).free
        return started
