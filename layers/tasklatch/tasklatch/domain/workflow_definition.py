"""What executions are runs of: workflows, and the versions of what their tasks are."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasklatch.domain.errors import DuplicateNameError


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A name for what is run again and again. Times are milliseconds since the epoch."""

    tenant: str
    external_id: str
    description: str | None = None
    data_set_id: int | None = None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowVersion:
    """What the tasks of a workflow are; a version that is put again replaces itself.

    Attributes
    ----------
    definition
        JSON text of an object, as its contract understands it.
    """

    tenant: str
    external_id: str
    version: str
    definition: str
    created_at: int
    updated_at: int


VersionKey = tuple[str, str]
"""A workflow's external id and a version."""


def check_unique(kind: str, names: Sequence[str]) -> None:
    """Check that no name is given twice.

    Raises
    ------
    DuplicateNameError
        Naming each that is.
    """
    twice = list(dict.fromkeys(name for name in names if names.count(name) > 1))
    if twice:
        raise DuplicateNameError(kind, twice)
