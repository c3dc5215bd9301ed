"""Tasks in the table: consistent reads and conditional writes. A failed condition is a result, not an error."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from botocore.exceptions import ClientError

from tasklatch.domain.conditional_write import ConditionalWrite
from tasklatch.domain.errors import NotFoundError, ServiceBusyError, TasklatchError, UnexpectedError
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys, write_expression
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.batch_insert import STATEMENTS_A_CALL
from tasklatch.dynamodb.batch_write import batched
from tasklatch.dynamodb.items import Item, primary_key, to_attribute
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.dynamodb.update_expression import ItemUpdate
from tasklatch.runtime.aws_errors import BUSY_CODES, CONDITION_FAILURE, is_condition_failure
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.concurrency import map_concurrently
from tasklatch.runtime.observability import report_unexpected
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class WriteResult(NamedTuple):
    """Result of one conditional write: the task after it or, if the condition failed, the task that made it fail."""

    succeeded: bool
    task: Task


class StatementResult(NamedTuple):
    """Result of one write of a batch; DynamoDB may leave out the item, and there is none for an unknown task.

    Attributes
    ----------
    error
        Error of this statement alone, if DynamoDB refused it for another reason than its condition.
    """

    succeeded: bool
    item: Item | None = None
    error: TasklatchError | None = None


class TaskTable:
    """Store of the tasks.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, backoff: Backoff) -> None:
        self._client = client
        self._settings = settings
        self._backoff = backoff

    def read(self, tenant: str, execution_id: str, task_id: str) -> Task:
        """Read a task.

        Raises
        ------
        NotFoundError
            If the task does not exist.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        key = task_key(tenant, execution_id, task_id)
        response = self._backoff.run(
            lambda: self._client.get_item(TableName=self._settings.table_name, Key=key, ConsistentRead=True),
        )
        return _task_or_not_found(task_id, response.get("Item"))

    def read_all(self, tenant: str, execution_id: str, task_ids: Iterable[str]) -> dict[str, Task]:
        """Read tasks by id; those that do not exist are left out.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        item_keys = [task_key(tenant, execution_id, task_id) for task_id in task_ids]
        items = batch_get(self._client, self._settings.table_name, item_keys, self._backoff)
        return {task.task_id: task for task in map(task_from_item, items)}

    def write(self, tenant: str, execution_id: str, write: ConditionalWrite, now: int) -> WriteResult:
        """Make one write.

        Raises
        ------
        NotFoundError
            If the task does not exist.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        pk, expires_at = keys.execution_pk(tenant, execution_id), self._settings.expires_at(now)
        request = write_expression.render_update_item(write, self._settings.table_name, pk, expires_at)
        return self.update(write.task_id, request)

    def update(self, task_id: str, request: Mapping[str, Any]) -> WriteResult:
        """Send one UpdateItem request that returns the new item or, if its condition fails, the old one.

        Raises
        ------
        NotFoundError
            If the task does not exist.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        try:
            response = self._backoff.run(lambda: self._client.update_item(**request))
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            conflicting = cast("Item | None", error.response.get("Item"))
            return WriteResult(succeeded=False, task=_task_or_not_found(task_id, conflicting))
        return WriteResult(succeeded=True, task=task_from_item(response["Attributes"]))

    def write_all(
        self, tenant: str, execution_id: str, writes: Sequence[ConditionalWrite], now: int
    ) -> dict[str, StatementResult]:
        """Make writes, each on another task and on the version that was read, 25 in a call, the calls concurrently.

        Returns
        -------
        dict
            The result by task id, or the error of that write alone; without those that a busy table did not take.
        """
        pk, expires_at = keys.execution_pk(tenant, execution_id), self._settings.expires_at(now)

        def send(chunk: Sequence[ConditionalWrite]) -> dict[str, StatementResult]:
            return self._execute(chunk, pk, expires_at)

        results: dict[str, StatementResult] = {}
        for part in map_concurrently(send, batched(writes, STATEMENTS_A_CALL)):
            results.update(part)
        return results

    def complete(
        self, tenant: str, execution_id: str, results: Mapping[str, StatementResult]
    ) -> dict[str, WriteResult | None]:
        """Return the results of a batch by task id, each with its task; None for a task that does not exist.

        A result without the item says nothing about whether the task exists, so that task is read. Errors are left out.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        read = self.read_all(tenant, execution_id, _without_item(results))
        completed: dict[str, WriteResult | None] = {}
        for task_id, result in results.items():
            if result.error is not None:
                continue
            task = task_from_item(result.item) if result.item else read.get(task_id)
            completed[task_id] = WriteResult(result.succeeded, task) if task is not None else None
        return completed

    def remove_from_open_list(self, task: Task) -> None:
        """Remove a task from the list of open tasks, unless its version has changed.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        request: dict[str, Any] = {
            "TableName": self._settings.table_name,
            "Key": task_key(task.tenant, task.execution_id, task.task_id),
            **ItemUpdate(
                assigned={},
                removed=(keys.LIST_KEY, keys.LIST_SORT),
                conditions=[("version", "=", to_attribute(task.version))],
            ).expressions(),
        }
        self._backoff.run_conditional(lambda: self._client.update_item(**request))

    def _execute(
        self, writes: Sequence[ConditionalWrite], pk: str, expires_at: int | None
    ) -> dict[str, StatementResult]:
        table = self._settings.table_name
        statements = [write_expression.render_statement(write, table, pk, expires_at) for write in writes]
        try:
            responses = self._backoff.run(lambda: self._client.batch_execute_statement(Statements=statements))
        except ServiceBusyError:
            return {}
        except ClientError as error:
            if len(writes) == 1:
                return {writes[0].task_id: _refused(error.response["Error"])}
            # A whole call can be refused because of one statement: halves of it show which
            half = len(writes) // 2
            return {
                **self._execute(writes[:half], pk, expires_at),
                **self._execute(writes[half:], pk, expires_at),
            }
        results = {}
        for write, response in zip(writes, responses["Responses"], strict=True):
            result = _statement_result(response)
            if result is not None:
                results[write.task_id] = result
        return results


def _statement_result(response: Mapping[str, Any]) -> StatementResult | None:
    """Return the result of one statement; None if a busy table did not take it."""
    error = response.get("Error")
    if error is None:
        return StatementResult(succeeded=True, item=response.get("Item"))
    if error["Code"] == CONDITION_FAILURE:
        return StatementResult(succeeded=False, item=error.get("Item"))
    return None if error["Code"] in BUSY_CODES else _refused(error)


def _refused(error: Mapping[str, Any]) -> StatementResult:
    """Return the result of a statement that DynamoDB refused: an internal error of that statement, for the log."""
    report_unexpected("DynamoDB refused a statement", code=error["Code"], reason=error["Message"])
    return StatementResult(succeeded=False, error=UnexpectedError())


def task_key(tenant: str, execution_id: str, task_id: str) -> Item:
    """Return the primary key of a task's item."""
    return primary_key(keys.execution_pk(tenant, execution_id), keys.task_sk(task_id))


def _without_item(results: Mapping[str, StatementResult]) -> Collection[str]:
    return [task_id for task_id, result in results.items() if not result.item and result.error is None]


def _task_or_not_found(task_id: str, item: Item | None) -> Task:
    if not item:
        raise NotFoundError("task", task_id)
    return task_from_item(item)
