"""Cost of a report, a retry and a whole task life: counted, and converted to dollars by list prices.

Every change and every message is delivered to its function alone, which costs most: under load, up to 100 changes or
10 messages share an invocation, and its reads.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_write import batch_put
from tests.benchmarks.measure import Figure, write_figures
from tests.benchmarks.metered_service import Service, metered_service
from tests.benchmarks.metering import Usage
from tests.integration.emulators import create_table, make_backoff, new_client, running_ministack

NAME: Final = "cost"
PRICES: Final = {
    "requests": 1.00,
    "invocations": 0.20,
    "write_units": 0.625,
    "index_units": 0.625,
    "read_units": 0.125,
    "events": 1.00,
    "queue_requests": 0.40,
    "live_messages": 1.00,
    "log_bytes": 0.50 / 1000,
}
"""List prices in us-east-1, in dollars for a million; log_bytes for a million bytes, where a gigabyte is $0.50."""

# Names in the table
WORDS: Final = {
    "requests": "API",
    "invocations": "Lambda",
    "write_units": "write",
    "index_units": "index",
    "read_units": "read",
    "events": "bus",
    "queue_requests": "queue",
    "live_messages": "live",
    "log_bytes": "log",
}
TASKS: Final = 10
BATCH: Final = 100
DOLLARS: Final = "$"
_BUS_AND_LIVE: Final = frozenset({"events", "queue_requests", "live_messages"})


def dollars(usage: Usage) -> dict[str, float]:
    """Return the cost of a million times this usage, by billed item, in dollars."""
    return {name: amount * PRICES[name] for name, amount in amounts(usage).items()}


def amounts(usage: Usage) -> dict[str, float]:
    """Return the amount of each billed item."""
    used: dict[str, float] = {}
    for name in WORDS:
        value = getattr(usage, name)
        used[name] = value.total() if name == "invocations" else value
    return used


def figures() -> list[Figure]:
    """Count each case, and price it."""
    result = []
    with emulated_service() as service:
        for case, (divided_by, usage) in count_cases(service).items():
            result += figures_of(NAME, case, usage, divided_by)
    return result


def count_cases(service: Service) -> dict[str, tuple[int, Usage]]:
    """Return the usage of each case, and its number of tasks."""
    task_ids = [f"task-{number}" for number in range(TASKS)]
    service.create("cases", *({"taskId": name} for name in task_ids))
    used: dict[str, tuple[int, Usage]] = {}

    def count(case: str, act: Callable[[], Any], tasks: int = 1) -> None:
        with service.used() as usage:
            act()
        used[case] = (tasks, usage)

    def report_only(status: str, **more: Any) -> Callable[[], Any]:
        return lambda: service.report_only("cases", task_ids[0], status, attempt=1, **more)

    count("a start, before what follows", report_only("IN_PROGRESS"))
    count("what follows a start", service.settle)
    count("a heartbeat, with what follows", lambda: service.heartbeat("cases", task_ids[0], attempt=1))
    count("a success, before what follows", report_only("COMPLETED"))
    count("what follows a success", service.settle)
    count("a success with 1 KB of output, before what follows", _success_with_output(service, task_ids[1]))
    service.settle()
    count("a success in a batch of 100, before what follows", _batch(service), BATCH)
    service.settle()
    count("a duplicate or late report", report_only("FAILED"))
    count("a retry, from failure to next attempt", lambda: _retry(service, task_ids[2]))
    count("a task's life", lambda: _lives(service, "lives"), TASKS)
    count("a task's life with one retry", lambda: _lives(service, "retried", retried=True), TASKS)
    count("a task's life, in a chain", lambda: _chain(service, "chain"), TASKS)
    count("a retry in an hour, from failure to next attempt", lambda: _retry_later(service))
    count("a sweep of an idle stack", lambda: service.run_on_schedule("timer_sweeper"))
    count("a run of the reconciler, for 1,000 waiting tasks", _reconcile_many(service))
    _watch(service, "watched")
    count("a task's life, with one watcher", lambda: _lives(service, "watched"), TASKS)
    return used


def _success_with_output(service: Service, task_id: str) -> Callable[[], Any]:
    output = {"text": "x" * 1000}
    return lambda: service.report_only("cases", task_id, "COMPLETED", attempt=1, output=output)


def _batch(service: Service) -> Callable[[], Any]:
    task_ids = [f"task-{number}" for number in range(BATCH)]
    service.create("batched", *({"taskId": name} for name in task_ids))
    body = [{"taskId": name, "status": "COMPLETED", "attempt": 1} for name in task_ids]
    return lambda: service.report_all("batched", body)


def _retry(service: Service, task_id: str, execution_id: str = "cases") -> None:
    service.report(execution_id, task_id, "FAILED", attempt=1)
    if service.fire_timers() != 1:
        raise RuntimeError("no timer was armed")


def _retry_later(service: Service) -> None:
    policy = {"maxAttempts": 2, "initialSeconds": 3_600, "maxSeconds": 3_600, "jitter": 0}
    service.create("later", {"taskId": "patient", "retryPolicy": policy}, {"taskId": "other"})
    service.report("later", "patient", "FAILED", attempt=1)
    service.clock.now += 3_540_000
    if service.run_on_schedule("timer_sweeper")["sent"] != 1 or service.fire_timers() != 1:
        raise RuntimeError("no timer was swept")


def _reconcile_many(service: Service) -> Callable[[], Any]:
    for number in range(10):
        service.create(f"many-{number}", *({"taskId": f"task-{n}"} for n in range(100)))
    service.finish_update()
    service.clock.now += 600_000
    # The first run sees that all that has ended is done
    service.run_on_schedule("reconciler")
    return lambda: service.run_on_schedule("reconciler")


def _lives(service: Service, execution_id: str, *, retried: bool = False) -> None:
    task_ids = [f"task-{number}" for number in range(TASKS)]
    service.create(execution_id, *({"taskId": name} for name in task_ids))
    for name in task_ids:
        service.report(execution_id, name, "IN_PROGRESS", attempt=1)
        if retried:
            service.report(execution_id, name, "FAILED", attempt=1)
    if retried:
        service.fire_timers()
        for name in task_ids:
            service.report(execution_id, name, "IN_PROGRESS", attempt=2)
    for name in task_ids:
        service.report(execution_id, name, "COMPLETED", attempt=2 if retried else 1)
    _check_ended(service, execution_id)


def _chain(service: Service, execution_id: str) -> None:
    tasks = [
        {"taskId": f"task-{number}"} | ({"dependsOn": [f"task-{number - 1}"]} if number else {})
        for number in range(TASKS)
    ]
    service.create(execution_id, *tasks)
    for task in tasks:
        service.report(execution_id, str(task["taskId"]), "IN_PROGRESS", attempt=1)
        service.report(execution_id, str(task["taskId"]), "COMPLETED", attempt=1)
    _check_ended(service, execution_id)


def _check_ended(service: Service, execution_id: str) -> None:
    key: Any = {keys.PK: {"S": keys.execution_pk("default", execution_id)}, keys.SK: {"S": keys.EXECUTION_SK}}
    item = service.meter.client.get_item(TableName=service.meter.table, Key=key, ConsistentRead=True)["Item"]
    if item["status"]["S"] != "COMPLETED":
        raise RuntimeError(f"execution {execution_id} did not end: {item}")


def _watch(service: Service, execution_id: str) -> None:
    watched: Any = {keys.PK: {"S": keys.live_pk("default", execution_id)}, keys.SK: {"S": "connection"}}
    batch_put(service.meter.client, service.meter.table, [watched], make_backoff())


def figures_of(benchmark: str, case: str, usage: Usage, divided_by: int = 1) -> list[Figure]:
    """Return the usage and the cost of one case, for one of its tasks."""
    priced = dollars(usage)
    total = sum(priced.values()) / divided_by
    extras = sum(amount for name, amount in priced.items() if name in _BUS_AND_LIVE) / divided_by
    return [
        Figure(benchmark, case, usage.calls.total() / divided_by, "calls"),
        *(Figure(benchmark, case, amount / divided_by, WORDS[name]) for name, amount in amounts(usage).items()),
        Figure(benchmark, case, total, DOLLARS),
        Figure(benchmark, case, total - extras, "$ less"),
    ]


@contextmanager
def emulated_service() -> Iterator[Service]:
    """Yield the service with all its usage counted, on a table of its own in an emulator."""
    with tempfile.TemporaryDirectory() as folder, running_ministack(Path(folder)) as url:
        client = new_client(url)
        create_table(client, "ledger")
        with metered_service(client, "ledger") as service:
            service.log_size = _log_size
            yield service


def _log_size() -> int:
    """Return the bytes on standard output, which is a function's log; a file when all benchmarks are run."""
    sys.stdout.flush()
    return os.fstat(sys.stdout.fileno()).st_size


if __name__ == "__main__":
    write_figures(figures())
