"""An execution, and the definitions of its tasks."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from itertools import chain, islice
from typing import Final

from tasklatch.domain.errors import MAX_REPORTED_ERRORS, ConflictError, InvalidRequestError
from tasklatch.domain.idempotency import canonical_json, canonical_text
from tasklatch.domain.status import ExecutionStatus, TaskStatus, status_precedence
from tasklatch.domain.task import DEFAULT_RETRY_POLICY, OnFailure, RetryPolicy, Task


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
    definition
        Fingerprint of the request that created it.
    group, group_version
        The group in which runs of the same thing are listed, and the version of that thing.
    has_attempt_index
        True if its tasks can be read by the id of an attempt alone.
    keep_open
        True if it stays open until a request ends it: no failed task ends the other tasks, and tasks can always be
        added.
    deleted_at
        Time of its deletion, in contracts that allow it; the execution and its history are kept.
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
    additions: int = 0
    group: str | None = None
    group_version: str | None = None
    has_attempt_index: bool = False
    keep_open: bool = False
    deleted_at: int | None = None


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


@dataclass(frozen=True)
class TaskDefinition:
    """Definition from which a task is created.

    Attributes
    ----------
    input
        JSON text of an object, at most 100 KB; None if there is none.
    depends_on
        The tasks that must be done first.
    timeout_seconds
        The longest time that an attempt may wait for a worker, and may then run, in seconds.
    heartbeat_timeout_seconds
        The longest time that a running attempt may be silent, in seconds.
    includes_attempt_id
        True if the input that a worker receives contains the attempt's ``taskExecutionId``, so that a worker needs
        nothing else.
    kind
        Kind of work, in the platform's vocabulary.
    """

    task_id: str
    input: str | None = None
    depends_on: tuple[str, ...] = ()
    retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY
    timeout_seconds: int | None = None
    heartbeat_timeout_seconds: int | None = None
    on_failure: OnFailure = OnFailure.ABORT
    includes_attempt_id: bool = False
    kind: str | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the definition: twelve hexadecimal digits, the same for the same definition."""
        content = (
            self.task_id,
            canonical_text(self.input),
            self.depends_on,
            self.retry_policy,
            self.timeout_seconds,
            self.heartbeat_timeout_seconds,
            self.on_failure.value,
            *(("names_attempt",) if self.includes_attempt_id else ()),
            *((self.kind,) if self.kind is not None else ()),
        )
        return sha256(repr(content).encode()).hexdigest()[:12]


def new_task(definition: TaskDefinition, tenant: str, execution_id: str, now: int) -> Task:
    """Return a new task: pending, with attempt 1 not open yet.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    """
    return Task(
        tenant=tenant,
        execution_id=execution_id,
        task_id=definition.task_id,
        status=TaskStatus.PENDING,
        attempt=1,
        precedence=status_precedence(TaskStatus.PENDING, 1),
        version=1,
        created_at=now,
        updated_at=now,
        retry_policy=definition.retry_policy,
        timeout_seconds=definition.timeout_seconds,
        heartbeat_timeout_seconds=definition.heartbeat_timeout_seconds,
        on_failure=definition.on_failure,
        definition=definition.fingerprint,
    )


def creation_fingerprint(
    name: str | None,
    metadata: str | None,
    definitions: Sequence[TaskDefinition],
    *,
    group: str | None = None,
    keep_open: bool = False,
    run: WorkflowRun | None = None,
) -> str:
    """Return a creation request's fingerprint: sixteen hexadecimal digits, the same for the same request."""
    optional = (group, keep_open) if group is not None or keep_open else ()
    runs = (run.canonical,) if run else ()
    content = (name, canonical_text(metadata), [definition.fingerprint for definition in definitions], *optional, *runs)
    return sha256(repr(content).encode()).hexdigest()[:16]


def check_definitions(definitions: Sequence[TaskDefinition], existing: Collection[str] = ()) -> None:
    """Check that task ids are unique and that every task can start.

    Parameters
    ----------
    existing
        Ids of the tasks that the execution already has.

    Raises
    ------
    InvalidRequestError
        If two have the same id, one depends on a task that does not exist, or the dependencies form a cycle.
    """
    index_by_id: dict[str, int] = {}
    for index, definition in enumerate(definitions):
        index_by_id.setdefault(definition.task_id, index)
    errors_found = chain(
        _duplicates(definitions, index_by_id), _unknown_dependencies(definitions, index_by_id.keys() | set(existing))
    )
    errors = list(islice(errors_found, MAX_REPORTED_ERRORS)) or _dependency_cycle(definitions, index_by_id)
    if errors:
        raise InvalidRequestError("invalid task definitions", errors)


def _duplicates(definitions: Sequence[TaskDefinition], index_by_id: Mapping[str, int]) -> Iterator[dict[str, object]]:
    for index, definition in enumerate(definitions):
        first = index_by_id[definition.task_id]
        if first != index:
            yield _error_entry(index, "taskId", f"duplicate of tasks[{first}]", "duplicate_task_id")


def _unknown_dependencies(
    definitions: Sequence[TaskDefinition], known_ids: AbstractSet[str]
) -> Iterator[dict[str, object]]:
    for index, definition in enumerate(definitions):
        for name in definition.depends_on:
            if name not in known_ids:
                yield _error_entry(index, "dependsOn", f"task {name!r} not found", "unknown_dependency")


def check_unchanged(definition: TaskDefinition, existing: Task) -> None:
    """Check that an existing task was created from the same definition.

    Raises
    ------
    ConflictError
        If it was not.
    """
    if existing.definition != definition.fingerprint:
        raise ConflictError(f"task {definition.task_id!r} already exists with another definition")


def _dependency_cycle(definitions: Sequence[TaskDefinition], index_by_id: Mapping[str, int]) -> list[dict[str, object]]:
    graph = {definition.task_id: definition.depends_on for definition in definitions}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
        return [
            _error_entry(index_by_id[circle[0]], "dependsOn", f"a circle: {' -> '.join(circle)}", "dependency_cycle")
        ]
    return []


def _error_entry(index: int, field: str, message: str, kind: str) -> dict[str, object]:
    return {"loc": ["body", "tasks", index, field], "msg": message, "type": kind}
