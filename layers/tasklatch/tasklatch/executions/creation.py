"""Creation of executions and additions of tasks, both safe to repeat."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tasklatch.domain.conditional_write import system_write
from tasklatch.domain.dependencies import is_terminal
from tasklatch.domain.errors import ConflictError, NotFoundError
from tasklatch.domain.execution import Execution
from tasklatch.domain.idempotency import KeyedRequest
from tasklatch.domain.new_execution import NewExecution
from tasklatch.domain.reference_check import check_references, has_references, possible_names
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.domain.task_definition import TaskDefinition, check_definitions, check_unchanged, new_tasks
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_insert import batch_insert
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.dynamodb.expiry import with_expiry
from tasklatch.dynamodb.items import Item, from_attribute
from tasklatch.executions.attempt_index import AttemptIndex
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.executions.execution_tasks import ExecutionTasks
from tasklatch.executions.idempotency_keys import IdempotencyKeys
from tasklatch.executions.new_items import counter_items, dependency_items, input_items, task_items
from tasklatch.ledger.ledger import Ledger
from tasklatch.ledger.payloads import RESOLVED, Payloads
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.advancer import WorkflowAdvancer
from tasklatch.workflow.task_scheduler import TaskScheduler

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class ExecutionCreator:
    """Creation of executions and their tasks.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._backoff = backoff
        self._executions = ExecutionTable(client, settings, clock, backoff)
        self._tasks = ExecutionTasks(client, settings, backoff)
        self._idempotency_keys = IdempotencyKeys(client, settings, clock, backoff)
        self._attempt_index = AttemptIndex(client, settings, backoff)
        self._payloads = Payloads(client, settings, backoff)
        self._ledger = Ledger(client, settings, clock, backoff)
        self._scheduler = TaskScheduler(client, settings, clock, backoff)
        self._advancer = WorkflowAdvancer(client, settings, clock, backoff)

    def create(self, new: NewExecution, keyed: KeyedRequest | None = None) -> tuple[Execution, bool]:
        """Create an execution with its tasks.

        The order is: the idempotency key of the request, if it has one; tasks, their inputs, the item that commits the
        execution; then tasks without dependencies are scheduled, unless it waits for a slot of its concurrency key. A
        repeat of the request completes the unfinished steps and never resets a task.

        Returns
        -------
        Execution, bool
            The execution, and True if this request created it.

        Raises
        ------
        InvalidRequestError
            If the task definitions are invalid.
        IdempotencyKeyReusedError
            If the key is bound to another request.
        ConflictError
            If the id is in use by another execution.
        ServiceBusyError
            If the table stays busy until the deadline; retry the request.
        """
        check_definitions(new.definitions)
        if keyed is not None:
            self._idempotency_keys.claim(new.tenant, keyed)
        indirect_names = check_references(new.definitions)
        existing = self._find(new.tenant, new.execution_id)
        execution = existing or new.to_execution(self._clock())
        tasks = self._new_tasks(new.definitions, execution, execution.created_at)
        if existing is None:
            self._insert_parts(new, tasks, indirect_names, execution.created_at)
            existing = self._executions.insert(execution, new.concurrency)
            execution = existing or execution
        if execution.definition != new.fingerprint:
            raise ConflictError(f"execution {new.execution_id!r} already exists, created by another request")
        if execution.is_active:
            self._schedule_ready(new, tasks)
        return execution, existing is None

    def add_tasks(self, tenant: str, execution_id: str, definitions: Sequence[TaskDefinition]) -> list[Task]:
        """Add tasks to a running execution; a task that exists with the same definition stays as it is.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        InvalidRequestError
            If the task definitions are invalid, alone or together with the existing tasks.
        ConflictError
            If the execution has ended, or a task exists with another definition.
        ServiceBusyError
            If the table stays busy until the deadline; retry the request.
        """
        execution = self._executions.read(tenant, execution_id)
        if execution.status is not ExecutionStatus.RUNNING:
            raise ConflictError(f"execution {execution_id!r} is {execution.status}: cannot add tasks")
        existing = self._read_related(execution, definitions)
        indirect_names = _check_additions(definitions, existing)
        now = self._clock()
        tasks = self._new_tasks(definitions, execution, now)
        # Before a task can wait for one of these: from here on, their ends are followed by more
        self._tasks.expect_dependents(tenant, execution_id, _awaited(definitions, existing))
        self._insert_inputs(tenant, execution_id, definitions, indirect_names, now)
        self._insert_tasks(tenant, execution_id, definitions, tasks, now)
        if execution.has_attempt_index:
            self._attempt_index.put(tasks, now)
        task_ids = [task.task_id for task in tasks]
        if not self._executions.count_addition(tenant, execution_id):
            self._cancel_added(self._tasks.read(tenant, execution_id, task_ids).values())
            raise ConflictError(f"execution {execution_id!r} ended: cannot add tasks")
        self._advancer.schedule_unblocked(tenant, execution_id, task_ids)
        stored = self._tasks.read(tenant, execution_id, task_ids)
        return [stored[task_id] for task_id in task_ids]

    def _new_tasks(self, definitions: Sequence[TaskDefinition], execution: Execution, now: int) -> list[Task]:
        return new_tasks(definitions, execution, now, unnamed_queue=self._settings.unnamed_queue)

    def _find(self, tenant: str, execution_id: str) -> Execution | None:
        try:
            return self._executions.read(tenant, execution_id)
        except NotFoundError:
            return None

    def _read_related(self, execution: Execution, definitions: Sequence[TaskDefinition]) -> dict[str, Task]:
        """Read the existing tasks that new definitions name: as the task, as a dependency, or in a reference."""
        names = {name for definition in definitions for name in (definition.task_id, *definition.depends_on)}
        return self._tasks.read(execution.tenant, execution.execution_id, sorted(names | possible_names(definitions)))

    def _insert_parts(
        self, new: NewExecution, tasks: Sequence[Task], indirect_names: Mapping[str, Sequence[str]], now: int
    ) -> None:
        """Store all parts of an execution but the item that commits it."""
        tenant, execution_id = new.tenant, new.execution_id
        if not set(self._tasks.iterate_attribute(tenant, execution_id, "taskId")) <= {task.task_id for task in tasks}:
            raise ConflictError(f"execution {execution_id!r} was started by another request and never committed")
        self._insert_tasks(tenant, execution_id, new.definitions, tasks, now)
        self._put_inputs(tenant, execution_id, new.definitions, indirect_names, now)
        if new.run is not None:
            self._attempt_index.put(tasks, now)
            self._payloads.put_run(tenant, execution_id, new.run, now)

    def _insert_tasks(
        self, tenant: str, execution_id: str, definitions: Sequence[TaskDefinition], tasks: Sequence[Task], now: int
    ) -> None:
        """Insert the missing counters, dependency items and tasks, in this order.

        A task can get a report as soon as it exists, so its dependency items must exist before it; and each dependency
        item needs its counter.
        """
        pk = keys.execution_pk(tenant, execution_id)
        self._batch_insert(counter_items(pk, definitions), now)
        self._batch_insert(dependency_items(pk, definitions), now)
        present = self._batch_insert(task_items(tasks), now)
        task_ids = [task.task_id for task in tasks if keys.task_sk(task.task_id) in present]
        _check_all_unchanged(definitions, self._tasks.read(tenant, execution_id, task_ids))

    def _batch_insert(self, items: Iterable[Item], now: int) -> set[str]:
        expires_at = self._settings.expires_at(now)
        expiring = [with_expiry(item, expires_at) for item in items]
        return batch_insert(self._client, self._settings.table_name, expiring, self._backoff)

    def _insert_inputs(
        self,
        tenant: str,
        execution_id: str,
        definitions: Sequence[TaskDefinition],
        indirect_names: Mapping[str, Sequence[str]],
        now: int,
    ) -> None:
        """Insert the inputs of tasks that are added: what a task waits for can end as soon as it exists.

        That of a task that exists stays, as its references may be resolved. One that an addition left behind, which
        died before it inserted the task, may be of another definition and is replaced.
        """
        items = input_items(keys.execution_pk(tenant, execution_id), definitions, indirect_names)
        present = self._batch_insert(items, now)
        names = [definition.task_id for definition in definitions if keys.input_sk(definition.task_id) in present]
        stored = self._tasks.read(tenant, execution_id, names)
        left_behind = {keys.input_sk(name) for name in names if name not in stored}
        for item in (item for item in items if from_attribute(item[keys.SK]) in left_behind):
            self._replace_input(with_expiry(item, self._settings.expires_at(now)))

    def _replace_input(self, item: Item) -> None:
        """Replace an input, unless the same addition, sent twice, has its task handed out by now."""
        request: dict[str, Any] = {
            "TableName": self._settings.table_name,
            "Item": item,
            "ConditionExpression": "attribute_not_exists(#resolved)",
            "ExpressionAttributeNames": {"#resolved": RESOLVED},
        }
        self._backoff.run_conditional(partial(self._client.put_item, **request))

    def _put_inputs(
        self,
        tenant: str,
        execution_id: str,
        definitions: Sequence[TaskDefinition],
        indirect_names: Mapping[str, Sequence[str]],
        now: int,
    ) -> None:
        """Store the inputs of tasks of which none is scheduled before, as their execution is not committed yet."""
        expires_at = self._settings.expires_at(now)
        items = input_items(keys.execution_pk(tenant, execution_id), definitions, indirect_names)
        expiring = [with_expiry(item, expires_at) for item in items]
        batch_put(self._client, self._settings.table_name, expiring, self._backoff)

    def _schedule_ready(self, new: NewExecution, tasks: Sequence[Task]) -> None:
        """Schedule the tasks without dependencies; only an input with references is read before, or one of children."""
        now = self._clock()
        ready = [pair for pair in zip(new.definitions, tasks, strict=True) if not pair[0].depends_on]
        writes = [
            system_write(task, TaskStatus.SCHEDULED, now=now)
            for definition, task in ready
            if not _needs_scheduler(definition)
        ]
        self._ledger.write_all(new.tenant, new.execution_id, writes)
        others = [task.task_id for definition, task in ready if _needs_scheduler(definition)]
        self._scheduler.schedule(new.tenant, new.execution_id, others)

    def _cancel_added(self, tasks: Iterable[Task]) -> None:
        """Cancel pending tasks that were added after the execution ended."""
        now = self._clock()
        for task in tasks:
            if task.status is TaskStatus.PENDING:
                write = system_write(task, TaskStatus.CANCELED, now=now, message="the execution ended before")
                self._ledger.write(task.tenant, task.execution_id, write)


def _needs_scheduler(definition: TaskDefinition) -> bool:
    return has_references(definition) or definition.children is not None


def _awaited(definitions: Iterable[TaskDefinition], existing: Mapping[str, Task]) -> list[str]:
    """Return the existing tasks for which new tasks wait, and of which nothing more than an end was expected."""
    names = {name for definition in definitions for name in definition.depends_on}
    return sorted(name for name in names if name in existing and existing[name].follow_up is not None)


def _check_additions(definitions: Sequence[TaskDefinition], existing: Mapping[str, Task]) -> dict[str, tuple[str, ...]]:
    """Check new definitions together with the existing tasks that they name.

    Returns
    -------
    dict
        By task, the names that its input refers to besides its own dependencies.
    """
    check_definitions(definitions, existing)
    terminal = {name for name, task in existing.items() if is_terminal(task)}
    started = {name for name, task in existing.items() if task.status is not TaskStatus.PENDING}
    indirect_names = check_references(definitions, existing, terminal=terminal, started=started)
    _check_all_unchanged(definitions, existing)
    return indirect_names


def _check_all_unchanged(definitions: Sequence[TaskDefinition], existing: Mapping[str, Task]) -> None:
    for definition in definitions:
        if definition.task_id in existing:
            check_unchanged(definition, existing[definition.task_id])
