"""Time of a batch of reports against a single one, at a table that takes 5 ms a call, as DynamoDB about does.

The same again on the emulator that the tests use, shown separately: it serves one call at a time and reads PartiQL
slowly, so its figures are mostly about itself.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import boto3

from local.handlers import load_handler
from tasklatch.domain.execution import Execution
from tasklatch.domain.status import ExecutionStatus
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.dynamodb.execution_item import execution_to_item
from tasklatch.runtime import clients
from tests.benchmarks.dynamodb_stand_in import running
from tests.benchmarks.measure import Figure, Sample, figure, in_turn, ratio, timed, use_endpoint, write_figures
from tests.benchmarks.metered_service import STATUS_ROUTE, STATUSES_ROUTE
from tests.factories import NOW, Context, a_task, api_event, call_api, fresh_name, stored_item
from tests.integration.emulators import counted_calls, create_table, make_backoff, new_client, running_ministack

NAME: Final = "batch"
SERVICE_MS: Final = 5
SIZES: Final = (10, 100)
# Whatever the machine, and however busy: processor time of a report in a batch against one alone. Wall time adds
# the wait for the table: on a slow machine it is mostly the first, on a busy one the wait is mostly the stand-in's
CPU_GOALS: Final = {10: 0.6, 100: 0.5}
# Updates that only add information are each counted among those of their task before they are stored
SUPERAI_GOALS: Final = {"completed": 2.0, "failed": 2.0, "queued": 2.5}
# One read of all tasks, and four calls of 25 statements
CALLS_GOAL: Final = 5
_SUPERAI_ROUTE: Final = "POST /api/flow-executions/{flow_execution_id}/task-status"
_ROUNDS: Final = 60
_EMULATOR_ROUNDS: Final = 15


def figures() -> list[Figure]:
    """Measure on the stand-in, and then on the emulator."""
    with running(SERVICE_MS) as url:
        result = _compare(url, f"table of {SERVICE_MS} ms", _ROUNDS, with_goals=True)
    with tempfile.TemporaryDirectory() as folder, running_ministack(Path(folder)) as url:
        create_table(new_client(url), "ledger")
        return result + _compare(url, "emulator", _EMULATOR_ROUNDS, with_goals=False)


def _compare(url: str, where: str, rounds: int, *, with_goals: bool) -> list[Figure]:
    use_endpoint(url)
    clients.dynamodb.cache_clear()
    client = boto3.client("dynamodb")
    _put_execution(client)
    statuses = ("completed", "failed", "queued")
    samples = in_turn(
        {"single": lambda: _single(client)}
        | {f"{size}": _batch_of(client, size) for size in SIZES}
        | {f"{status} {size}": _superai_batch_of(client, size, status) for status in statuses for size in (1, 10)},
        rounds=rounds,
    )
    wall = {name: [item.wall_ms for item in taken] for name, taken in samples.items()}
    result = [figure(NAME, f"{where}: a single report", wall["single"], "ms")]
    result += [
        ratio(NAME, f"{where}: {size} reports / a single one", wall[f"{size}"], wall["single"]) for size in SIZES
    ]
    if with_goals:
        result += _processor_and_wait(where, samples)
    result += [
        ratio(
            NAME,
            f"{where}: SuperAI, 10 updates / 1, all {status}",
            wall[f"{status} 10"],
            wall[f"{status} 1"],
            SUPERAI_GOALS[status] if with_goals else None,
        )
        for status in statuses
    ]
    result.append(figure(NAME, f"{where}: SuperAI, 10 updates, all completed", wall["completed 10"], "ms"))
    if with_goals:
        result.append(Figure(NAME, "calls for 100 reports", _calls_for_hundred(client), "calls", goal=CALLS_GOAL))
    return result


def _processor_and_wait(where: str, samples: Mapping[str, Sequence[Sample]]) -> list[Figure]:
    """Return the processor time of a batch per report, and its further waiting time."""
    cpu = {name: [item.cpu_ms for item in taken] for name, taken in samples.items()}
    wait = {name: [element.wall_ms - element.cpu_ms for element in taken] for name, taken in samples.items()}
    collected = [figure(NAME, f"{where}: processor time of a single report", cpu["single"], "ms")]
    for size in SIZES:
        each = [milliseconds / size for milliseconds in cpu[f"{size}"]]
        name = f"{where}: processor time of a report in a batch of {size}"
        collected += [
            figure(NAME, name, each, "ms"),
            ratio(NAME, f"{name} / of a single one", each, cpu["single"], CPU_GOALS[size]),
            ratio(NAME, f"{where}: waiting, {size} reports / a single one", wait[f"{size}"], wait["single"]),
        ]
    return collected


def _put_execution(client: Any) -> None:
    execution = Execution(
        tenant="default",
        execution_id="nightly",
        status=ExecutionStatus.RUNNING,
        version=1,
        created_at=NOW,
        updated_at=NOW,
        definition="none",
        keep_open=True,
    )
    batch_put(client, "ledger", [execution_to_item(execution)], make_backoff())


def _fresh_tasks(client: Any, count: int) -> list[str]:
    task_ids = [fresh_name() for _ in range(count)]
    batch_put(client, "ledger", [stored_item(a_task(task_id=task_id)) for task_id in task_ids], make_backoff())
    return task_ids


def _single(client: Any) -> Sample:
    (task_id,) = _fresh_tasks(client, 1)
    path = {"executionId": "nightly", "taskId": task_id}
    return _timed("report_status", api_event(STATUS_ROUTE, path=path, body={"status": "COMPLETED", "attempt": 1}))


def _batch_of(client: Any, size: int) -> Callable[[], Sample]:
    def batch() -> Sample:
        body = [{"taskId": name, "status": "COMPLETED", "attempt": 1} for name in _fresh_tasks(client, size)]
        event = api_event(STATUSES_ROUTE, path={"executionId": "nightly"}, body={"statuses": body})
        return _timed("report_status", event, applied=size)

    return batch


def _superai_batch_of(client: Any, size: int, status: str) -> Callable[[], Sample]:
    def batch() -> Sample:
        body = [{"task_name": name, "status": status} for name in _fresh_tasks(client, size)]
        event = api_event(_SUPERAI_ROUTE, path={"flow_execution_id": "nightly"}, body={"statuses": body})
        return _timed("superai_contract", event, applied=0)

    return batch


def _timed(function: str, event: dict[str, Any], applied: int = 1) -> Sample:
    def answer() -> None:
        reply = call_api(load_handler(function).handler, event, Context(20_000))
        if reply.status != 200 or reply.text.count('"verdict":"applied"') != applied:
            raise RuntimeError(reply.text)

    return timed(answer)


def _calls_for_hundred(client: Any) -> int:
    batch = _batch_of(client, 100)
    with counted_calls(clients.dynamodb()) as calls:
        batch()
    return sum(calls.values())


if __name__ == "__main__":
    write_figures(figures())
