"""Limits of concurrent executions: so many slots of one key, each held by one execution that runs."""

from dataclasses import dataclass
from typing import Final

from tasklatch.domain.execution import Execution

MAX_SLOTS: Final = 1_000
"""Most slots of one key: those that are held are one set in one item, which may have 400 KB."""


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """At most so many executions of one key of a tenant at once."""

    key: str
    max_executions: int


@dataclass(frozen=True, slots=True)
class Slots:
    """Slots of a key.

    Attributes
    ----------
    limit
        The number of executions that may run at once.
    held
        The slots that are held, as `slot_name` names them; more than the limit after it was lowered.
    """

    limit: int
    held: frozenset[str]

    @property
    def free(self) -> int:
        """The number of executions that may start now."""
        return max(self.limit - len(self.held), 0)


@dataclass(frozen=True, slots=True)
class LinePosition:
    """Position of an execution that waits, from 1; how many of its key run, and how many may."""

    position: int
    running: int
    limit: int


def slot_name(execution_id: str, version: int) -> str:
    """Return the name of the slot that an execution got with a version.

    No name is used twice: an execution that runs again has a later version. So a slot that is free by its name can be
    freed at any later time, and any number of times.
    """
    return f"{version}#{execution_id}"


def slot_owner(name: str) -> str:
    """Return the id of the execution that got a slot."""
    return name.partition("#")[2]


def holds_slot(execution: Execution, name: str) -> bool:
    """Return True if an execution runs in a slot."""
    return (
        execution.is_active and execution.slot is not None and name == slot_name(execution.execution_id, execution.slot)
    )
