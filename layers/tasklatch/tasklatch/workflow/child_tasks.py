"""Children of a task that has started: created once, from the definitions that its input had then."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasklatch.domain.children import ChildrenSource, Contract
from tasklatch.domain.children_check import Translators, check_children
from tasklatch.domain.conditional_write import system_write, unopened_failure_write
from tasklatch.domain.dependencies import fails_execution, is_terminal
from tasklatch.domain.errors import (
    DuplicateNameError,
    InvalidRequestError,
    PayloadTooLargeError,
    TasklatchError,
)
from tasklatch.domain.execution import Execution
from tasklatch.domain.status import FAILURES, ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.domain.task_definition import TaskDefinition, new_children
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_insert import batch_insert
from tasklatch.dynamodb.expiry import with_expiry
from tasklatch.dynamodb.items import Item, from_attribute
from tasklatch.executions.attempt_index import AttemptIndex
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.executions.execution_tasks import ExecutionTasks
from tasklatch.executions.new_items import child_items, counter_items, dependency_items, input_items, task_items
from tasklatch.ledger.ledger import Ledger
from tasklatch.ledger.payloads import CHILDREN, DEPENDS_ON, input_text
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.closer import ExecutionCloser
from tasklatch.workflow.dependency_counters import DependencyCounters
from tasklatch.workflow.task_inputs import TaskInputs
from tasklatch.workflow.task_scheduler import TaskScheduler

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_NOT_VALID = (DuplicateNameError, InvalidRequestError, PayloadTooLargeError)


class ChildTasks:
    """Creation of children, and completion of their parent. Every step is safe to repeat.

    The parent first waits for as many children as its input defines; then all their parts are inserted, the children
    last; then those without dependencies are scheduled. So nothing that waits for the parent starts before all children
    exist and have ended, and what is interrupted is completed by the next delivery.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    closer
        What cancels children of an execution that has ended meanwhile.
    translators
        For each contract, what reads the definitions in its form.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        settings: Settings,
        clock: Clock,
        backoff: Backoff,
        closer: ExecutionCloser,
        translators: Translators,
    ) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._backoff = backoff
        self._closer = closer
        self._translators = translators
        self._executions = ExecutionTable(client, settings, clock, backoff)
        self._tasks = ExecutionTasks(client, settings, backoff)
        self._inputs = TaskInputs(client, settings, backoff)
        self._attempt_index = AttemptIndex(client, settings, backoff)
        self._counters = DependencyCounters(client, settings, backoff)
        self._ledger = Ledger(client, settings, clock, backoff)
        self._scheduler = TaskScheduler(client, settings, clock, backoff)

    def create(self, tenant: str, execution_id: str, parent_id: str) -> None:
        """Create the children of a task in progress, as far as they do not exist; complete it if all have ended.

        A parent whose input has no list of valid tasks fails for good, with the reason.

        Raises
        ------
        NotFoundError
            If the task does not exist, or its execution is not committed yet.
        ServiceBusyError
            If the table stays busy until the deadline; the message must be delivered again.
        """
        execution = self._executions.read(tenant, execution_id)
        parent = self._ledger.read(tenant, execution_id, parent_id)
        if execution.status is not ExecutionStatus.RUNNING:
            self._closer.cancel_open_tasks(tenant, execution_id)
        elif parent.status in FAILURES:
            self._skip_children(parent)
        elif parent.status is TaskStatus.IN_PROGRESS and not execution.is_held_back:
            self._create(execution, parent)

    def _create(self, execution: Execution, parent: Task) -> None:
        item = self._inputs.read(parent.tenant, parent.execution_id, [parent.task_id])[parent.task_id]
        source = _source(item)
        try:
            definitions = self._translators[source.contract](json.loads(input_text(item) or "{}"))
            indirect_names = check_children(definitions, from_attribute(item[DEPENDS_ON]) if DEPENDS_ON in item else ())
        except _NOT_VALID as error:
            self._fail(parent, _reason(error))
            return
        task_ids = [definition.task_id for definition in definitions]
        existing = self._tasks.read(parent.tenant, parent.execution_id, task_ids)
        if not self._are_own(parent, existing):
            return
        if not self._reserve(parent, len(definitions), source.max_tasks):
            self._fail(parent, f"it brings {len(definitions)} tasks: that is more than the execution may have")
            return
        missing = [definition for definition in definitions if definition.task_id not in existing]
        if self._insert(execution, parent, missing, indirect_names):
            self._go_on(execution, parent, task_ids, existing.values())

    def _are_own(self, parent: Task, existing: Mapping[str, Task]) -> bool:
        """Return True if none of the tasks with the ids of a parent's children is another's; else fail the parent."""
        others = [name for name, task in existing.items() if task.parent_id != parent.task_id]
        if others:
            self._skip_children(parent)
            self._fail(parent, f"the execution already has another task with the id {min(others)!r}")
        return not others

    def _reserve(self, parent: Task, count: int, max_tasks: int | None) -> bool:
        """Let the parent wait for its children, once; return False if the execution would have too many tasks."""
        tenant, execution_id, parent_id = parent.tenant, parent.execution_id, parent.task_id

        def reserve() -> bool:
            # Read before the counter: what another delivery reserves for this parent is then never taken as another's
            brought = 0 if max_tasks is None else self._executions.read(tenant, execution_id).brought_tasks
            counter = self._counters.read(tenant, execution_id, [parent_id]).get(parent_id)
            if counter is not None and counter.is_of_children:
                return True
            if max_tasks is not None and brought + count > max_tasks:
                return False
            if not self._counters.count_children(parent, count, now=self._clock(), max_tasks=max_tasks):
                raise TryAgainError
            return True

        return self._backoff.run(reserve)

    def _insert(
        self,
        execution: Execution,
        parent: Task,
        missing: Sequence[TaskDefinition],
        indirect_names: Mapping[str, Sequence[str]],
    ) -> bool:
        """Insert children that are missing; return False if they cannot be, or the execution has ended meanwhile.

        A child can be scheduled as soon as it exists, so all other parts exist before it.
        """
        tenant, execution_id, now = parent.tenant, parent.execution_id, self._clock()
        pk = keys.execution_pk(tenant, execution_id)
        children = new_children(missing, parent, now)
        if execution.has_attempt_index:
            self._attempt_index.put(children, now)
        parts = (counter_items(pk, missing), dependency_items(pk, missing), child_items(pk, missing, parent.task_id))
        self._batch_insert([*input_items(pk, missing, indirect_names), *(item for part in parts for item in part)], now)
        present = self._batch_insert(task_items(children), now)
        met = [child.task_id for child in children if keys.task_sk(child.task_id) in present]
        if met and not self._are_own(parent, self._tasks.read(tenant, execution_id, met)):
            return False
        if not self._executions.count_addition(tenant, execution_id):
            self._closer.cancel_open_tasks(tenant, execution_id)
            return False
        return True

    def _batch_insert(self, items: Iterable[Item], now: int) -> set[str]:
        expires_at = self._settings.expires_at(now)
        expiring = [with_expiry(item, expires_at) for item in items]
        return batch_insert(self._client, self._settings.table_name, expiring, self._backoff)

    def _go_on(self, execution: Execution, parent: Task, task_ids: Sequence[str], existing: Iterable[Task]) -> None:
        """Schedule the children that wait for nothing, and complete the parent if all children have ended.

        Children that existed may have ended without being counted.
        """
        tenant, execution_id = parent.tenant, parent.execution_id
        terminal = [task for task in existing if is_terminal(task)]
        if self._executions.fail_for(execution, terminal):
            return
        if len(terminal) == len(task_ids):
            for task in terminal:
                if not fails_execution(task):
                    self._counters.count_down(tenant, execution_id, task.task_id)
        self._scheduler.schedule(tenant, execution_id, [*task_ids, parent.task_id])

    def _skip_children(self, parent: Task) -> None:
        """Skip the children of a parent that fails because it cannot have all of them."""
        tenant, execution_id, now = parent.tenant, parent.execution_id, self._clock()
        children = [task for task in self._tasks.iterate(tenant, execution_id) if task.parent_id == parent.task_id]
        message = f"task {parent.task_id!r} cannot bring all its tasks"
        writes = [
            system_write(task, TaskStatus.SKIPPED, now=now, message=message)
            for task in children
            if not is_terminal(task)
        ]
        self._ledger.write_all(tenant, execution_id, writes)

    def _fail(self, parent: Task, reason: str) -> None:
        write = unopened_failure_write(parent, now=self._clock(), message=reason)
        self._ledger.write(parent.tenant, parent.execution_id, write)


def _source(item: Item) -> ChildrenSource:
    values = from_attribute(item[CHILDREN])
    return ChildrenSource(Contract(values["contract"]), values["is_declared"], values.get("max_tasks"))


def _reason(error: TasklatchError) -> str:
    details = str(error)
    if isinstance(error, InvalidRequestError) and error.errors:
        details = "; ".join(f"{_path(entry['loc'])}: {entry['msg']}" for entry in error.errors)
    return f"it brings no list of valid tasks: {details}"


def _path(steps: Any) -> str:
    return ".".join(map(str, steps[1:]))
