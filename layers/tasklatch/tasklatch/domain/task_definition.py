"""Definitions from which tasks are created, and the check that their tasks can start."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from itertools import chain, islice

from tasklatch.domain.children import ChildrenSource
from tasklatch.domain.errors import MAX_REPORTED_ERRORS, ConflictError, InvalidRequestError
from tasklatch.domain.execution import Execution
from tasklatch.domain.idempotency import canonical_text
from tasklatch.domain.status import TaskStatus, status_precedence
from tasklatch.domain.task import DEFAULT_RETRY_POLICY, PARENT_FORM, FollowUp, OnFailure, RetryPolicy, Task


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
    queue, priority
        The queue from which workers claim the task, and its priority there; None for those of its execution.
    attempt_id_path
        Path of the attempt's id in the input that a worker receives, if the id is in it: keys of objects inside each
        other.
    children
        Form of the children's definitions in its input, if the task brings other tasks instead of work for a worker.
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
    attempt_id_path: tuple[str, ...] = ()
    queue: str | None = None
    priority: int | None = None
    children: ChildrenSource | None = None

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
            *((self.attempt_id_path,) if self.attempt_id_path else ()),
            *((self.queue, self.priority) if (self.queue, self.priority) != (None, None) else ()),
            *((self.children,) if self.children is not None else ()),
        )
        return sha256(repr(content).encode()).hexdigest()[:12]


def new_tasks(
    definitions: Sequence[TaskDefinition], execution: Execution, now: int, *, unnamed_queue: str
) -> list[Task]:
    """Return the new tasks of one request.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    unnamed_queue
        The queue of tasks for which neither they nor their execution name one; empty if no queue hands them out.
    """
    awaited = {name for definition in definitions for name in definition.depends_on}
    follow_up = FollowUp.NOTHING if execution.keep_open else FollowUp.END
    tenant, execution_id = execution.tenant, execution.execution_id
    return [
        replace(
            new_task(definition, tenant, execution_id, now, None if definition.task_id in awaited else follow_up),
            queue=definition.queue or execution.queue or unnamed_queue or None,
            priority=execution.priority if definition.priority is None else definition.priority,
        )
        for definition in definitions
    ]


def new_children(definitions: Sequence[TaskDefinition], parent: Task, now: int) -> list[Task]:
    """Return the new tasks that a task brings; it waits for all of them.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    """
    return [
        replace(
            new_task(definition, parent.tenant, parent.execution_id, now),
            parent_id=parent.task_id,
            queue=definition.queue or parent.queue,
            priority=parent.priority if definition.priority is None else definition.priority,
        )
        for definition in definitions
    ]


def new_task(
    definition: TaskDefinition, tenant: str, execution_id: str, now: int, follow_up: FollowUp | None = None
) -> Task:
    """Return a new task: pending, with attempt 1 not open yet.

    Parameters
    ----------
    now
        Milliseconds since the epoch.
    follow_up
        What can follow from its end; None if other tasks wait for it.
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
        follow_up=follow_up,
        has_children=definition.children is not None,
        form=PARENT_FORM if definition.children is not None else None,
    )


def check_unchanged(definition: TaskDefinition, existing: Task) -> None:
    """Check that an existing task was created from the same definition.

    Raises
    ------
    ConflictError
        If it was not.
    """
    if existing.definition != definition.fingerprint:
        raise ConflictError(f"task {definition.task_id!r} already exists with another definition")


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
    id_errors = chain(
        _duplicates(definitions, index_by_id), _unknown_dependencies(definitions, index_by_id.keys() | set(existing))
    )
    errors = list(islice(id_errors, MAX_REPORTED_ERRORS)) or _dependency_cycles(definitions, index_by_id)
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


def _dependency_cycles(
    definitions: Sequence[TaskDefinition], index_by_id: Mapping[str, int]
) -> list[dict[str, object]]:
    """Return one error that shows a cycle of dependencies; none if there is no cycle."""
    graph = {definition.task_id: definition.depends_on for definition in definitions}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = error.args[1]
        message = f"dependency cycle: {' -> '.join(cycle)}"
        return [_error_entry(index_by_id[cycle[0]], "dependsOn", message, "dependency_cycle")]
    return []


def _error_entry(index: int, field: str, message: str, kind: str) -> dict[str, object]:
    return {"loc": ["body", "tasks", index, field], "msg": message, "type": kind}
