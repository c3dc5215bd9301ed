"""Executions and their tasks: creation that is safe to repeat, and reads."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from tasklatch.domain.conditional_write import system_write
from tasklatch.domain.dependencies import is_terminal
from tasklatch.domain.errors import ConflictError, NotFoundError
from tasklatch.domain.execution import EVERY_EXECUTION, Execution, ExecutionFilter
from tasklatch.domain.idempotency import KeyedRequest
from tasklatch.domain.new_execution import NewExecution
from tasklatch.domain.reference_check import check_references, has_references, possible_names
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task, TaskDetail
from tasklatch.domain.task_definition import TaskDefinition, check_definitions, check_unchanged, new_task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.batch_insert import batch_insert
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.dynamodb.cursor import decode_cursor, encode_cursor, invalid_cursor
from tasklatch.dynamodb.execution_item import execution_from_item, execution_key, execution_to_item, group_to_item
from tasklatch.dynamodb.pagination import paginate
from tasklatch.dynamodb.task_item import Item, task_from_item, task_to_item
from tasklatch.executions.attempt_index import AttemptIndex
from tasklatch.executions.idempotency_keys import IdempotencyKeys
from tasklatch.ledger.ledger import Ledger
from tasklatch.ledger.payloads import DEPENDS_ON, INCLUDES_ATTEMPT_ID, KIND, PAYLOAD, REFERS_TO, Payloads
from tasklatch.runtime.aws_errors import is_condition_failure
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.engine import WorkflowEngine

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

_PAGES_A_REQUEST: Final = 10
_GROUP_PAGE: Final = 100
_LONGEST_LISTED: Final = len(keys.execution_list_sort(0, "")) + 128
"""Maximum length of an execution's sort key in a list, a time and an id, in characters."""


class Executions:
    """Store of executions and their tasks.

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
        self._patience = backoff
        self._ledger = Ledger(client, settings, clock, backoff)
        self._payloads = Payloads(client, settings, backoff)
        self._attempt_index = AttemptIndex(client, settings, backoff)
        self._workflow = WorkflowEngine(client, settings, clock, backoff)

    def create(self, new: NewExecution, keyed: KeyedRequest | None = None) -> tuple[Execution, bool]:
        """Create an execution with its tasks.

        The order is: the idempotency key, tasks, their inputs, the item that commits the execution; then tasks without
        dependencies are scheduled. A repeat of the request completes the unfinished steps and never resets a task.

        Returns
        -------
        Execution, bool
            The execution, and True if this request created it.

        Raises
        ------
        InvalidRequestError
            If the task definitions are invalid; the key is then not bound.
        IdempotencyKeyReusedError
            If the key is bound to another request.
        ConflictError
            If the id is in use by another execution.
        ServiceBusyError
            If the table stays busy until the deadline; retry the request.
        """
        check_definitions(new.definitions)
        if keyed is not None:
            IdempotencyKeys(self._client, self._settings, self._clock, self._patience).claim(new.tenant, keyed)
        indirect_names = check_references(new.definitions)
        existing = self._find(new.tenant, new.execution_id)
        if existing is None:
            now = self._clock()
            tasks = self._put_tasks(new, indirect_names, now)
            execution = new.to_execution(now)
            existing = self._commit(execution)
        else:
            execution, tasks = existing, new.to_tasks(existing.created_at)
        if existing is not None and existing.definition != new.fingerprint:
            raise ConflictError(f"execution {new.execution_id!r} already exists, created by another request")
        if (existing or execution).status is ExecutionStatus.RUNNING:
            self._schedule_ready(new.tenant, new.execution_id, new.definitions, tasks)
        return existing or execution, existing is None

    def _put_tasks(self, new: NewExecution, indirect_names: Mapping[str, Sequence[str]], now: int) -> Sequence[Task]:
        tenant, execution_id = new.tenant, new.execution_id
        if not self._task_ids(tenant, execution_id) <= {definition.task_id for definition in new.definitions}:
            raise ConflictError(f"execution {execution_id!r} was started by another request and never committed")
        tasks = self._insert(tenant, execution_id, new.definitions, now)
        self._put_inputs(tenant, execution_id, new.definitions, indirect_names, now)
        if new.run is not None:
            self._attempt_index.put(tasks, now)
            self._payloads.put_run(tenant, execution_id, new.run, now)
        return tasks

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
        execution = self.get(tenant, execution_id)
        if execution.status is not ExecutionStatus.RUNNING:
            raise ConflictError(f"execution {execution_id!r} is {execution.status}: cannot add tasks")
        task_names = {name for definition in definitions for name in (definition.task_id, *definition.depends_on)}
        existing = self._read_tasks(tenant, execution_id, sorted(task_names | possible_names(definitions)))
        check_definitions(definitions, existing)
        terminal = {name for name, task in existing.items() if is_terminal(task)}
        started = {name for name, task in existing.items() if task.status is not TaskStatus.PENDING}
        beyond = check_references(definitions, existing, terminal=terminal, started=started)
        _check_all_unchanged(definitions, existing)
        task_ids = [definition.task_id for definition in definitions]
        now = self._clock()
        tasks = self._insert(tenant, execution_id, definitions, now)
        # A started task has its input already, with references resolved: a put would lose them
        missing = [definition for definition in definitions if definition.task_id not in started]
        self._put_inputs(tenant, execution_id, missing, beyond, now)
        if execution.has_attempt_index:
            self._attempt_index.put(tasks, now)
        if not self._increment_additions(tenant, execution_id):
            self._cancel_added(self._read_tasks(tenant, execution_id, task_ids).values())
            raise ConflictError(f"execution {execution_id!r} ended: cannot add tasks")
        self._workflow.schedule_unblocked(tenant, execution_id, task_ids)
        stored = self._read_tasks(tenant, execution_id, task_ids)
        return [stored[task_id] for task_id in task_ids]

    def get(self, tenant: str, execution_id: str) -> Execution:
        """Read one execution.

        Raises
        ------
        NotFoundError
            If it does not exist.
        """
        return self._workflow.read(tenant, execution_id)

    def get_with_tasks(
        self, tenant: str, execution_id: str, task_ids: Iterable[str]
    ) -> tuple[Execution, dict[str, Task]]:
        """Read one execution and some of its tasks in one batch; tasks that do not exist are left out.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        key = execution_key(tenant, execution_id)
        items = self._read_items([key, *_task_keys(tenant, execution_id, task_ids)])
        execution = next((execution_from_item(item) for item in items if item[keys.SK] == key[keys.SK]), None)
        if execution is None:
            raise NotFoundError("execution", execution_id)
        tasks = (task_from_item(item) for item in items if item[keys.SK] != key[keys.SK])
        return execution, {task.task_id: task for task in tasks}

    def counts(self, tenant: str, execution_id: str) -> dict[TaskStatus, int]:
        """Count an execution's tasks by status, with consistent reads."""
        return dict(Counter(map(TaskStatus, self._iterate_attribute(tenant, execution_id, "status"))))

    def list_executions(
        self,
        tenant: str,
        *,
        limit: int,
        cursor: str | None = None,
        criteria: ExecutionFilter = EVERY_EXECUTION,
        created_after: int | None = None,
        created_before: int | None = None,
    ) -> tuple[Sequence[Execution], str | None]:
        """List a tenant's executions, newest first.

        Times are milliseconds since the epoch. The index follows writes within about a second. A page can hold fewer
        items than `limit`, even none, although more follow: one request reads a bounded number of index pages.

        Returns
        -------
        Sequence[Execution], str or None
            One page, and the cursor of the next page; None after the last page.

        Raises
        ------
        InvalidRequestError
            If the cursor is invalid for this query.
        """
        group = criteria.single_group
        list_key = keys.execution_list(tenant) if group is None else keys.group_list(tenant, group)
        first = keys.execution_list_sort(created_after or 0, "")
        last = keys.execution_list_sort(keys.LONGEST_TIME if created_before is None else created_before, "\U0010ffff")
        scope = f"{list_key} {criteria.name} {first} {last}"
        query: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": keys.LISTS_INDEX,
            "KeyConditionExpression": "#key = :key AND #sort BETWEEN :from AND :to",
            "ExpressionAttributeNames": {"#key": keys.LIST_KEY, "#sort": keys.LIST_SORT},
            "ExpressionAttributeValues": {
                ":key": {"S": list_key},
                ":from": {"S": first},
                ":to": {"S": last},
            },
            "ScanIndexForward": False,
        }
        if cursor is not None:
            position = decode_cursor(cursor, scope)
            if not first <= position <= last or len(position) > _LONGEST_LISTED:
                raise invalid_cursor()
            query["ExclusiveStartKey"] = {
                keys.PK: {"S": keys.execution_pk(tenant, position.partition("#")[2])},
                keys.SK: {"S": keys.EXECUTION_SK if group is None else keys.GROUP_SK},
                keys.LIST_KEY: {"S": list_key},
                keys.LIST_SORT: {"S": position},
            }
        items: list[Execution] = []
        for _ in range(_PAGES_A_REQUEST):
            query["Limit"] = limit - len(items)
            response = self._patience.run(partial(self._client.query, **query))
            read = self._read_items(
                [{keys.PK: item[keys.PK], keys.SK: {"S": keys.EXECUTION_SK}} for item in response["Items"]]
            )
            page = sorted(
                map(execution_from_item, read),
                key=lambda execution: (execution.created_at, execution.execution_id),
                reverse=True,
            )
            items += filter(criteria.matches, page)
            if "LastEvaluatedKey" not in response:
                return items, None
            query["ExclusiveStartKey"] = response["LastEvaluatedKey"]
            if len(items) >= limit:
                break
        return items, encode_cursor(scope, query["ExclusiveStartKey"][keys.LIST_SORT]["S"])

    def list_group(
        self, tenant: str, group: str, *, created_after: int | None = None, created_before: int | None = None
    ) -> Iterator[Execution]:
        """Yield all executions of a group, newest first; pages are read on demand.

        Times are milliseconds since the epoch.
        """
        cursor = None
        while True:
            executions, cursor = self.list_executions(
                tenant,
                limit=_GROUP_PAGE,
                cursor=cursor,
                criteria=ExecutionFilter(group_versions=((group, None),)),
                created_after=created_after,
                created_before=created_before,
            )
            yield from executions
            if cursor is None:
                return

    def list_tasks(
        self,
        tenant: str,
        execution_id: str,
        *,
        limit: int,
        cursor: str | None = None,
        status: TaskStatus | None = None,
    ) -> tuple[Sequence[Task], str | None]:
        """List an execution's tasks by id, with consistent reads. A page can hold fewer items than `limit`.

        Returns
        -------
        Sequence[Task], str or None
            One page, and the cursor of the next page; None after the last page.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        InvalidRequestError
            If the cursor is invalid for this query.
        """
        query = self._tasks_query(tenant, execution_id)
        pk = keys.execution_pk(tenant, execution_id)
        scope = f"{pk} {status}"
        if cursor is None:
            self.get(tenant, execution_id)
        else:
            sk = decode_cursor(cursor, scope)
            if not sk.startswith(keys.TASK_PREFIX):
                raise invalid_cursor()
            query["ExclusiveStartKey"] = {keys.PK: {"S": pk}, keys.SK: {"S": sk}}
        if status is not None:
            query["FilterExpression"] = "#status = :status"
            query["ExpressionAttributeNames"]["#status"] = "status"
            query["ExpressionAttributeValues"][":status"] = {"S": status}
        tasks: list[Task] = []
        for _ in range(_PAGES_A_REQUEST):
            query["Limit"] = limit - len(tasks)
            response = self._patience.run(partial(self._client.query, **query))
            tasks += map(task_from_item, response["Items"])
            if "LastEvaluatedKey" not in response:
                return tasks, None
            query["ExclusiveStartKey"] = response["LastEvaluatedKey"]
            if len(tasks) >= limit:
                break
        return tasks, encode_cursor(scope, query["ExclusiveStartKey"][keys.SK]["S"])

    def get_task_detail(self, tenant: str, execution_id: str, task_id: str) -> TaskDetail:
        """Read one task with its input and output.

        Raises
        ------
        NotFoundError
            If it does not exist.
        """
        task = self._ledger.read(tenant, execution_id, task_id)
        return self._payloads.get_details(tenant, execution_id, [task])[0]

    def _increment_additions(self, tenant: str, execution_id: str) -> bool:
        """Count an addition, so that a concurrent completion fails its condition; False if the execution has ended."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": execution_key(tenant, execution_id),
            "UpdateExpression": "ADD #additions :one",
            "ConditionExpression": "#status = :running",
            "ExpressionAttributeNames": {"#additions": "additions", "#status": "status"},
            "ExpressionAttributeValues": {":one": {"N": "1"}, ":running": {"S": ExecutionStatus.RUNNING}},
        }
        try:
            self._patience.run(lambda: self._client.update_item(**request))
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            return False
        return True

    def _cancel_added(self, tasks: Iterable[Task]) -> None:
        """Cancel pending tasks that were added after the execution ended."""
        now = self._clock()
        for task in tasks:
            if task.status is TaskStatus.PENDING:
                write = system_write(task, TaskStatus.CANCELED, now=now, message="the execution ended before")
                self._ledger.write(task.tenant, task.execution_id, write)

    def _insert(
        self, tenant: str, execution_id: str, definitions: Sequence[TaskDefinition], now: int
    ) -> Sequence[Task]:
        """Insert the missing counters, dependency items and tasks, in this order.

        A task can get a report as soon as it exists, so its dependency items must exist before it; and each dependency
        item needs its counter.
        """
        pk = keys.execution_pk(tenant, execution_id)
        self._batch_insert(self._counter_items(pk, definitions, now))
        self._batch_insert(self._dependency_items(pk, definitions, now))
        tasks = [new_task(definition, tenant, execution_id, now) for definition in definitions]
        present = self._batch_insert([self._new_item(task) for task in tasks])
        already_present = [task.task_id for task in tasks if keys.task_sk(task.task_id) in present]
        _check_all_unchanged(definitions, self._read_tasks(tenant, execution_id, already_present))
        return tasks

    def _put_inputs(
        self,
        tenant: str,
        execution_id: str,
        definitions: Sequence[TaskDefinition],
        beyond: Mapping[str, Sequence[str]],
        now: int,
    ) -> None:
        """Store the inputs of tasks; workers need none before its task is scheduled, so they can follow the tasks.

        Parameters
        ----------
        beyond
            By task, the names that its input refers to besides its own dependencies.
        """
        pk = keys.execution_pk(tenant, execution_id)
        batch_put(self._client, self._table, self._input_items(pk, definitions, beyond, now), self._patience)

    def _batch_insert(self, items: Sequence[Item]) -> set[str]:
        return batch_insert(self._client, self._table, items, self._patience)

    def _new_item(self, task: Task) -> Item:
        item = task_to_item(task)
        item[keys.LIST_KEY] = {"S": keys.open_list(task.tenant, task.execution_id)}
        item[keys.LIST_SORT] = item[keys.SK]
        self._set_expiry(item, task.created_at)
        return item

    def _counter_items(self, pk: str, definitions: Sequence[TaskDefinition], now: int) -> list[Item]:
        """Return one counter item for each task with dependencies: the number of dependencies that remain."""
        items: list[Item] = [
            {
                keys.PK: {"S": pk},
                keys.SK: {"S": keys.waits_sk(definition.task_id)},
                "taskId": {"S": definition.task_id},
                "remaining": {"N": str(len(definition.depends_on))},
            }
            for definition in definitions
            if definition.depends_on
        ]
        for item in items:
            self._set_expiry(item, now)
        return items

    def _dependency_items(self, pk: str, definitions: Sequence[TaskDefinition], now: int) -> list[Item]:
        """Return one item for each pair of a dependency and its dependent."""
        items: list[Item] = [
            {
                keys.PK: {"S": pk},
                keys.SK: {"S": keys.dependent_sk(name, definition.task_id)},
                "taskId": {"S": definition.task_id},
            }
            for definition in definitions
            for name in definition.depends_on
        ]
        for item in items:
            self._set_expiry(item, now)
        return items

    def _input_items(
        self, pk: str, definitions: Sequence[TaskDefinition], beyond: Mapping[str, Sequence[str]], now: int
    ) -> list[Item]:
        items = []
        for definition in definitions:
            item: Item = {keys.PK: {"S": pk}, keys.SK: {"S": keys.input_sk(definition.task_id)}}
            if definition.input is not None:
                item[PAYLOAD] = {"S": definition.input}
            if definition.includes_attempt_id:
                item[INCLUDES_ATTEMPT_ID] = {"BOOL": True}
            if definition.kind is not None:
                item[KIND] = {"S": definition.kind}
            if definition.depends_on:
                item[DEPENDS_ON] = {"L": [{"S": name} for name in definition.depends_on]}
            if beyond.get(definition.task_id):
                item[REFERS_TO] = {"L": [{"S": name} for name in beyond[definition.task_id]]}
            if len(item) > len((keys.PK, keys.SK)):
                self._set_expiry(item, now)
                items.append(item)
        return items

    def _schedule_ready(
        self, tenant: str, execution_id: str, definitions: Sequence[TaskDefinition], tasks: Sequence[Task]
    ) -> None:
        waiting = {definition.task_id for definition in definitions if definition.depends_on}
        referring = {definition.task_id for definition in definitions if has_references(definition)}
        now = self._clock()
        ready = [task for task in tasks if task.task_id not in waiting]
        writes = [system_write(task, TaskStatus.SCHEDULED, now=now) for task in ready if task.task_id not in referring]
        self._ledger.write_all(tenant, execution_id, writes)
        self._workflow.schedule(tenant, execution_id, [task.task_id for task in ready if task.task_id in referring])

    def _commit(self, execution: Execution) -> Execution | None:
        """Put the execution's item; if another request was first, return that request's execution."""
        if execution.group is not None:
            listed = group_to_item(execution, execution.group)
            self._set_expiry(listed, execution.created_at)
            batch_put(self._client, self._table, [listed], self._patience)
        item = execution_to_item(execution)
        self._set_expiry(item, execution.created_at)
        try:
            self._patience.run(
                lambda: self._client.put_item(
                    TableName=self._table,
                    Item=item,
                    ConditionExpression="attribute_not_exists(#pk)",
                    ExpressionAttributeNames={"#pk": keys.PK},
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                ),
            )
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            return execution_from_item(cast("dict[str, Any]", error.response)["Item"])
        return None

    def _find(self, tenant: str, execution_id: str) -> Execution | None:
        try:
            return self.get(tenant, execution_id)
        except NotFoundError:
            return None

    def _read_tasks(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> dict[str, Task]:
        """Read some of an execution's tasks by id; tasks that do not exist are left out."""
        items = self._read_items(_task_keys(tenant, execution_id, task_ids))
        return {task.task_id: task for task in map(task_from_item, items)}

    def _read_items(self, item_keys: "Sequence[Item]") -> list[Item]:
        return batch_get(self._client, self._table, item_keys, self._patience)

    def _task_ids(self, tenant: str, execution_id: str) -> set[str]:
        return set(self._iterate_attribute(tenant, execution_id, "taskId"))

    def _iterate_attribute(self, tenant: str, execution_id: str, attribute: str) -> Iterator[str]:
        """Return one attribute of each task of an execution, with consistent reads."""
        query = self._tasks_query(tenant, execution_id)
        query["ProjectionExpression"] = "#wanted"
        query["ExpressionAttributeNames"]["#wanted"] = attribute
        return (item[attribute]["S"] for item in paginate(self._client, query, self._patience))

    def _tasks_query(self, tenant: str, execution_id: str) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "KeyConditionExpression": "#pk = :pk AND begins_with(#sk, :prefix)",
            "ExpressionAttributeNames": {"#pk": keys.PK, "#sk": keys.SK},
            "ExpressionAttributeValues": {
                ":pk": {"S": keys.execution_pk(tenant, execution_id)},
                ":prefix": {"S": keys.TASK_PREFIX},
            },
            "ConsistentRead": True,
        }

    def _set_expiry(self, item: Item, now: int) -> None:
        expires_at = self._settings.expires_at(now)
        if expires_at is not None:
            item["expiresAt"] = {"N": str(expires_at)}


def _task_keys(tenant: str, execution_id: str, task_ids: Iterable[str]) -> list[Item]:
    pk: AttributeValueTypeDef = {"S": keys.execution_pk(tenant, execution_id)}
    return [{keys.PK: pk, keys.SK: {"S": keys.task_sk(task_id)}} for task_id in task_ids]


def _check_all_unchanged(definitions: Sequence[TaskDefinition], existing: Mapping[str, Task]) -> None:
    for definition in definitions:
        if definition.task_id in existing:
            check_unchanged(definition, existing[definition.task_id])
