"""Executions: one stored run of tasks, the workflow version that it runs, and filters on lists."""

import json
from dataclasses import dataclass
from typing import Final

from tasklatch.domain.idempotency import canonical_json, canonical_text
from tasklatch.domain.status import ExecutionStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run of a set of tasks. Times are milliseconds since the epoch.

    Attributes
    ----------
    metadata
        JSON text of an object; None if there is none.
    additions
        Number of times that tasks were added: an execution does not complete if tasks were added since it was read.
    reason
        The reason for its end, if there is one to state.
    failed_by
        The task whose failure ended it; also while the execution is being set to running again because that task has
        succeeded since.
    definition
        Fingerprint of the request that created it.
    group, group_version
        The group in which runs of the same thing are listed, and the version of that thing.
    has_attempt_index
        True if its tasks can be read by the id of an attempt alone.
    keep_open
        True if it stays open until a request ends it: no failed task ends the other tasks, and tasks can always be
        added.
    queue, priority
        The queue and the priority of those of its tasks that name none; None for none.
    brought_tasks
        Number of tasks that came from lists of references, where these are limited.
    deleted_at
        Time of its deletion, in contracts that allow it; the execution and its history are kept.
    concurrency_key
        The key of which only so many executions run at once; None if it is not limited.
    waiting_since
        The time since which it waits for a slot of its key: none of its tasks is scheduled, and none is open.
    started_at
        The time at which it got the slot that it holds.
    slot
        Its version when it got its slot: each time it gets another.
    reopens
        True while a person's retry is to give its tasks attempts, which it does once it has a slot.
    """

    tenant: str
    execution_id: str
    status: ExecutionStatus
    version: int
    created_at: int
    updated_at: int
    definition: str
    name: str | None = None
    metadata: str | None = None
    ended_at: int | None = None
    reason: str | None = None
    failed_by: str | None = None
    additions: int = 0
    group: str | None = None
    group_version: str | None = None
    has_attempt_index: bool = False
    keep_open: bool = False
    brought_tasks: int = 0
    deleted_at: int | None = None
    queue: str | None = None
    priority: int | None = None
    concurrency_key: str | None = None
    waiting_since: int | None = None
    started_at: int | None = None
    slot: int | None = None
    reopens: bool = False

    @property
    def is_active(self) -> bool:
        """True if it runs and does not wait for a slot."""
        return self.status is ExecutionStatus.RUNNING and self.waiting_since is None

    @property
    def is_held_back(self) -> bool:
        """True if it runs, but none of its tasks may be scheduled, and no state of them ends it, yet."""
        return self.status is ExecutionStatus.RUNNING and (self.waiting_since is not None or self.reopens)

    @property
    def is_resuming(self) -> bool:
        """True if tasks are to get attempts before it runs on: by a person's retry, or a success of what failed it."""
        return self.reopens or self.failed_by is not None


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Filter on a list of executions.

    Attributes
    ----------
    statuses
        Statuses to include; empty for any.
    group_versions
        Groups to include, each with a version, or None for any version; empty for any group.
    group_prefix
        Prefix of the group's name: it separates the runs of one contract from all others.
    """

    statuses: frozenset[ExecutionStatus] = frozenset()
    group_versions: tuple[tuple[str, str | None], ...] = ()
    group_prefix: str = ""

    @property
    def single_group(self) -> str | None:
        """The only group in the filter; None if there is not exactly one."""
        groups = {group for group, _ in self.group_versions}
        return groups.pop() if len(groups) == 1 else None

    @property
    def name(self) -> str:
        """Name of the filter: the same for equal filters."""
        return repr((sorted(self.statuses), sorted(self.group_versions, key=repr), self.group_prefix))

    def matches(self, execution: Execution) -> bool:
        """Return True if an execution passes the filter."""
        if self.statuses and execution.status not in self.statuses:
            return False
        if self.group_versions and not any(
            execution.group == group and version in (None, execution.group_version)
            for group, version in self.group_versions
        ):
            return False
        return (execution.group or "").startswith(self.group_prefix)


EVERY_EXECUTION: Final = ExecutionFilter()


@dataclass(frozen=True, slots=True)
class WorkflowRun:
    """Workflow version of an execution, as it was at the start; definition and input are JSON text.

    Attributes
    ----------
    input
        The value that the tasks' inputs can refer to as ``${workflow.input}``.
    """

    version: str
    definition: str
    input: str | None = None

    @property
    def canonical(self) -> "WorkflowRun":
        """The run with the keys of its JSON texts in canonical order: equal for equal runs."""
        return WorkflowRun(self.version, canonical_json(json.loads(self.definition)), canonical_text(self.input))
