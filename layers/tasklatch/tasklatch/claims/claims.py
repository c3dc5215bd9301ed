"""Claims: tasks that wait in a queue are begun for the worker that asks."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from tasklatch.claims.claim_records import CLOSED, ClaimRecord, ClaimRecords
from tasklatch.claims.work_list import WorkList
from tasklatch.domain.claim import ClaimRequest, claim_write, in_fair_order
from tasklatch.domain.errors import ServiceBusyError
from tasklatch.domain.task import Task
from tasklatch.dynamodb.batch_get import batch_get
from tasklatch.dynamodb.batch_write import batched
from tasklatch.dynamodb.items import Item, key_texts, primary_key
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.ledger.task_table import TaskTable, task_key
from tasklatch.runtime.backoff import Backoff, TryAgainError
from tasklatch.runtime.clock import Clock
from tasklatch.runtime.concurrency import map_concurrently
from tasklatch.runtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 3.0
_TIME_TO_BEGIN_MS: Final = 8_000
"""Time that stays for what is found after a wait, in milliseconds: it is begun, and its input is read."""


class Claims:
    """Claims of tasks.

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
        self._list = WorkList(client, settings, backoff)
        self._records = ClaimRecords(client, settings, clock, backoff)
        self._tasks = TaskTable(client, settings, backoff)

    def claim(self, request: ClaimRequest) -> list[Task]:
        """Begin tasks for a worker, or return those that it has by an earlier request with the same claim id.

        Raises
        ------
        ServiceBusyError
            If the table stays busy until the deadline; what was begun by then is found again by the claim id.
        """
        if request.claim_id is not None and self._records.read(request) is not None:
            return self._claimed_before(request)
        for rounds, tasks in enumerate(self._waiting(request)):
            if request.claim_id is not None and not self._records.put(request, rounds or None, rounds + 1, tasks):
                return self._claimed_before(request)
            held = self._begin(request, tasks)
            if held:
                return held
        return []

    def _waiting(self, request: ClaimRequest) -> Iterator[list[Task]]:
        """Yield tasks to begin, at most as many as are asked for at a time, until the wait is over."""
        budget = self._backoff.budget(request.wait_seconds * 1000, _TIME_TO_BEGIN_MS)
        longest = _FIRST_WAIT
        while True:
            entries = in_fair_order(self._list.read(request), request.request_id)
            for chosen in batched(entries, request.most):
                item_keys = [primary_key(entry.pk, entry.sk) for entry in chosen]
                # The index can lag: what has begun since is passed over
                tasks = [task for task in self._read(item_keys) if request.can_begin(task)]
                if tasks:
                    yield tasks
            if request.wait_seconds:
                budget.wait(longest)
                longest = min(longest * 2, _LONGEST_WAIT)
            if not request.wait_seconds or not budget.is_left:
                return

    def _claimed_before(self, request: ClaimRequest) -> list[Task]:
        """Return the tasks that run under a claim; whatever of its last round nobody has begun since is begun now.

        A claim that holds nothing is closed: its other requests, if some are still under way, begin nothing more, as
        their answers may never arrive.
        """

        def find() -> list[Task]:
            record = self._records.read(request) or ClaimRecord(CLOSED)
            versions = {(tried.execution_id, tried.task_id): tried.version for tried in record.tasks}
            tasks = self._read([task_key(request.tenant, *name) for name in versions])
            left = [
                task
                for task in tasks
                if request.can_begin(task) and task.version == versions[task.execution_id, task.task_id]
            ]
            held = [task for task in tasks if request.holds(task)] + self._begin(request, left)
            if not held and record.round != CLOSED and not self._records.put(request, record.round, CLOSED):
                raise TryAgainError
            return held

        return self._backoff.run(find)

    def _begin(self, request: ClaimRequest, tasks: Sequence[Task]) -> list[Task]:
        """Begin tasks; return those that run under the claim then."""
        by_execution: dict[str, list[Task]] = {}
        for task in tasks:
            by_execution.setdefault(task.execution_id, []).append(task)
        parts = map_concurrently(lambda part: self._begin_in(request, *part), by_execution.items())
        held = [task for part in parts for task in part if task is not None]
        if not held and any(None in part for part in parts):
            raise ServiceBusyError("service busy; ask again with the same claimId, or for other tasks")
        return held

    def _begin_in(self, request: ClaimRequest, execution_id: str, tasks: Sequence[Task]) -> list[Task | None]:
        """Begin tasks of one execution; return those that run under the claim, and None for each that is uncertain."""
        now = self._clock()
        writes = [claim_write(request, task, now=now) for task in tasks]
        results = self._tasks.write_all(request.tenant, execution_id, writes, now)
        completed = self._tasks.complete(request.tenant, execution_id, results)
        uncertain = [None for task in tasks if task.task_id not in completed]
        written = (result.task for result in completed.values() if result is not None)
        return [*(task for task in written if request.holds(task)), *uncertain]

    def _read(self, item_keys: Sequence[Item]) -> list[Task]:
        """Read tasks, in the order of their keys; those that do not exist any more are left out."""
        if not item_keys:
            return []
        stored = batch_get(self._client, self._settings.table_name, item_keys, self._backoff)
        items = {key_texts(item): item for item in stored}
        return [task_from_item(items[name]) for name in map(key_texts, item_keys) if name in items]
