"""Slots of concurrency keys in the table, and the executions that wait for one.

The slots that are held are one set of names, so that how many there are follows from which there are: no write that is
repeated, and none that comes late, can count anything twice. A slot is given in one transaction with the change that
lets its execution run, which compares the size of the set with the limit.

All actions of the transactions are updates, also where an item is new: so a role needs to put or delete nothing where
tasks are, whichever keys AWS holds each action of a transaction to.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tasklatch.domain.concurrency import MAX_SLOTS, LinePosition, Slots, slot_name
from tasklatch.domain.execution import Execution
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_key
from tasklatch.dynamodb.expiry import EXPIRES_AT, with_expiry
from tasklatch.dynamodb.items import Item, from_item, primary_key, to_attribute, to_item
from tasklatch.dynamodb.queries import begins_with, between, partition_query
from tasklatch.dynamodb.transaction import transact
from tasklatch.dynamodb.update_expression import ItemUpdate
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MAX_POSITION: Final = 1_000
"""Highest position in the line that is counted."""

_HELD: Final = "heldSlots"
_LIMIT: Final = "maxExecutions"


@dataclass(frozen=True, slots=True)
class WaitingEntry:
    """Entry in the line of a key: an execution that waited when it had a version; a later version waits by another."""

    tenant: str
    concurrency_key: str
    execution_id: str
    version: int
    created_at: int


class ConcurrencySlots:
    """Store of slots and lines. All methods raise `ServiceBusyError` if the table stays busy.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff) -> None:
        self._client = client
        self._settings = settings
        self._table = settings.table_name
        self._clock = clock
        self._backoff = backoff

    def read(self, tenant: str, concurrency_key: str) -> Slots:
        """Read the slots of a key with a consistent read; a key that was never used has none."""
        key = _slots_key(tenant, concurrency_key)
        response = self._backoff.run(
            partial(self._client.get_item, TableName=self._table, Key=key, ConsistentRead=True)
        )
        values = from_item(response.get("Item", {}))
        return Slots(values.get(_LIMIT, 0), values.get(_HELD, frozenset()))

    def set_limit(self, tenant: str, concurrency_key: str, limit: int | None) -> bool:
        """Change the limit of a key; what runs goes on, and what fits now is to be started by the caller.

        Parameters
        ----------
        limit
            None to lift the limit of a key that was ever used: up to `MAX_SLOTS` of the executions that wait can start.

        Returns
        -------
        bool
            True if executions of the key may wait: not if a limit is lifted that there never was.
        """
        update = limit_action(self._settings, tenant, concurrency_key, limit or MAX_SLOTS, self._clock())["Update"]
        if limit is None:
            update |= {"ConditionExpression": f"attribute_exists({keys.PK})"}
        return self._backoff.run_conditional(partial(self._client.update_item, **update))

    def first_waiting(self, tenant: str, concurrency_key: str, limit: int) -> list[WaitingEntry]:
        """Return the first entries of the line, in the order of the executions' creation, by a consistent read."""
        pk = keys.slots_pk(tenant, concurrency_key)
        query = partition_query(self._table, pk, begins_with(keys.WAITING_PREFIX)) | {"Limit": limit}
        response: Any = self._backoff.run(partial(self._client.query, **query))
        return [_entry_from_item(tenant, concurrency_key, item) for item in response["Items"]]

    def find_position(self, execution: Execution) -> LinePosition | None:
        """Return the position of an execution in its line, up to `MAX_POSITION`; None if it does not wait.

        Executions that were cancelled moments before may still count.
        """
        if execution.waiting_since is None or execution.concurrency_key is None:
            return None
        slots = self.read(execution.tenant, execution.concurrency_key)
        return LinePosition(self._count_before(execution), len(slots.held), slots.limit)

    def _count_before(self, execution: Execution) -> int:
        """Count the entries of the line up to that of an execution."""
        pk = keys.slots_pk(execution.tenant, execution.concurrency_key or "")
        own = keys.waiting_sk(execution.created_at, execution.execution_id)
        query = partition_query(self._table, pk, between(keys.WAITING_PREFIX, own))
        query |= {"Select": "COUNT", "Limit": MAX_POSITION}
        response: Any = self._backoff.run(partial(self._client.query, **query))
        return max(int(response["Count"]), 1)

    def start(self, entry: WaitingEntry) -> bool:
        """Give a slot to an execution that waits, let it run, and take it out of the line.

        Nothing changes while no slot is free. An entry by which no execution waits any more is removed.

        Returns
        -------
        bool
            True if it started.
        """
        name = slot_name(entry.execution_id, entry.version + 1)
        take = {
            "Update": {
                "TableName": self._table,
                "Key": _slots_key(entry.tenant, entry.concurrency_key),
                "UpdateExpression": f"ADD {_HELD} :slot",
                "ConditionExpression": f"attribute_exists({_LIMIT})"
                f" AND (attribute_not_exists({_HELD}) OR size({_HELD}) < {_LIMIT})",
                "ExpressionAttributeValues": to_item({":slot": frozenset({name})}),
            }
        }
        failed = transact(self._client, [take, self._run_action(entry)], self._backoff)
        if not failed or failed[1]:
            self.remove_entry(entry)
        return not failed

    def _run_action(self, entry: WaitingEntry) -> dict[str, Any]:
        """Return the action that lets an execution run that still has the version with which it waits."""
        now = self._clock()
        update = ItemUpdate(
            assigned=to_item({"updatedAt": now, "startedAt": now, "slot": entry.version + 1}),
            removed=("waitingSince",),
            conditions=[("version", "=", to_attribute(entry.version))],
            is_new_version=True,
        )
        key = execution_key(entry.tenant, entry.execution_id)
        return {"Update": {"TableName": self._table, "Key": key, **update.expressions()}}

    def remove_entry(self, entry: WaitingEntry) -> None:
        """Remove an obsolete entry; one of a later version of its execution stays."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": _entry_key(entry),
            "ConditionExpression": "version <= :version",
            "ExpressionAttributeValues": to_item({":version": entry.version}),
        }
        self._backoff.run_conditional(partial(self._client.delete_item, **request))

    def free(self, tenant: str, concurrency_key: str, names: Iterable[str]) -> None:
        """Free slots; those that are free already stay so."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": _slots_key(tenant, concurrency_key),
            "UpdateExpression": f"DELETE {_HELD} :slots",
            "ConditionExpression": f"attribute_exists({keys.PK})",
            "ExpressionAttributeValues": to_item({":slots": frozenset(names)}),
        }
        self._backoff.run_conditional(partial(self._client.update_item, **request))


def limit_action(settings: Settings, tenant: str, concurrency_key: str, limit: int, now: int) -> dict[str, Any]:
    """Return the action of a transaction that sets the limit of a key, which is kept as long as an execution of now."""
    values = {_LIMIT: min(limit, MAX_SLOTS), EXPIRES_AT: settings.expires_at(now)}
    update = ItemUpdate(assigned=to_item(values), must_exist=False)
    key = _slots_key(tenant, concurrency_key)
    return {"Update": {"TableName": settings.table_name, "Key": key, **update.expressions()}}


def line_action(settings: Settings, execution: Execution, version: int) -> dict[str, Any]:
    """Return the action of a transaction that puts an execution into the line of its key.

    Parameters
    ----------
    version
        The version that it has then.
    """
    entry = WaitingEntry(
        execution.tenant, execution.concurrency_key or "", execution.execution_id, version, execution.created_at
    )
    values = to_item({"executionId": entry.execution_id, "version": version, "createdAt": entry.created_at})
    expiring = with_expiry(values, settings.expires_at(execution.created_at))
    update = ItemUpdate(assigned=expiring, must_exist=False)
    return {"Update": {"TableName": settings.table_name, "Key": _entry_key(entry), **update.expressions()}}


def _slots_key(tenant: str, concurrency_key: str) -> Item:
    return primary_key(keys.slots_pk(tenant, concurrency_key), keys.SLOTS_SK)


def _entry_key(entry: WaitingEntry) -> Item:
    pk = keys.slots_pk(entry.tenant, entry.concurrency_key)
    return primary_key(pk, keys.waiting_sk(entry.created_at, entry.execution_id))


def _entry_from_item(tenant: str, concurrency_key: str, item: Item) -> WaitingEntry:
    values = from_item(item)
    return WaitingEntry(tenant, concurrency_key, values["executionId"], values["version"], values["createdAt"])
