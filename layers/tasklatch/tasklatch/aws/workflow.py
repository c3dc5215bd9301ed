"""What follows when a task is settled: its dependents go on, or its execution ends.

Every step can be repeated. Who waits for whom is kept one item a pair, and how many a task still waits for is one
counter; both change in one transaction. So the cost of a task depends on how many wait for it, never on how many tasks
there are.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from tasklatch.aws import keys
from tasklatch.aws.batch_get import get_all
from tasklatch.aws.batch_put import chunks
from tasklatch.aws.execution_item import execution_key, execution_of
from tasklatch.aws.ledger import Ledger
from tasklatch.aws.pages import pages
from tasklatch.aws.patience import Patience
from tasklatch.aws.payloads import DEPENDS_ON, NAMES_ATTEMPT, PAYLOAD, REFERS_TO, RESOLVED, Payloads, input_text
from tasklatch.aws.task_item import Item, task_of
from tasklatch.clock import Clock
from tasklatch.domain.errors import BusyError, ConflictError, NotFoundError, PayloadTooLargeError
from tasklatch.domain.execution import Execution
from tasklatch.domain.json_text import dump_payload
from tasklatch.domain.latch import reopen_latch, service_latch, unopened_failure_latch
from tasklatch.domain.reference import REFERENCE_BEGINS, WORKFLOW_NAME, Reference, follow, resolve
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.domain.workflow import aborts, can_be_retried, is_settled, outcome_of
from tasklatch.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PAIRS_A_TRANSACTION: Final = 25
_STRAGGLERS_A_LOOK: Final = 5
_PASSES: Final = 5

MAX_REFERRED_BYTES: Final = 200_000
"""What an input refers to, as JSON, all taken together."""

_MAX_INPUT_ITEM_BYTES: Final = 390_000
"""An item takes 400 KB: the input as it was given, what it waits for, and the input as it is handed out."""

_NO_TASK: Final = object()
_WHOLE_INPUT: Final = "its input, with all that it refers to,"


class Workflow:
    """The executions of the table, as they move on.

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
        self._seen: dict[tuple[str, str], Execution] = {}

    def advance(self, tenant: str, execution_id: str, task_id: str) -> None:
        """Do what follows from a task, if it is settled, and end its execution if it was the last.

        Raises
        ------
        NotFoundError
            If there is no such task, or its execution is not committed yet.
        BusyError
            If the table would not take it all in time; do it again.
        """
        if self.let_dependents_go_on(tenant, execution_id, task_id):
            self.close_if_done(tenant, execution_id)

    def let_dependents_go_on(self, tenant: str, execution_id: str, task_id: str) -> bool:
        """Do what follows from a task, if it is settled, all but ending its execution.

        Returns
        -------
        bool
            Whether the execution may be done now: ask once for many tasks.

        Raises
        ------
        NotFoundError
            If there is no such task, or its execution is not committed yet.
        BusyError
            If the table would not take it all in time; do it again.
        """
        task = self._ledger.read(tenant, execution_id, task_id)
        if not is_settled(task):
            return False
        execution = self._known(tenant, execution_id)
        if execution.status is not ExecutionStatus.RUNNING:
            return False
        if aborts(task):
            self._abort(execution, [task])
            return False
        self.schedule(tenant, execution_id, self._count_down(task))
        return True

    def has_open_tasks(self, execution: Execution) -> bool:
        """Whether something is still awaited of one of the tasks that the index calls open."""
        return any(not is_settled(task) for task in self._stragglers(execution.tenant, execution.execution_id))

    def catch_up(self, tenant: str, execution_id: str, task_ids: Sequence[str]) -> int:
        """Schedule pending tasks of a running execution that nothing holds up, though nobody has noticed.

        Returns
        -------
        int
            How many tasks were scheduled.

        Raises
        ------
        BusyError
            If the table would not take it all in time.
        """
        try:
            execution = self.read(tenant, execution_id)
        except NotFoundError:
            return 0
        if execution.status is not ExecutionStatus.RUNNING:
            return 0
        awaited = [task for task in self.awaited_by(tenant, execution_id, task_ids) if is_settled(task)]
        if self._abort(execution, awaited):
            return 0
        for task in awaited:
            if not aborts(task):
                self._count_down(task)
        return self.schedule(tenant, execution_id, task_ids)

    def awaited_by(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> list[Task]:
        """Read the tasks that these were created to wait for."""
        pk = keys.execution_pk(tenant, execution_id)
        inputs = self._get_all(pk, map(keys.input_sk, task_ids)).values()
        named = {name["S"] for item in inputs if DEPENDS_ON in item for name in item[DEPENDS_ON]["L"]}
        return [task_of(item) for item in self._get_all(pk, map(keys.task_sk, named)).values()]

    def schedule(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> int:
        """Let those of these tasks be worked on that are pending and wait for nothing.

        One whose input would grow too large or too deep by what it refers to fails instead, for good.

        Returns
        -------
        int
            How many there were.

        Raises
        ------
        BusyError
            If the table would not take it all in time.
        """
        named = list(dict.fromkeys(task_ids))
        pk = keys.execution_pk(tenant, execution_id)
        waits = self._get_all(pk, (keys.waits_sk(task_id) for task_id in named))
        held = {item["taskId"]["S"] for item in waits.values() if int(item["remaining"]["N"]) > 0}
        found = self._get_all(pk, (keys.task_sk(task_id) for task_id in named if task_id not in held))
        ready = [task for task in map(task_of, found.values()) if task.status is TaskStatus.PENDING]
        inputs = self._get_all(pk, (keys.input_sk(task.task_id) for task in ready))
        faults = {sk: self._resolve(tenant, execution_id, item) for sk, item in inputs.items()}
        now = self._clock()
        latches = [
            unopened_failure_latch(task, now=now, message=fault)
            if (fault := faults.get(keys.input_sk(task.task_id)))
            else service_latch(task, TaskStatus.SCHEDULED, now=now)
            for task in ready
        ]
        self._ledger.apply_all(tenant, execution_id, latches)
        return len(latches)

    def close_if_done(self, tenant: str, execution_id: str) -> None:
        """End an execution when nothing more is awaited of its tasks.

        The index of open tasks is asked first: it costs the same however many tasks there are. It may lag, so those
        that it names are read as they stand now; and only when it names none that is open are all tasks read, once.

        Raises
        ------
        BusyError
            If the table would not answer in time.
        """
        execution = self.read(tenant, execution_id)
        if execution.status is not ExecutionStatus.RUNNING or execution.stays_open or self.has_open_tasks(execution):
            return
        outcome = outcome_of(self.tasks(tenant, execution_id))
        if outcome is not None:
            self._change(execution, outcome, None, unless_added=True)

    def cancel(self, tenant: str, execution_id: str, reason: str | None) -> Execution:
        """Terminate a running execution; its open tasks are cancelled when that is announced.

        Raises
        ------
        NotFoundError
            If there is none.
        ConflictError
            If it is over already; cancelled again for the same reason, it stays as it is.
        """
        execution = self.read(tenant, execution_id)
        if execution.status is ExecutionStatus.RUNNING:
            self._change(execution, ExecutionStatus.TERMINATED, reason)
            execution = self.read(tenant, execution_id)
        if execution.status is not ExecutionStatus.TERMINATED:
            raise ConflictError(f"execution {execution_id!r} is {execution.status} already")
        return execution

    def delete(self, tenant: str, execution_id: str) -> None:
        """Cancel an execution if it is running, and note that it is deleted; it stays, and so does its history.

        Raises
        ------
        NotFoundError
            If there is none, or it is deleted already.
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
        self._patience.call(lambda: self._client.update_item(**request))

    def cancel_open_tasks(self, tenant: str, execution_id: str) -> None:
        """Cancel what is still open in an execution that is over.

        Raises
        ------
        BusyError
            If the table would not take it all in time, or tasks kept moving; do it again.
        """
        for _ in range(_PASSES):
            still_open = [task for task in self.tasks(tenant, execution_id) if not is_settled(task)]
            # Read after its tasks: if it is retried from here on, they have moved and are not cancelled.
            execution = self.read(tenant, execution_id)
            if not still_open or execution.status in (ExecutionStatus.RUNNING, ExecutionStatus.COMPLETED):
                return
            why = execution.reason or f"the execution is {execution.status}"
            now = self._clock()
            latches = [service_latch(task, TaskStatus.CANCELED, now=now, message=why) for task in still_open]
            self._ledger.apply_all(tenant, execution_id, latches)
        raise BusyError(f"tasks of execution {execution_id!r} moved while they were cancelled")

    def retry(self, tenant: str, execution_id: str) -> Execution:
        """Give what failed or was cancelled one more attempt each, and let the execution go on.

        Raises
        ------
        NotFoundError
            If there is no such execution.
        ConflictError
            If it is completed, or is running and ends by itself.
        BusyError
            If the table would not take it all in time; send it again.
        """
        execution = self.read(tenant, execution_id)
        runs = execution.status is ExecutionStatus.RUNNING
        if execution.status is ExecutionStatus.COMPLETED or (runs and not execution.stays_open):
            raise ConflictError(f"execution {execution_id!r} is {execution.status}: there is nothing to retry")
        self.cancel_open_tasks(tenant, execution_id)
        now = self._clock()
        latches = [reopen_latch(task, now=now) for task in self.tasks(tenant, execution_id) if can_be_retried(task)]
        self._ledger.apply_all(tenant, execution_id, latches)
        if not runs:
            self._change(execution, ExecutionStatus.RUNNING, None)
        pending = [task.task_id for task in self.tasks(tenant, execution_id) if task.status is TaskStatus.PENDING]
        # What completed late, while the execution was over, has been counted by nobody.
        self.catch_up(tenant, execution_id, pending)
        self.close_if_done(tenant, execution_id)
        return self.read(tenant, execution_id)

    def read(self, tenant: str, execution_id: str) -> Execution:
        """Read an execution as it stands now.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        key = execution_key(tenant, execution_id)
        answer = self._patience.call(
            lambda: self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True),
        )
        if "Item" not in answer:
            raise NotFoundError("execution", execution_id)
        return execution_of(answer["Item"])

    def _abort(self, execution: Execution, tasks: Iterable[Task]) -> bool:
        """Fail an execution if one of its tasks is to end it; tell whether."""
        cause = None if execution.stays_open else next(filter(aborts, tasks), None)
        if cause is not None:
            self._change(execution, ExecutionStatus.FAILED, f"task {cause.task_id!r} ended {cause.status}")
        return cause is not None

    def _known(self, tenant: str, execution_id: str) -> Execution:
        """Read an execution, once for all tasks that are looked at together.

        One that has ended since does no harm: its open tasks are sealed, and nothing schedules a sealed task.
        """
        name = (tenant, execution_id)
        if name not in self._seen:
            self._seen[name] = self.read(tenant, execution_id)
        return self._seen[name]

    def _count_down(self, task: Task) -> list[str]:
        """Note that those that wait for a task wait for one less; name them all, also those that knew already."""
        pk = keys.execution_pk(task.tenant, task.execution_id)
        for _ in self._patience.tries():
            pairs = list(self._query(pk, keys.dependent_prefix(task.task_id)))
            waiting = [pair for pair in pairs if "done" not in pair]
            counted = [self._count_down_pairs(pk, chunk) for chunk in chunks(waiting, _PAIRS_A_TRANSACTION)]
            if all(counted):
                return [pair["taskId"]["S"] for pair in pairs]
        raise AssertionError("tries end by raising")

    def _count_down_pairs(self, pk: str, pairs: Sequence[Item]) -> bool:
        """Count some, all or none; False where another was quicker or under way: then look at them again."""
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
            self._patience.call(partial(self._client.transact_write_items, TransactItems=actions))
        except ClientError as error:
            if error.response["Error"]["Code"] != "TransactionCanceledException":
                raise
            return False
        return True

    def _resolve(self, tenant: str, execution_id: str, item: Item) -> str | None:
        """Put what an input refers to into it, once, before its task is worked on; tell why, if it cannot be."""
        text = item[PAYLOAD]["S"] if PAYLOAD in item else ""
        if REFERENCE_BEGINS not in text or RESOLVED in item or NAMES_ATTEMPT in item:
            return None
        names = [name["S"] for part in (DEPENDS_ON, REFERS_TO) if part in item for name in item[part]["L"]]
        room = _MAX_INPUT_ITEM_BYTES - sum(len(part.encode()) for part in (text, *names))
        try:
            value = resolve(json.loads(text), {*names, WORKFLOW_NAME}, self._look_up(tenant, execution_id, names))
            resolved = dump_payload(value, _WHOLE_INPUT, room)
        except PayloadTooLargeError as error:
            return str(error)
        except RecursionError:
            # What was kept before depth was bounded.
            return f"{_WHOLE_INPUT} is nested too deep"
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": {keys.PK: item[keys.PK], keys.SK: item[keys.SK]},
            "UpdateExpression": "SET #resolved = if_not_exists(#resolved, :resolved)",
            "ExpressionAttributeNames": {"#resolved": RESOLVED},
            "ExpressionAttributeValues": {":resolved": {"S": resolved}},
        }
        self._patience.call(lambda: self._client.update_item(**request))
        return None

    def _look_up(self, tenant: str, execution_id: str, names: Sequence[str]) -> Callable[[Reference], Any]:
        """Give what looks references up: each payload is read once, and all that is found together is bounded.

        Parameters
        ----------
        names
            Of the tasks that can be referred to.
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
                text = self._payload_text(task, part)
            return json.loads(text) if text is not None else None

        def look_up(reference: Reference) -> Any:
            nonlocal left
            found = payload(reference.name, reference.part)
            if found is _NO_TASK:
                raise LookupError(reference.name)
            value = follow(found, reference.path)
            left -= len(json.dumps(value, ensure_ascii=False).encode())
            if left < 0:
                raise PayloadTooLargeError(f"what its input refers to is over {MAX_REFERRED_BYTES:,} bytes of JSON")
            return value

        return look_up

    def _run_input(self, tenant: str, execution_id: str) -> str | None:
        return self._payloads.text_of(tenant, execution_id, keys.EXECUTION_INPUT_SK)

    def _payload_text(self, task: Task, part: str) -> str | None:
        """The JSON text of a task's input or output."""
        if part == "output":
            return self._payloads.output_of(task)
        sk = keys.input_sk(task.task_id)
        return input_text(self._get_all(keys.execution_pk(task.tenant, task.execution_id), [sk]).get(sk, {}))

    def _stragglers(self, tenant: str, execution_id: str) -> Iterator[Task]:
        """The tasks that the index calls open, as they stand now, a few at a time."""
        query: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": keys.LISTS_INDEX,
            "KeyConditionExpression": "#key = :key",
            "ExpressionAttributeNames": {"#key": keys.LIST_KEY},
            "ExpressionAttributeValues": {":key": {"S": keys.open_list(tenant, execution_id)}},
            "Limit": _STRAGGLERS_A_LOOK,
        }
        while True:
            answer = self._patience.call(partial(self._client.query, **query))
            wanted = [{keys.PK: item[keys.PK], keys.SK: item[keys.SK]} for item in answer["Items"]]
            # Mostly the index is right, and the first one is open: then the others need not be read.
            for some in (wanted[:1], wanted[1:]):
                yield from map(task_of, get_all(self._client, self._table, some, self._patience))
            if "LastEvaluatedKey" not in answer:
                return
            query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def tasks(self, tenant: str, execution_id: str) -> Iterator[Task]:
        """All tasks of an execution, as they stand now."""
        pk = keys.execution_pk(tenant, execution_id)
        return map(task_of, self._query(pk, keys.TASK_PREFIX))

    def _query(self, pk: str, prefix: str) -> Iterator[Item]:
        query: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "#pk = :pk AND begins_with(#sk, :prefix)",
            "ExpressionAttributeNames": {"#pk": keys.PK, "#sk": keys.SK},
            "ExpressionAttributeValues": {":pk": {"S": pk}, ":prefix": {"S": prefix}},
            "ConsistentRead": True,
        }
        return pages(self._client, query, self._patience)

    def _get_all(self, pk: str, sort_keys: Iterable[str]) -> dict[str, Item]:
        wanted: list[Item] = [{keys.PK: {"S": pk}, keys.SK: {"S": sk}} for sk in sort_keys]
        return {item[keys.SK]["S"]: item for item in get_all(self._client, self._table, wanted, self._patience)}

    def _change(
        self, execution: Execution, status: ExecutionStatus, reason: str | None, *, unless_added: bool = False
    ) -> None:
        """Move an execution on from the version that was read; where it has moved already, leave it.

        Parameters
        ----------
        unless_added
            Leave it also where tasks were added since.
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
        if unless_added:
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
            self._patience.call(lambda: self._client.update_item(**request))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
