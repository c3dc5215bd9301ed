"""Workflows and their versions, of which executions are runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasklatch.domain.errors import DuplicateNameError


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A named workflow that can be run many times. Times are milliseconds since the epoch."""

    tenant: str
    external_id: str
    description: str | None = None
    data_set_id: int | None = None
    max_concurrent_executions: int | None = None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowVersion:
    """One version of a workflow's task definitions; writing it again replaces it.

    Attributes
    ----------
    definition
        JSON text of an object, in the form of its contract.
    """

    tenant: str
    external_id: str
    version: str
    definition: str
    created_at: int
    updated_at: int


VersionKey = tuple[str, str]
"""External id of a workflow, and a version."""


def check_unique(kind: str, names: Sequence[str]) -> None:
    """Check that no name occurs duplicates.

    Raises
    ------
    DuplicateNameError
        If one does; the error names each that does.
    """
    duplicates = list(dict.fromkeys(name for name in names if names.count(name) > 1))
    if duplicates:
        raise DuplicateNameError(kind, duplicates)
