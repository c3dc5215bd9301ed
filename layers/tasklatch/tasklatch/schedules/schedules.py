"""Changes of schedules: in the table, and then at EventBridge Scheduler."""

import secrets
from collections.abc import Sequence
from hashlib import sha256

from tasklatch.domain.errors import ConflictError, NotFoundError
from tasklatch.domain.idempotency import KeyedRequest, canonical_text
from tasklatch.domain.schedule import Schedule, ScheduleContent, ScheduleKind, ScheduleRef
from tasklatch.executions.idempotency_keys import IdempotencyKeys
from tasklatch.runtime.clock import Clock
from tasklatch.schedules.schedule_table import ScheduleTable
from tasklatch.schedules.scheduler_sync import SchedulerSync


class Schedules:
    """Schedules of all tenants. Each change is safe to repeat, and is completed by its check if it stops half-way."""

    def __init__(
        self, table: ScheduleTable, sync: SchedulerSync, idempotency_keys: IdempotencyKeys, clock: Clock
    ) -> None:
        self._table = table
        self._sync = sync
        self._idempotency_keys = idempotency_keys
        self._clock = clock

    def get(self, ref: ScheduleRef) -> Schedule:
        """Read a schedule.

        Raises
        ------
        NotFoundError
            If it does not exist.
        """
        return _check_exists(ref, self._table.find(ref))

    def list_page(
        self, tenant: str, kind: ScheduleKind, *, limit: int, cursor: str | None
    ) -> tuple[list[Schedule], str | None]:
        """List a tenant's schedules, as `ScheduleTable.list_page` does."""
        return self._table.list_page(tenant, kind, limit=limit, cursor=cursor)

    def create(
        self, ref: ScheduleRef, content: ScheduleContent, keyed: KeyedRequest | None = None
    ) -> tuple[Schedule, bool]:
        """Create a schedule; a repeat of the request that created it returns it.

        Returns
        -------
        Schedule, bool
            The schedule, and True if this request created it.

        Raises
        ------
        IdempotencyKeyReusedError
            If the key is bound to another request.
        ConflictError
            If another request created a schedule of this name, or the tenant has as many as it can have.
        ServiceBusyError
            If a service stays busy until the deadline; retry the request.
        """
        if keyed is not None:
            self._idempotency_keys.claim(ref.tenant, keyed)
        self._sync.request_check(ref)
        schedule = self._new(ref, content)
        if self._table.insert(schedule):
            self._sync.apply(ref, schedule)
            return schedule, True
        existing = self.get(ref)
        if existing.definition != schedule.definition:
            raise ConflictError(f"schedule {ref.schedule_id!r} already exists, created by another request")
        self._sync.apply(ref, existing)
        return existing, False

    def put(self, ref: ScheduleRef, content: ScheduleContent) -> Schedule:
        """Create a schedule, or replace its content; it stays paused if it is.

        Raises
        ------
        ConflictError
            If the tenant has as many schedules as it can have.
        ServiceBusyError
            If a service stays busy until the deadline; retry the request.
        """
        self._sync.request_check(ref)
        replaced = self._table.replace(ref, content, self._clock())
        if replaced is None:
            created = self._new(ref, content)
            replaced = created if self._table.insert(created) else self._replace(ref, content)
        self._sync.apply(ref, replaced)
        return replaced

    def replace(self, ref: ScheduleRef, content: ScheduleContent) -> Schedule:
        """Replace the content of a schedule; it stays paused if it is.

        Raises
        ------
        NotFoundError
            If it does not exist.
        ServiceBusyError
            If a service stays busy until the deadline; retry the request.
        """
        self._sync.request_check(ref)
        replaced = self._replace(ref, content)
        self._sync.apply(ref, replaced)
        return replaced

    def set_paused(self, ref: ScheduleRef, *, is_paused: bool) -> Schedule:
        """Pause or resume a schedule.

        Raises
        ------
        NotFoundError
            If it does not exist.
        ServiceBusyError
            If a service stays busy until the deadline; retry the request.
        """
        self._sync.request_check(ref)
        changed = _check_exists(ref, self._table.set_paused(ref, self._clock(), is_paused=is_paused))
        self._sync.apply(ref, changed)
        return changed

    def delete(self, ref: ScheduleRef) -> None:
        """Delete a schedule; its executions continue.

        Raises
        ------
        NotFoundError
            If it does not exist.
        ServiceBusyError
            If a service stays busy until the deadline; retry the request.
        """
        self._sync.request_check(ref)
        existed = self._table.delete(ref)
        self._sync.apply(ref, self._table.find(ref))
        if not existed:
            raise NotFoundError("schedule", ref.schedule_id)

    def delete_all(self, refs: Sequence[ScheduleRef]) -> None:
        """Delete schedules, one after the other.

        Raises
        ------
        NotFoundError
            If one does not exist; nothing is deleted then, unless it was deleted meanwhile.
        ServiceBusyError
            If a service stays busy until the deadline; some may be deleted.
        """
        for ref in refs:
            self.get(ref)
        for ref in refs:
            self.delete(ref)

    def _replace(self, ref: ScheduleRef, content: ScheduleContent) -> Schedule:
        return _check_exists(ref, self._table.replace(ref, content, self._clock()))

    def _new(self, ref: ScheduleRef, content: ScheduleContent) -> Schedule:
        now = self._clock()
        request = repr((content.expressions, content.time_zone, canonical_text(content.body)))
        return Schedule(
            ref=ref,
            content=content,
            generation=secrets.token_hex(16),
            definition=sha256(request.encode()).hexdigest()[:32],
            is_paused=False,
            created_at=now,
            updated_at=now,
        )


def _check_exists(ref: ScheduleRef, schedule: Schedule | None) -> Schedule:
    if schedule is None:
        raise NotFoundError("schedule", ref.schedule_id)
    return schedule
