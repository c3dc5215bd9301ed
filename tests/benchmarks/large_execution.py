"""Executions of very many tasks: ended, cancelled and retried by as many invocations as it takes, of flat memory.

The shipped handler of the workflow advancer is called with its queue's messages, one after the other, each with the
time that its function has. The table is the stand-in; the queue only records.
"""

import os
import resource
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

from local.handlers import load_handler
from tasklatch.domain.advance import Advance, AdvanceMessage, start_of_sweep
from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import FollowUp
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.dynamodb.execution_item import execution_from_item, execution_key, execution_to_item
from tasklatch.executions.execution_tasks import ExecutionTasks
from tasklatch.runtime import clients, services
from tasklatch.runtime.settings import get_settings
from tasklatch.workflow.advance_queue import to_body
from tests.benchmarks.dynamodb_stand_in import running
from tests.benchmarks.measure import Figure, write_figures
from tests.factories import NOW, Context, a_task, stored_item
from tests.integration.emulators import make_backoff
from tests.workflow_helpers import FakeClient, a_queue

NAME: Final = "large execution"
TASKS: Final = 200_000
WRITTEN_TASKS: Final = 20_000
FLAT_MB: Final = 32
"""Memory that an invocation may take beyond what it had at its beginning, however many tasks there are."""

_SERVICE_MS: Final = 5
_FUNCTION_MS: Final = 30_000
_EXECUTION_ID: Final = "large"


@dataclass
class Deadline(Context):
    """Context of an invocation that has its time from now on."""

    remaining_ms: int = _FUNCTION_MS
    began: float = field(default_factory=time.monotonic)

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms - int((time.monotonic() - self.began) * 1000)


@dataclass
class Draining(Context):
    """Context of an invocation whose time passes by looking at it: the same on every machine."""

    remaining_ms: int = _FUNCTION_MS
    look_ms: int = 0

    def get_remaining_time_in_millis(self) -> int:
        self.remaining_ms -= self.look_ms
        return self.remaining_ms


@dataclass
class Sweep:
    """Usage of the invocations of one sweep."""

    invocations: int = 0
    seconds: float = 0
    calls: Counter[str] = field(default_factory=Counter)
    peak_mb: float = 0


class LargeExecution:
    """An execution in the stand-in, and the queue of the advancer; make it with `large_execution`."""

    def __init__(self) -> None:
        self.queue: FakeClient = a_queue()
        self._client = clients.dynamodb()

    def put(self, size: int, status: TaskStatus, execution_status: ExecutionStatus) -> None:
        """Put an execution of tasks that are all in one status."""
        execution = Execution(
            tenant="default",
            execution_id=_EXECUTION_ID,
            status=execution_status,
            version=1,
            created_at=NOW,
            updated_at=NOW,
            definition="none",
        )
        tasks = (
            a_task(
                status,
                execution_id=_EXECUTION_ID,
                task_id=f"task-{number:06}",
                version=2,
                follow_up=FollowUp.END,
            )
            for number in range(size)
        )
        items = [execution_to_item(execution)]
        batch_put(self._client, "ledger", items, make_backoff())
        for task in tasks:
            items.append(stored_item(task))
            if len(items) == _PUTS:
                batch_put(self._client, "ledger", items, make_backoff())
                items.clear()
        batch_put(self._client, "ledger", items, make_backoff())

    def execution(self) -> Execution:
        key: Any = execution_key("default", _EXECUTION_ID)
        return execution_from_item(self._client.get_item(TableName="ledger", Key=key)["Item"])

    def statuses(self) -> Counter[tuple[TaskStatus, int]]:
        """Count the tasks by status and attempt."""
        tasks = ExecutionTasks(self._client, get_settings(), make_backoff()).iterate("default", _EXECUTION_ID)
        return Counter((task.status, task.attempt) for task in tasks)

    def sweep(self, kind: Advance, make_context: Callable[[], Context] = Deadline, *, traced: bool = True) -> Sweep:
        """Deliver a message, and all that follow from it, each with a context of its own.

        Parameters
        ----------
        traced
            True to measure memory, which takes several times the time.
        """
        position = start_of_sweep(self.execution()) if kind is Advance.REOPEN else None
        bodies = [to_body(AdvanceMessage(kind, "default", _EXECUTION_ID, position=position))]
        used = Sweep()

        def count(**event: Any) -> None:
            used.calls[event["event_name"].rpartition(".")[2]] += 1

        self._client.meta.events.register("before-send.dynamodb", count)
        began = time.monotonic()
        try:
            while bodies:
                self._invoke(bodies.pop(0), make_context(), used, traced=traced)
                bodies += self._sent()
        finally:
            self._client.meta.events.unregister("before-send.dynamodb", count)
        used.seconds = time.monotonic() - began
        return used

    def _invoke(self, body: str, context: Context, used: Sweep, *, traced: bool) -> None:
        if traced:
            tracemalloc.start()
        answer = load_handler("workflow_advancer").handler({"Records": [{"messageId": "1", "body": body}]}, context)
        if traced:
            used.peak_mb = max(used.peak_mb, tracemalloc.get_traced_memory()[1] / 1e6)
            tracemalloc.stop()
        used.invocations += 1
        if answer["batchItemFailures"]:
            raise RuntimeError(f"the advancer did not serve {body}")

    def _sent(self) -> list[str]:
        requests = self.queue.requests("send_message_batch")
        self.queue.calls.clear()
        return [entry["MessageBody"] for request in requests for entry in request["Entries"]]


_PUTS: Final = 1_000


@contextmanager
def large_execution(service_ms: float = _SERVICE_MS) -> Iterator[LargeExecution]:
    """Run the stand-in, and give it to the advancer, until the block ends."""
    with running(service_ms) as url, mock.patch.dict(os.environ, AWS_ENDPOINT_URL=url, TABLE_NAME="ledger"):
        clients.dynamodb.cache_clear()
        get_settings.cache_clear()
        large = LargeExecution()
        with mock.patch.multiple(services, sqs=mock.Mock(return_value=large.queue), dynamodb=clients.dynamodb):
            yield large
        clients.dynamodb.cache_clear()


def figures() -> list[Figure]:
    """Measure the end of an execution of 200,000 tasks, and the cancellation and the retry of a smaller one."""
    result: list[Figure] = []
    with large_execution() as large:
        large.put(TASKS, TaskStatus.COMPLETED, ExecutionStatus.RUNNING)
        result += _figures(f"{TASKS:,} tasks ended", Advance.COMPLETE, large, ExecutionStatus.COMPLETED)
    with large_execution() as large:
        large.put(WRITTEN_TASKS, TaskStatus.SCHEDULED, ExecutionStatus.TERMINATED)
        cancelled = f"{WRITTEN_TASKS:,} tasks cancelled"
        result += _figures(cancelled, Advance.CANCEL, large, ExecutionStatus.TERMINATED)
        retried = f"{WRITTEN_TASKS:,} tasks retried by a person and scheduled"
        result += _figures(retried, Advance.REOPEN, large, ExecutionStatus.RUNNING)
    return result


def _figures(case: str, kind: Advance, large: LargeExecution, expected: ExecutionStatus) -> list[Figure]:
    before = _peak_mb()
    used = large.sweep(kind, traced=False)
    if large.execution().status is not expected:
        raise RuntimeError(f"the execution is {large.execution().status}, not {expected}")
    return [
        Figure(NAME, f"{case}, at a table of {_SERVICE_MS} ms", used.seconds, "s"),
        Figure(NAME, f"{case}: invocations", used.invocations, "invocations"),
        Figure(NAME, f"{case}: calls", used.calls.total(), "calls"),
        Figure(NAME, f"{case}: growth of the process", _peak_mb() - before, "MB", goal=FLAT_MB),
    ]


def _peak_mb() -> float:
    """Return the largest size that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    write_figures(figures())
