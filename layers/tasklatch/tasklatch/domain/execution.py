"""An execution, and what its tasks are made from."""

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
        JSON text of an object; None when there is none.
    additions
        How often tasks were added: by it, a request to end the execution sees that there is more to wait for.
    reason
        Why it ended as it did, where there is something to say.
    definition
        Fingerprint of the request that created it.
    group, group_version
        What it is a run of, where such runs are listed together; and which version of that.
    has_attempt_index
        Whether its tasks can be found by the ids of their attempts alone.
    stays_open
        Whether it goes on whatever becomes of its tasks, until somebody ends it: no failure ends the others' work,
        and tasks can always be added.
    deleted_at
        When it was deleted, for those contracts in which that can be; it and its history stay.
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
    """Which executions belong into a list.

    Attributes
    ----------
    statuses
        In one of which they are; empty for any.
    runs_of
        What they are runs of, each with a version or None for any of its versions; empty for anything.
    group_prefix
        What the name of their group begins with: tells the runs of one contract from all others.
    """

    statuses: frozenset[ExecutionStatus] = frozenset()
    group_versions: tuple[tuple[str, str | None], ...] = ()
    group_prefix: str = ""

    @property
    def single_group(self) -> str | None:
        """The group that all of them belong to, where they do."""
        groups = {group for group, _ in self.group_versions}
        return groups.pop() if len(groups) == 1 else None

    @property
    def name(self) -> str:
        """The same for the same filter."""
        return repr((sorted(self.statuses), sorted(self.group_versions, key=repr), self.group_prefix))

    def matches(self, execution: Execution) -> bool:
        """Whether an execution belongs into the list."""
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
    """What an execution is a run of, as it was when it began; texts are JSON.

    Attributes
    ----------
    input
        What the tasks' inputs can refer to as ``${workflow.input}``.
    """

    version: str
    definition: str
    input: str | None = None

    @property
    def canonical(self) -> "WorkflowRun":
        """The same for the same run, in whatever order the keys of its texts came."""
        return WorkflowRun(self.version, canonical_json(json.loads(self.definition)), canonical_text(self.input))


@dataclass(frozen=True)
class TaskDefinition:
    """What a task is created from.

    Attributes
    ----------
    input
        JSON text of an object, at most 100 KB; None when there is none.
    depends_on
        The tasks that must be done first.
    timeout_seconds
        How long an attempt may take.
    heartbeat_timeout_seconds
        How long an attempt may be silent.
    names_attempt
        Whether the input is handed out with the attempt's ``taskExecutionId`` in it, so that it is all that a worker
        needs.
    kind
        What kind of work its platform calls it.
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
        """Twelve hexadecimal digits: the same for the same definition."""
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
    """A task as it is first written: pending, its first attempt open."""
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
    """Sixteen hexadecimal digits: the same for the same request."""
    optional = (group, keep_open) if group is not None or keep_open else ()
    runs = (run.canonical,) if run else ()
    content = (name, canonical_text(metadata), [definition.fingerprint for definition in definitions], *optional, *runs)
    return sha256(repr(content).encode()).hexdigest()[:16]


def check_definitions(definitions: Sequence[TaskDefinition], existing: Collection[str] = ()) -> None:
    """Check that tasks can be told apart and can all be reached.

    Parameters
    ----------
    existing
        Ids of tasks that the execution already has.

    Raises
    ------
    InvalidRequestError
        If two have the same id, one depends on a task that is not there, or some wait for each other in a circle.
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
    """Check that a task that is already there was created from the same definition.

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
