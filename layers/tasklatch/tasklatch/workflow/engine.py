"""Workflow engine: schedules the dependents of a terminal task, and ends its execution after the last one.

Every step is safe to repeat. Each pair of a dependency and its dependent is one item, and each dependent has one
counter of the dependencies that remain; both change in one transaction. So the cost of a terminal task depends on the
number of its dependents, never on the number of tasks in the execution.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from tasklatch.domain.conditional_write import manual_retry_write, system_write, unopened_failure_write
from tasklatch.domain.dependencies import can_be_retried, execution_outcome, fails_execution, is_terminal
from tasklatch.domain.errors import ConflictError, NotFoundError, PayloadTooLargeError, ServiceBusyError
from tasklatch.domain.execution import Execution
from tasklatch.domain.json_text import dump_payload
from tasklatch.domain.reference import REFERENCE_PREFIX, WORKFLOW_NAME, Reference, get_path, resolve_references
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.batch_write import batched
from tasklatch.dynamodb.execution_item import execution_from_item, execution_key
from tasklatch.dynamodb.pagination import paginate
from tasklatch.dynamodb.task_item import Item, task_from_item
from tasklatch.ledger.ledger import Ledger
from tasklatch.ledger.payloads import (
    DEPENDS_ON,
    INCLUDES_ATTEMPT_ID,
    PAYLOAD,
    REFERS_TO,
    RESOLVED,
    Payloads,
    input_text,
)
from tasklatch.runtime.aws_errors import is_condition_failure
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PAIRS_A_TRANSACTION: Final = 25
_OPEN_TASKS_A_PAGE: Final = 5
_MAX_CANCEL_PASSES: Final = 5

MAX_REFERRED_BYTES: Final = 200_000
"""Maximum size of all values that one input refers to, as JSON, in bytes."""

_MAX_INPUT_ITEM_BYTES: Final = 390_000
"""DynamoDB limits an item to 400 KB: it holds the original input, the dependencies and the resolved input."""

_NO_TASK: Final = object()
_WHOLE_INPUT: Final = "its input, with all that it refers to,"


class WorkflowEngine:
    """State changes of executions, and the scheduling of their tasks.

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
        self._execution_cache: dict[tuple[str, str], Execution] = {}

    def advance(self, tenant: str, execution_id: str, task_id: str) -> None:
        """Schedule the dependents of a task if it is terminal, and end its execution if it was the last task.

        Raises
        ------
        NotFoundError
            If the task does not exist, or its execution is not committed yet.
        ServiceBusyError
            If the table stays busy until the deadline; retry the call.
        """
        if self.schedule_dependents(tenant, execution_id, task_id):
            self.complete_if_finished(tenant, execution_id)

    def schedule_dependents(self, tenant: str, execution_id: str, task_id: str) -> bool:
        """Schedule the dependents of a task if it is terminal; if it fails its execution, fail the execution instead.

        Returns
        -------
        bool
            True if the execution may be complete now; one call of `complete_if_finished` can follow many tasks.

        Raises
        ------
        NotFoundError
            If the task does not exist, or its execution is not committed yet.
        ServiceBusyError
            If the table stays busy until the deadline; retry the call.
        """
        task = self._ledger.read(tenant, execution_id, task_id)
        if not is_terminal(task):
            return False
        execution = self._cached_execution(tenant, execution_id)
        if execution.status is not ExecutionStatus.RUNNING:
            return False
        if fails_execution(task):
            self._fail_execution(execution, [task])
            return False
        self.schedule(tenant, execution_id, self._count_down(task))
        return True

    def has_open_tasks(self, execution: Execution) -> bool:
        """Return True if one of the tasks in the index of open tasks is not terminal."""
        return any(not is_terminal(task) for task in self._open_tasks(execution.tenant, execution.execution_id))

    def schedule_unblocked(self, tenant: str, execution_id: str, task_ids: Sequence[str]) -> int:
        """Schedule pending tasks of a running execution after counting down their terminal dependencies.

        This repairs dependencies that ended without being counted. If one of them fails the execution, the execution
        fails instead.

        Returns
        -------
        int
            Number of tasks that were ready.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        try:
            execution = self.read(tenant, execution_id)
        except NotFoundError:
            return 0
        if execution.status is not ExecutionStatus.RUNNING:
            return 0
        awaited = [task for task in self.dependencies_of(tenant, execution_id, task_ids) if is_terminal(task)]
        if self._fail_execution(execution, awaited):
            return 0
        for task in awaited:
            if not fails_execution(task):
                self._count_down(task)
        return self.schedule(tenant, execution_id, task_ids)

    def dependencies_of(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> list[Task]:
        """Read the dependencies of tasks, as their definitions name them."""
        pk = keys.execution_pk(tenant, execution_id)
        inputs = self._batch_get(pk, map(keys.input_sk, task_ids)).values()
        names = {name["S"] for item in inputs if DEPENDS_ON in item for name in item[DEPENDS_ON]["L"]}
        return [task_from_item(item) for item in self._batch_get(pk, map(keys.task_sk, names)).values()]

    def schedule(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> int:
        """Schedule those of these tasks that are pending and have no dependency left.

        A task whose input becomes too large or too deep once its references are resolved fails for good instead.

        Returns
        -------
        int
            Number of tasks that were ready, those that failed included.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        unique_ids = list(dict.fromkeys(task_ids))
        pk = keys.execution_pk(tenant, execution_id)
        waits = self._batch_get(pk, (keys.waits_sk(task_id) for task_id in unique_ids))
        held = {item["taskId"]["S"] for item in waits.values() if int(item["remaining"]["N"]) > 0}
        items = self._batch_get(pk, (keys.task_sk(task_id) for task_id in unique_ids if task_id not in held))
        ready = [task for task in map(task_from_item, items.values()) if task.status is TaskStatus.PENDING]
        inputs = self._batch_get(pk, (keys.input_sk(task.task_id) for task in ready))
        faults = {sk: self._resolve(tenant, execution_id, item) for sk, item in inputs.items()}
        now = self._clock()
        writes = [
            unopened_failure_write(task, now=now, message=fault)
            if (fault := faults.get(keys.input_sk(task.task_id)))
            else system_write(task, TaskStatus.SCHEDULED, now=now)
            for task in ready
        ]
        self._ledger.write_all(tenant, execution_id, writes)
        return len(writes)

    def complete_if_finished(self, tenant: str, execution_id: str) -> None:
        """End an execution when all its tasks are terminal.

        The index of open tasks is queried first: its cost does not grow with the number of tasks. The index can lag,
        so its tasks are read consistently; all tasks of the execution are read only if none of them is open.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        execution = self.read(tenant, execution_id)
        if execution.status is not ExecutionStatus.RUNNING or execution.keep_open or self.has_open_tasks(execution):
            return
        outcome = execution_outcome(self.tasks(tenant, execution_id))
        if outcome is not None:
            self._change(execution, outcome, None, unless_tasks_added=True)

    def cancel(self, tenant: str, execution_id: str, reason: str | None) -> Execution:
        """Terminate a running execution; its open tasks are cancelled when that change arrives on the stream.

        An execution that is terminated already stays as it is.

        Raises
        ------
        NotFoundError
            If it does not exist.
        ConflictError
            If it has completed or failed.
        """
        execution = self.read(tenant, execution_id)
        if execution.status is ExecutionStatus.RUNNING:
            self._change(execution, ExecutionStatus.TERMINATED, reason)
            execution = self.read(tenant, execution_id)
        if execution.status is not ExecutionStatus.TERMINATED:
            raise ConflictError(f"execution {execution_id!r} is already {execution.status}")
        return execution

    def delete(self, tenant: str, execution_id: str) -> None:
        """Terminate an execution if it is running, and mark it as deleted; its item and its history stay.

        Raises
        ------
        NotFoundError
            If it does not exist, or is deleted already.
        """
        execution = self.read(tenant, execution_id)
        if execution.deleted_at is not None:
            raise NotFoundError("execution", execution_id)
        if execution.status is ExecutionStatus.RUNNING:
            self._change(execution, ExecutionStatus.TERMINATED, "deleted")
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": execution_key(tenant, execution_id),
            "UpdateExpression": "SET #deleted = :now",
            "ConditionExpression": "attribute_exists(#pk)",
            "ExpressionAttributeNames": {"#deleted": "deletedAt", "#pk": keys.PK},
            "ExpressionAttributeValues": {":now": {"N": str(self._clock())}},
        }
        self._patience.run(lambda: self._client.update_item(**request))

    def cancel_open_tasks(self, tenant: str, execution_id: str) -> None:
        """Cancel the open tasks of an execution that has failed or was terminated.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        ServiceBusyError
            If the table stays busy until the deadline, or tasks keep changing; retry the call.
        """
        for _ in range(_MAX_CANCEL_PASSES):
            still_open = [task for task in self.tasks(tenant, execution_id) if not is_terminal(task)]
            # Read after its tasks: if it is retried from here on, their versions differ and they are not cancelled
            execution = self.read(tenant, execution_id)
            if not still_open or execution.status in (ExecutionStatus.RUNNING, ExecutionStatus.COMPLETED):
                return
            why = execution.reason or f"the execution is {execution.status}"
            now = self._clock()
            writes = [system_write(task, TaskStatus.CANCELED, now=now, message=why) for task in still_open]
            self._ledger.write_all(tenant, execution_id, writes)
        raise ServiceBusyError(f"tasks of execution {execution_id!r} kept changing while they were being cancelled")

    def retry(self, tenant: str, execution_id: str) -> Execution:
        """Grant one more attempt to each failed or cancelled task, and set the execution to running again.

        Raises
        ------
        NotFoundError
            If the execution does not exist.
        ConflictError
            If it is completed, or is running and not kept open.
        ServiceBusyError
            If the table stays busy until the deadline; retry the request.
        """
        execution = self.read(tenant, execution_id)
        runs = execution.status is ExecutionStatus.RUNNING
        if execution.status is ExecutionStatus.COMPLETED or (runs and not execution.keep_open):
            raise ConflictError(f"execution {execution_id!r} is {execution.status}: nothing to retry")
        self.cancel_open_tasks(tenant, execution_id)
        now = self._clock()
        writes = [
            manual_retry_write(task, now=now) for task in self.tasks(tenant, execution_id) if can_be_retried(task)
        ]
        self._ledger.write_all(tenant, execution_id, writes)
        if not runs:
            self._change(execution, ExecutionStatus.RUNNING, None)
        pending = [task.task_id for task in self.tasks(tenant, execution_id) if task.status is TaskStatus.PENDING]
        # A success that arrived after the execution's end has not been counted down yet
        self.schedule_unblocked(tenant, execution_id, pending)
        self.complete_if_finished(tenant, execution_id)
        return self.read(tenant, execution_id)

    def read(self, tenant: str, execution_id: str) -> Execution:
        """Read an execution with a consistent read.

        Raises
        ------
        NotFoundError
            If it does not exist.
        """
        key = execution_key(tenant, execution_id)
        response = self._patience.run(
            lambda: self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True),
        )
        if "Item" not in response:
            raise NotFoundError("execution", execution_id)
        return execution_from_item(response["Item"])

    def _fail_execution(self, execution: Execution, tasks: Iterable[Task]) -> bool:
        """Fail an execution if one of its tasks fails it and it is not kept open; return True in that case."""
        cause = None if execution.keep_open else next(filter(fails_execution, tasks), None)
        if cause is not None:
            self._change(execution, ExecutionStatus.FAILED, f"task {cause.task_id!r} ended {cause.status}")
        return cause is not None

    def _cached_execution(self, tenant: str, execution_id: str) -> Execution:
        """Read an execution once and cache it for the life of this engine.

        An execution that ends after the read does no harm: its open tasks are sealed, and no write schedules a sealed
        task.
        """
        name = (tenant, execution_id)
        if name not in self._execution_cache:
            self._execution_cache[name] = self.read(tenant, execution_id)
        return self._execution_cache[name]

    def _count_down(self, task: Task) -> list[str]:
        """Decrement the counters of a task's dependents; return the ids of all, also of those counted before."""
        pk = keys.execution_pk(task.tenant, task.execution_id)

        def count_down() -> list[str]:
            pairs = list(self._query(pk, keys.dependent_prefix(task.task_id)))
            waiting = [pair for pair in pairs if "done" not in pair]
            counted = [self._count_down_pairs(pk, chunk) for chunk in batched(waiting, _PAIRS_A_TRANSACTION)]
            if not all(counted):
                raise TryAgainError
            return [pair["taskId"]["S"] for pair in pairs]

        return self._patience.run(count_down)

    def _count_down_pairs(self, pk: str, pairs: Sequence[Item]) -> bool:
        """Count pairs down in one transaction; False if it was cancelled by a concurrent one: read the pairs again."""
        actions: list[Any] = []
        for pair in pairs:
            actions += [
                {
                    "Update": {
                        "TableName": self._table,
                        "Key": {keys.PK: pair[keys.PK], keys.SK: pair[keys.SK]},
                        "UpdateExpression": "SET #done = :yes",
                        "ConditionExpression": "attribute_exists(#pk) AND attribute_not_exists(#done)",
                        "ExpressionAttributeNames": {"#pk": keys.PK, "#done": "done"},
                        "ExpressionAttributeValues": {":yes": {"BOOL": True}},
                    },
                },
                {
                    "Update": {
                        "TableName": self._table,
                        "Key": {keys.PK: {"S": pk}, keys.SK: {"S": keys.waits_sk(pair["taskId"]["S"])}},
                        "UpdateExpression": "SET #remaining = #remaining - :one",
                        "ConditionExpression": "attribute_exists(#pk)",
                        "ExpressionAttributeNames": {"#pk": keys.PK, "#remaining": "remaining"},
                        "ExpressionAttributeValues": {":one": {"N": "1"}},
                    },
                },
            ]
        try:
            self._patience.run(partial(self._client.transact_write_items, TransactItems=actions))
        except ClientError as error:
            if error.response["Error"]["Code"] != "TransactionCanceledException":
                raise
            return False
        return True

    def _resolve(self, tenant: str, execution_id: str, item: Item) -> str | None:
        """Resolve the references of an input once, before its task is scheduled; return the error, if any, as text."""
        text = item[PAYLOAD]["S"] if PAYLOAD in item else ""
        if REFERENCE_PREFIX not in text or RESOLVED in item or INCLUDES_ATTEMPT_ID in item:
            return None
        names = [name["S"] for part in (DEPENDS_ON, REFERS_TO) if part in item for name in item[part]["L"]]
        room = _MAX_INPUT_ITEM_BYTES - sum(len(part.encode()) for part in (text, *names))
        try:
            value = resolve_references(
                json.loads(text), {*names, WORKFLOW_NAME}, self._reference_resolver(tenant, execution_id, names)
            )
            resolved = dump_payload(value, _WHOLE_INPUT, room)
        except PayloadTooLargeError as error:
            return str(error)
        except RecursionError:
            # An input that was stored before the depth was limited
            return f"{_WHOLE_INPUT} is nested too deep"
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": {keys.PK: item[keys.PK], keys.SK: item[keys.SK]},
            "UpdateExpression": "SET #resolved = if_not_exists(#resolved, :resolved)",
            "ExpressionAttributeNames": {"#resolved": RESOLVED},
            "ExpressionAttributeValues": {":resolved": {"S": resolved}},
        }
        self._patience.run(lambda: self._client.update_item(**request))
        return None

    def _reference_resolver(self, tenant: str, execution_id: str, names: Sequence[str]) -> Callable[[Reference], Any]:
        """Return a function that looks references up; it reads each payload once and limits their total size.

        Parameters
        ----------
        names
            Names of the tasks that the input may refer to.
        """
        left = MAX_REFERRED_BYTES

        @cache
        def payload(name: str, part: str) -> Any:
            text = self._run_input(tenant, execution_id) if (name, part) == (WORKFLOW_NAME, "input") else None
            if text is None:
                try:
                    task = self._ledger.read(tenant, execution_id, name) if name in names else None
                except NotFoundError:
                    task = None
                if task is None:
                    return _NO_TASK
                text = self._read_payload(task, part)
            return json.loads(text) if text is not None else None

        def look_up(reference: Reference) -> Any:
            nonlocal left
            result = payload(reference.name, reference.part)
            if result is _NO_TASK:
                raise LookupError(reference.name)
            value = get_path(result, reference.path)
            left -= len(json.dumps(value, ensure_ascii=False).encode())
            if left < 0:
                raise PayloadTooLargeError(f"what its input refers to is over {MAX_REFERRED_BYTES:,} bytes of JSON")
            return value

        return look_up

    def _run_input(self, tenant: str, execution_id: str) -> str | None:
        return self._payloads.get_text(tenant, execution_id, keys.EXECUTION_INPUT_SK)

    def _read_payload(self, task: Task, part: str) -> str | None:
        """Return a task's input or output as JSON text; None without one."""
        if part == "output":
            return self._payloads.get_output(task)
        sk = keys.input_sk(task.task_id)
        return input_text(self._batch_get(keys.execution_pk(task.tenant, task.execution_id), [sk]).get(sk, {}))

    def _open_tasks(self, tenant: str, execution_id: str) -> Iterator[Task]:
        """Yield the tasks in the index of open tasks, each read from the table, a few at a time."""
        query: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": keys.LISTS_INDEX,
            "KeyConditionExpression": "#key = :key",
            "ExpressionAttributeNames": {"#key": keys.LIST_KEY},
            "ExpressionAttributeValues": {":key": {"S": keys.open_list(tenant, execution_id)}},
            "Limit": _OPEN_TASKS_A_PAGE,
        }
        while True:
            response = self._patience.run(partial(self._client.query, **query))
            item_keys = [{keys.PK: item[keys.PK], keys.SK: item[keys.SK]} for item in response["Items"]]
            # Callers stop at the first open task, which is mostly the first entry: read the others only on demand
            for some in (item_keys[:1], item_keys[1:]):
                yield from map(task_from_item, batch_get(self._client, self._table, some, self._patience))
            if "LastEvaluatedKey" not in response:
                return
            query["ExclusiveStartKey"] = response["LastEvaluatedKey"]

    def tasks(self, tenant: str, execution_id: str) -> Iterator[Task]:
        """Yield all tasks of an execution, with consistent reads."""
        pk = keys.execution_pk(tenant, execution_id)
        return map(task_from_item, self._query(pk, keys.TASK_PREFIX))

    def _query(self, pk: str, prefix: str) -> Iterator[Item]:
        query: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "#pk = :pk AND begins_with(#sk, :prefix)",
            "ExpressionAttributeNames": {"#pk": keys.PK, "#sk": keys.SK},
            "ExpressionAttributeValues": {":pk": {"S": pk}, ":prefix": {"S": prefix}},
            "ConsistentRead": True,
        }
        return paginate(self._client, query, self._patience)

    def _batch_get(self, pk: str, sort_keys: Iterable[str]) -> dict[str, Item]:
        item_keys: list[Item] = [{keys.PK: {"S": pk}, keys.SK: {"S": sk}} for sk in sort_keys]
        return {item[keys.SK]["S"]: item for item in batch_get(self._client, self._table, item_keys, self._patience)}

    def _change(
        self, execution: Execution, status: ExecutionStatus, reason: str | None, *, unless_tasks_added: bool = False
    ) -> None:
        """Change an execution's status, unless its version has changed since it was read.

        Parameters
        ----------
        unless_tasks_added
            Make no change either if tasks were added after the read.
        """
        over = status is not ExecutionStatus.RUNNING
        sets = {"status": {"S": status}, "updatedAt": {"N": str(self._clock())}}
        if over:
            sets["endedAt"] = sets["updatedAt"]
        if reason is not None:
            sets["reason"] = {"S": reason}
        removes = [name for name in ("endedAt", "reason") if name not in sets]
        expression = "SET #version = #version + :one, " + ", ".join(f"#{name} = :{name}" for name in sets)
        if removes:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in removes)
        condition = "#version = :version"
        values: Item = {":one": {"N": "1"}, ":version": {"N": str(execution.version)}}
        values |= {f":{name}": value for name, value in sets.items()}  # type: ignore[misc]
        names = {f"#{name}": name for name in ("version", *sets, *removes)}
        if unless_tasks_added:
            names["#additions"] = "additions"
            condition += " AND (attribute_not_exists(#additions) OR #additions = :additions)"
            values[":additions"] = {"N": str(execution.additions)}
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": execution_key(execution.tenant, execution.execution_id),
            "UpdateExpression": expression,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
        }
        try:
            self._patience.run(lambda: self._client.update_item(**request))
        except ClientError as error:
            if not is_condition_failure(error):
                raise
