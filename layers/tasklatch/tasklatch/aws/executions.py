"""Executions and their tasks: creating them so that it can safely be repeated, and reading them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from tasklatch.aws import keys
from tasklatch.aws.batch_get import get_all
from tasklatch.aws.batch_put import put_all
from tasklatch.aws.cursor import decode_cursor, encode_cursor, foreign_cursor
from tasklatch.aws.execution_item import execution_item, execution_key, execution_of, group_item
from tasklatch.aws.idempotency_keys import IdempotencyKeys
from tasklatch.aws.insertion import insert_absent
from tasklatch.aws.ledger import Ledger
from tasklatch.aws.pages import pages
from tasklatch.aws.patience import Patience
from tasklatch.aws.payloads import DEPENDS_ON, KIND, NAMES_ATTEMPT, PAYLOAD, REFERS_TO, Payloads
from tasklatch.aws.task_item import Item, item_of, task_of
from tasklatch.aws.task_pointers import TaskPointers
from tasklatch.aws.workflow import Workflow
from tasklatch.clock import Clock
from tasklatch.domain.errors import ConflictError, NotFoundError
from tasklatch.domain.execution import (
    EVERY_EXECUTION,
    Execution,
    ExecutionFilter,
    TaskDefinition,
    WorkflowRun,
    check_definitions,
    check_unchanged,
    creation_fingerprint,
    new_task,
)
from tasklatch.domain.idempotency import KeyedRequest
from tasklatch.domain.latch import service_latch
from tasklatch.domain.reference_check import check_references, has_references, possible_names
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task, TaskDetail
from tasklatch.domain.workflow import is_settled
from tasklatch.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

_PAGES_A_REQUEST: Final = 10
_GROUP_PAGE: Final = 100
_LONGEST_LISTED: Final = len(keys.execution_list_sort(0, "")) + 128
"""What names an execution in a list: a time and an id, in characters."""


class Executions:
    """The executions of the table.

    Parameters
    ----------
    patience
        How long to wait for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, patience: Patience) -> None:
        self._client = client
        self._settings = settings
        self._table = settings.table_name
        self._clock = clock
        self._patience = patience
        self._ledger = Ledger(client, settings, clock, patience)
        self._payloads = Payloads(client, settings, patience)
        self._pointers = TaskPointers(client, settings, patience)
        self._workflow = Workflow(client, settings, clock, patience)

    def claim_key(self, tenant: str, request: KeyedRequest | None, definitions: Sequence[TaskDefinition]) -> None:
        """Bind the key of a request, where it has one, before anything is created; wrong tasks bind none.

        Raises
        ------
        InvalidRequestError
            If the tasks do not fit together.
        IdempotencyKeyReusedError
            If the key came with another request before.
        BusyError
            If the table would not take it in time.
        """
        if request is not None:
            check_definitions(definitions)
            IdempotencyKeys(self._client, self._settings, self._clock, self._patience).claim(tenant, request)

    def create(
        self,
        tenant: str,
        execution_id: str,
        definitions: Sequence[TaskDefinition],
        *,
        name: str | None = None,
        metadata: str | None = None,
        group: str | None = None,
        stays_open: bool = False,
        run: WorkflowRun | None = None,
    ) -> tuple[Execution, bool]:
        """Create an execution with its tasks.

        Parameters
        ----------
        run
            What it is a run of, where that is kept with it; its tasks can then be found by their attempts' ids.

        The tasks are put first, then their inputs, then the item that commits them; then those that wait for nothing
        are scheduled. The same request again finishes what an earlier one left undone, and never resets a task.

        Returns
        -------
        Execution, bool
            The execution, and whether this request is the one that made it.

        Raises
        ------
        InvalidRequestError
            If the tasks do not fit together.
        ConflictError
            If the id was used for something else.
        BusyError
            If the table would not take it all in time; send it again.
        """
        check_definitions(definitions)
        beyond = check_references(definitions)
        fingerprint = creation_fingerprint(name, metadata, definitions, group=group, stays_open=stays_open, run=run)
        found = self._find(tenant, execution_id)
        if found is None:
            now = self._clock()
            if not self._task_ids(tenant, execution_id) <= {definition.task_id for definition in definitions}:
                raise ConflictError(f"execution {execution_id!r} was begun from another request and never finished")
            tasks = self._insert(tenant, execution_id, definitions, now)
            self._put_inputs(tenant, execution_id, definitions, beyond, now)
            if run is not None:
                self._pointers.put(tasks, now)
                self._payloads.put_run(tenant, execution_id, run, now)
            execution = Execution(
                tenant=tenant,
                execution_id=execution_id,
                status=ExecutionStatus.RUNNING,
                version=1,
                created_at=now,
                updated_at=now,
                definition=fingerprint,
                name=name,
                metadata=metadata,
                group=group,
                group_version=run.version if run is not None else None,
                names_tasks_by_id=run is not None,
                stays_open=stays_open,
            )
            found = self._commit(execution)
        else:
            execution = found
            tasks = [new_task(definition, tenant, execution_id, found.created_at) for definition in definitions]
        if found is not None and found.definition != fingerprint:
            raise ConflictError(f"execution {execution_id!r} exists already, created from another request")
        if (found or execution).status is ExecutionStatus.RUNNING:
            self._schedule_ready(tenant, execution_id, definitions, tasks)
        return found or execution, found is None

    def add_tasks(self, tenant: str, execution_id: str, definitions: Sequence[TaskDefinition]) -> list[Task]:
        """Add tasks to a running execution; a task that is there already, from the same definition, stays as it is.

        Raises
        ------
        NotFoundError
            If there is no such execution.
        InvalidRequestError
            If the tasks do not fit together, or to those that are there.
        ConflictError
            If the execution is over, or has one of the tasks with another definition.
        BusyError
            If the table would not take it all in time; send it again.
        """
        execution = self.get(tenant, execution_id)
        if execution.status is not ExecutionStatus.RUNNING:
            raise ConflictError(f"execution {execution_id!r} is {execution.status}: no task can be added")
        named = {name for definition in definitions for name in (definition.task_id, *definition.depends_on)}
        existing = self._read_tasks(tenant, execution_id, sorted(named | possible_names(definitions)))
        check_definitions(definitions, existing)
        settled = {name for name, task in existing.items() if is_settled(task)}
        started = {name for name, task in existing.items() if task.status is not TaskStatus.PENDING}
        beyond = check_references(definitions, existing, settled=settled, started=started)
        _check_all_unchanged(definitions, existing)
        task_ids = [definition.task_id for definition in definitions]
        now = self._clock()
        tasks = self._insert(tenant, execution_id, definitions, now)
        # What was started has its input, with references in it resolved.
        missing = [definition for definition in definitions if definition.task_id not in started]
        self._put_inputs(tenant, execution_id, missing, beyond, now)
        if execution.names_tasks_by_id:
            self._pointers.put(tasks, now)
        if not self._note_addition(tenant, execution_id):
            self._withdraw(self._read_tasks(tenant, execution_id, task_ids).values())
            raise ConflictError(f"execution {execution_id!r} ended: no task can be added")
        self._workflow.catch_up(tenant, execution_id, task_ids)
        read = self._read_tasks(tenant, execution_id, task_ids)
        return [read[task_id] for task_id in task_ids]

    def get(self, tenant: str, execution_id: str) -> Execution:
        """Read one execution.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        return self._workflow.read(tenant, execution_id)

    def get_with_tasks(
        self, tenant: str, execution_id: str, task_ids: Iterable[str]
    ) -> tuple[Execution, dict[str, Task]]:
        """Read one execution and some of its tasks together; those that are not there do not come.

        Raises
        ------
        NotFoundError
            If there is no such execution.
        BusyError
            If the table would not answer in time.
        """
        key = execution_key(tenant, execution_id)
        found = self._read_items([key, *_task_keys(tenant, execution_id, task_ids)])
        execution = next((execution_of(item) for item in found if item[keys.SK] == key[keys.SK]), None)
        if execution is None:
            raise NotFoundError("execution", execution_id)
        tasks = (task_of(item) for item in found if item[keys.SK] != key[keys.SK])
        return execution, {task.task_id: task for task in tasks}

    def counts(self, tenant: str, execution_id: str) -> dict[TaskStatus, int]:
        """Count an execution's tasks by status, as they stand now."""
        return dict(Counter(map(TaskStatus, self._column(tenant, execution_id, "status"))))

    def list_executions(
        self,
        tenant: str,
        *,
        limit: int,
        cursor: str | None = None,
        wanted: ExecutionFilter = EVERY_EXECUTION,
        created_after: int | None = None,
        created_before: int | None = None,
    ) -> tuple[Sequence[Execution], str | None]:
        """List a tenant's executions, newest first, and say where to go on.

        Times are milliseconds since the epoch. The index behind it follows writes within about a second. A page can
        hold fewer than `limit`, even none, and still go on: where many do not match, the search stops for breath.

        Raises
        ------
        InvalidRequestError
            If the cursor is not one of this list's.
        """
        group = wanted.only_group
        list_key = keys.execution_list(tenant) if group is None else keys.group_list(tenant, group)
        first = keys.execution_list_sort(created_after or 0, "")
        last = keys.execution_list_sort(keys.LONGEST_TIME if created_before is None else created_before, "\U0010ffff")
        scope = f"{list_key} {wanted.name} {first} {last}"
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
                raise foreign_cursor()
            query["ExclusiveStartKey"] = {
                keys.PK: {"S": keys.execution_pk(tenant, position.partition("#")[2])},
                keys.SK: {"S": keys.EXECUTION_SK if group is None else keys.GROUP_SK},
                keys.LIST_KEY: {"S": list_key},
                keys.LIST_SORT: {"S": position},
            }
        items: list[Execution] = []
        for _ in range(_PAGES_A_REQUEST):
            query["Limit"] = limit - len(items)
            answer = self._patience.call(partial(self._client.query, **query))
            read = self._read_items(
                [{keys.PK: item[keys.PK], keys.SK: {"S": keys.EXECUTION_SK}} for item in answer["Items"]]
            )
            page = sorted(map(execution_of, read), key=lambda one: (one.created_at, one.execution_id), reverse=True)
            items += filter(wanted.lets_through, page)
            if "LastEvaluatedKey" not in answer:
                return items, None
            query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
            if len(items) >= limit:
                break
        return items, encode_cursor(scope, query["ExclusiveStartKey"][keys.LIST_SORT]["S"])

    def of_group(
        self, tenant: str, group: str, *, created_after: int | None = None, created_before: int | None = None
    ) -> Iterator[Execution]:
        """All executions of a group, newest first, read as they are asked for.

        Times are milliseconds since the epoch.
        """
        cursor = None
        while True:
            found, cursor = self.list_executions(
                tenant,
                limit=_GROUP_PAGE,
                cursor=cursor,
                wanted=ExecutionFilter(runs_of=((group, None),)),
                created_after=created_after,
                created_before=created_before,
            )
            yield from found
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
        """List an execution's tasks by id, as they stand now, and say where to go on. A page can hold fewer.

        Raises
        ------
        NotFoundError
            If there is no such execution.
        InvalidRequestError
            If the cursor is not one of this list's.
        """
        query = self._tasks_query(tenant, execution_id)
        pk = keys.execution_pk(tenant, execution_id)
        scope = f"{pk} {status}"
        if cursor is None:
            self.get(tenant, execution_id)
        else:
            sk = decode_cursor(cursor, scope)
            if not sk.startswith(keys.TASK_PREFIX):
                raise foreign_cursor()
            query["ExclusiveStartKey"] = {keys.PK: {"S": pk}, keys.SK: {"S": sk}}
        if status is not None:
            query["FilterExpression"] = "#status = :status"
            query["ExpressionAttributeNames"]["#status"] = "status"
            query["ExpressionAttributeValues"][":status"] = {"S": status}
        tasks: list[Task] = []
        for _ in range(_PAGES_A_REQUEST):
            query["Limit"] = limit - len(tasks)
            answer = self._patience.call(partial(self._client.query, **query))
            tasks += map(task_of, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return tasks, None
            query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
            if len(tasks) >= limit:
                break
        return tasks, encode_cursor(scope, query["ExclusiveStartKey"][keys.SK]["S"])

    def task_detail(self, tenant: str, execution_id: str, task_id: str) -> TaskDetail:
        """Read one task with its input and output.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        task = self._ledger.read(tenant, execution_id, task_id)
        return self._payloads.details_of(tenant, execution_id, [task])[0]

    def _note_addition(self, tenant: str, execution_id: str) -> bool:
        """Tell whoever is about to end the execution that there is more to wait for; False where it has ended."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": execution_key(tenant, execution_id),
            "UpdateExpression": "ADD #additions :one",
            "ConditionExpression": "#status = :running",
            "ExpressionAttributeNames": {"#additions": "additions", "#status": "status"},
            "ExpressionAttributeValues": {":one": {"N": "1"}, ":running": {"S": ExecutionStatus.RUNNING}},
        }
        try:
            self._patience.call(lambda: self._client.update_item(**request))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True

    def _withdraw(self, tasks: Iterable[Task]) -> None:
        """Cancel tasks that came too late to be worked on."""
        now = self._clock()
        for task in tasks:
            if task.status is TaskStatus.PENDING:
                latch = service_latch(task, TaskStatus.CANCELED, now=now, message="the execution ended before")
                self._ledger.apply(task.tenant, task.execution_id, latch)

    def _insert(
        self, tenant: str, execution_id: str, definitions: Sequence[TaskDefinition], now: int
    ) -> Sequence[Task]:
        """Put what is not there yet: who waits for whom, and the tasks.

        A task can be reported on as soon as it is there, so who waits for it must be known before; and what is counted
        down must be there before anyone can find that it is to be.
        """
        pk = keys.execution_pk(tenant, execution_id)
        self._insert_absent(self._counter_items(pk, definitions, now))
        self._insert_absent(self._pair_items(pk, definitions, now))
        tasks = [new_task(definition, tenant, execution_id, now) for definition in definitions]
        present = self._insert_absent([self._new_item(task) for task in tasks])
        were_there = [task.task_id for task in tasks if keys.task_sk(task.task_id) in present]
        _check_all_unchanged(definitions, self._read_tasks(tenant, execution_id, were_there))
        return tasks

    def _put_inputs(
        self,
        tenant: str,
        execution_id: str,
        definitions: Sequence[TaskDefinition],
        beyond: Mapping[str, Sequence[str]],
        now: int,
    ) -> None:
        """Put what tasks are given: nobody works on a task before it is scheduled, so it can come after them.

        Parameters
        ----------
        beyond
            By task, the names that its input refers to beyond those that it waits for.
        """
        pk = keys.execution_pk(tenant, execution_id)
        put_all(self._client, self._table, self._input_items(pk, definitions, beyond, now), self._patience)

    def _insert_absent(self, items: Sequence[Item]) -> set[str]:
        return insert_absent(self._client, self._table, items, self._patience)

    def _new_item(self, task: Task) -> Item:
        item = item_of(task)
        item[keys.LIST_KEY] = {"S": keys.open_list(task.tenant, task.execution_id)}
        item[keys.LIST_SORT] = item[keys.SK]
        self._let_expire(item, task.created_at)
        return item

    def _counter_items(self, pk: str, definitions: Sequence[TaskDefinition], now: int) -> list[Item]:
        """For each task that waits, an item that counts what it waits for."""
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
            self._let_expire(item, now)
        return items

    def _pair_items(self, pk: str, definitions: Sequence[TaskDefinition], now: int) -> list[Item]:
        """An item for each pair of tasks of which one waits for the other."""
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
            self._let_expire(item, now)
        return items

    def _input_items(
        self, pk: str, definitions: Sequence[TaskDefinition], beyond: Mapping[str, Sequence[str]], now: int
    ) -> list[Item]:
        items = []
        for definition in definitions:
            item: Item = {keys.PK: {"S": pk}, keys.SK: {"S": keys.input_sk(definition.task_id)}}
            if definition.input is not None:
                item[PAYLOAD] = {"S": definition.input}
            if definition.names_attempt:
                item[NAMES_ATTEMPT] = {"BOOL": True}
            if definition.kind is not None:
                item[KIND] = {"S": definition.kind}
            if definition.depends_on:
                item[DEPENDS_ON] = {"L": [{"S": name} for name in definition.depends_on]}
            if beyond.get(definition.task_id):
                item[REFERS_TO] = {"L": [{"S": name} for name in beyond[definition.task_id]]}
            if len(item) > len((keys.PK, keys.SK)):
                self._let_expire(item, now)
                items.append(item)
        return items

    def _schedule_ready(
        self, tenant: str, execution_id: str, definitions: Sequence[TaskDefinition], tasks: Sequence[Task]
    ) -> None:
        waiting = {definition.task_id for definition in definitions if definition.depends_on}
        referring = {definition.task_id for definition in definitions if has_references(definition)}
        now = self._clock()
        ready = [task for task in tasks if task.task_id not in waiting]
        latches = [
            service_latch(task, TaskStatus.SCHEDULED, now=now) for task in ready if task.task_id not in referring
        ]
        self._ledger.apply_all(tenant, execution_id, latches)
        self._workflow.schedule(tenant, execution_id, [task.task_id for task in ready if task.task_id in referring])

    def _commit(self, execution: Execution) -> Execution | None:
        """Put the execution's item; if another request was first, return what that one put."""
        if execution.group is not None:
            listed = group_item(execution, execution.group)
            self._let_expire(listed, execution.created_at)
            put_all(self._client, self._table, [listed], self._patience)
        item = execution_item(execution)
        self._let_expire(item, execution.created_at)
        try:
            self._patience.call(
                lambda: self._client.put_item(
                    TableName=self._table,
                    Item=item,
                    ConditionExpression="attribute_not_exists(#pk)",
                    ExpressionAttributeNames={"#pk": keys.PK},
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                ),
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return execution_of(cast("dict[str, Any]", error.response)["Item"])
        return None

    def _find(self, tenant: str, execution_id: str) -> Execution | None:
        try:
            return self.get(tenant, execution_id)
        except NotFoundError:
            return None

    def _read_tasks(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> dict[str, Task]:
        """Read some of an execution's tasks; those that are not there do not come."""
        found = self._read_items(_task_keys(tenant, execution_id, task_ids))
        return {task.task_id: task for task in map(task_of, found)}

    def _read_items(self, wanted: "Sequence[Item]") -> list[Item]:
        return get_all(self._client, self._table, wanted, self._patience)

    def _task_ids(self, tenant: str, execution_id: str) -> set[str]:
        return set(self._column(tenant, execution_id, "taskId"))

    def _column(self, tenant: str, execution_id: str, attribute: str) -> Iterator[str]:
        """One attribute of each task of an execution, as they stand now."""
        query = self._tasks_query(tenant, execution_id)
        query["ProjectionExpression"] = "#wanted"
        query["ExpressionAttributeNames"]["#wanted"] = attribute
        return (item[attribute]["S"] for item in pages(self._client, query, self._patience))

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

    def _let_expire(self, item: Item, now: int) -> None:
        expires_at = self._settings.expires_at(now)
        if expires_at is not None:
            item["expiresAt"] = {"N": str(expires_at)}


def _task_keys(tenant: str, execution_id: str, task_ids: Iterable[str]) -> list[Item]:
    pk: AttributeValueTypeDef = {"S": keys.execution_pk(tenant, execution_id)}
    return [{keys.PK: pk, keys.SK: {"S": keys.task_sk(task_id)}} for task_id in task_ids]


def _check_all_unchanged(definitions: Sequence[TaskDefinition], found: Mapping[str, Task]) -> None:
    for definition in definitions:
        if definition.task_id in found:
            check_unchanged(definition, found[definition.task_id])
