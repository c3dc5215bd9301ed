"""Reads of executions and their tasks, singly and in pages."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.execution import EVERY_EXECUTION, Execution, ExecutionFilter
from tasklatch.domain.later_values import read_value
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task, TaskDetail
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.cursor import decode_cursor, encode_cursor, invalid_cursor
from tasklatch.dynamodb.execution_item import execution_from_item, execution_key
from tasklatch.dynamodb.items import Item, from_attribute, key_texts, primary_key, sort_key_of, to_attribute
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.executions.execution_tasks import ExecutionTasks, task_keys, tasks_query
from tasklatch.executions.list_query import ExecutionListQuery
from tasklatch.ledger.ledger import Ledger
from tasklatch.ledger.payloads import Payloads
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PAGES_A_REQUEST: Final = 10
_GROUP_PAGE: Final = 100
COUNTED_PAGES: Final = 25
"""Pages of 1 MB of which one request counts the tasks: 40,000 of 650 bytes."""

T = TypeVar("T")


class ExecutionReader:
    """Reads of executions and their tasks.

    Parameters
    ----------
    backoff
        Retry policy for a busy table.
    """

    def __init__(self, client: "DynamoDBClient", settings: Settings, clock: Clock, backoff: Backoff) -> None:
        self._client = client
        self._table = settings.table_name
        self._backoff = backoff
        self._executions = ExecutionTable(client, settings, clock, backoff)
        self._tasks = ExecutionTasks(client, settings, backoff)
        self._ledger = Ledger(client, settings, clock, backoff)
        self._payloads = Payloads(client, settings, backoff)

    def get(self, tenant: str, execution_id: str) -> Execution:
        """Read one execution.

        Raises
        ------
        NotFoundError
            If it does not exist.
        """
        return self._executions.read(tenant, execution_id)

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
        items = self._read_items([key, *task_keys(tenant, execution_id, task_ids)])
        execution = next((execution_from_item(item) for item in items if item[keys.SK] == key[keys.SK]), None)
        if execution is None:
            raise NotFoundError("execution", execution_id)
        tasks = (task_from_item(item) for item in items if item[keys.SK] != key[keys.SK])
        return execution, {task.task_id: task for task in tasks}

    def get_task_detail(self, tenant: str, execution_id: str, task_id: str) -> TaskDetail:
        """Read one task with its input and output.

        Raises
        ------
        NotFoundError
            If it does not exist.
        """
        task = self._ledger.read(tenant, execution_id, task_id)
        return self._payloads.get_details(tenant, execution_id, [task])[0]

    def count_tasks(
        self, tenant: str, execution_id: str, *, cursor: str | None = None
    ) -> tuple[dict[TaskStatus, int], str | None]:
        """Count an execution's tasks by status, with consistent reads; of a large execution, those of one part.

        Returns
        -------
        dict[TaskStatus, int], str or None
            The counts, and the cursor of the next part; None after the last. The parts add up.

        Raises
        ------
        InvalidRequestError
            If the cursor is invalid for this execution.
        ServiceBusyError
            If the table stays busy until the deadline.
        """
        scope = f"{keys.execution_pk(tenant, execution_id)} counts"
        query = tasks_query(self._table, tenant, execution_id)
        query |= {"ProjectionExpression": "#status", "ExpressionAttributeNames": {"#status": "status"}}
        if cursor is not None:
            query["ExclusiveStartKey"] = _task_start_key(tenant, execution_id, decode_cursor(cursor, scope))
        counts: Counter[TaskStatus] = Counter()
        for _ in range(COUNTED_PAGES):
            response: Any = self._backoff.run(partial(self._client.query, **query))
            counts.update(read_value(TaskStatus, from_attribute(item["status"])) for item in response["Items"])
            if "LastEvaluatedKey" not in response:
                return dict(counts), None
            query["ExclusiveStartKey"] = response["LastEvaluatedKey"]
        return dict(counts), encode_cursor(scope, sort_key_of(query["ExclusiveStartKey"]))

    def iterate_tasks(self, tenant: str, execution_id: str) -> Iterator[Task]:
        """Yield all tasks of an execution, with consistent reads; pages are read on demand."""
        return self._tasks.iterate(tenant, execution_id)

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
        query = ExecutionListQuery(tenant, criteria, created_after, created_before)
        arguments = query.arguments(self._table)
        if cursor is not None:
            arguments["ExclusiveStartKey"] = query.start_key(cursor)
        executions, last = self._fill_page(arguments, limit, partial(self._matching_executions, criteria))
        return executions, encode_cursor(query.scope, sort_key_of(last, keys.LIST_SORT)) if last else None

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
        scope = f"{keys.execution_pk(tenant, execution_id)} {status}"
        query = _filtered_tasks_query(self._table, tenant, execution_id, status)
        if cursor is None:
            self.get(tenant, execution_id)
        else:
            query["ExclusiveStartKey"] = _task_start_key(tenant, execution_id, decode_cursor(cursor, scope))
        tasks, last = self._fill_page(query, limit, partial(map, task_from_item))
        return tasks, encode_cursor(scope, sort_key_of(last)) if last else None

    def _fill_page(
        self, query: dict[str, Any], limit: int, convert: Callable[[Sequence[Item]], Iterable[T]]
    ) -> tuple[list[T], Item | None]:
        """Query until a page is full or the query ends, but at most `_PAGES_A_REQUEST` times.

        Parameters
        ----------
        convert
            Returns the elements of the page for the items of one response.

        Returns
        -------
        list, Item or None
            The page, and the key after which the next page starts; None after the last page.
        """
        page: list[T] = []
        for _ in range(_PAGES_A_REQUEST):
            query["Limit"] = limit - len(page)
            response: Any = self._backoff.run(partial(self._client.query, **query))
            page += convert(response["Items"])
            if "LastEvaluatedKey" not in response:
                return page, None
            query["ExclusiveStartKey"] = response["LastEvaluatedKey"]
            if len(page) >= limit:
                break
        return page, query["ExclusiveStartKey"]

    def _matching_executions(self, criteria: ExecutionFilter, entries: Sequence[Item]) -> Iterable[Execution]:
        """Read the executions of index entries, newest first, and keep those that match a filter."""
        items = self._read_items([primary_key(key_texts(entry)[0], keys.EXECUTION_SK) for entry in entries])
        executions = sorted(
            map(execution_from_item, items),
            key=lambda execution: (execution.created_at, execution.execution_id),
            reverse=True,
        )
        return filter(criteria.matches, executions)

    def _read_items(self, item_keys: Sequence[Item]) -> list[Item]:
        return batch_get(self._client, self._table, item_keys, self._backoff)


def _filtered_tasks_query(table: str, tenant: str, execution_id: str, status: TaskStatus | None) -> dict[str, Any]:
    query = tasks_query(table, tenant, execution_id)
    if status is not None:
        query |= {"FilterExpression": "#status = :status", "ExpressionAttributeNames": {"#status": "status"}}
        query["ExpressionAttributeValues"][":status"] = to_attribute(status)
    return query


def _task_start_key(tenant: str, execution_id: str, sk: str) -> Item:
    if not sk.startswith(keys.TASK_PREFIX):
        raise invalid_cursor()
    return primary_key(keys.execution_pk(tenant, execution_id), sk)
