"""Cost of a whole report beside its one call: the real handler against a bare boto3 `update_item`.

Both write the same expression with the same condition, each time to a task of its own, to the same stand-in for
DynamoDB, which is another process: its processor time is not counted.
"""

from collections.abc import Iterator
from typing import Any, Final

import boto3

from local.handlers import load_handler
from tasklatch.domain.conditional_write import write_for_report
from tasklatch.dynamodb import keys, write_expression
from tasklatch.dynamodb.batch_write import batch_put
from tests.benchmarks.dynamodb_stand_in import running
from tests.benchmarks.measure import Figure, Sample, figure, in_turn, ratio, timed, use_endpoint, write_figures
from tests.benchmarks.metered_service import STATUS_ROUTE
from tests.factories import NOW, Context, a_report, a_task, api_event, call_api, stored_item
from tests.integration.emulators import make_backoff

NAME: Final = "overhead"
CPU_GOAL: Final = 1.5
_ROUNDS: Final = 400
_WARM_UP: Final = 50


def figures() -> list[Figure]:
    """Measure both."""
    with running(service_ms=0) as url:
        use_endpoint(url)
        client = boto3.client("dynamodb")
        reported, written = (_tasks(client, name) for name in ("reported", "written"))
        samples = in_turn(
            {"whole": lambda: _report(next(reported)), "bare": lambda: _write(client, next(written))},
            rounds=_ROUNDS,
            warm_up=_WARM_UP,
        )
    cpu = {name: [item.cpu_ms for item in taken] for name, taken in samples.items()}
    wall = {name: [element.wall_ms for element in taken] for name, taken in samples.items()}
    return [
        ratio(NAME, "processor time of a report / of the bare call", cpu["whole"], cpu["bare"], CPU_GOAL),
        figure(NAME, "processor time of a report", cpu["whole"], "ms"),
        figure(NAME, "processor time of the bare call", cpu["bare"], "ms"),
        ratio(
            NAME, "wall time of a report / of the bare call, at a table that takes no time", wall["whole"], wall["bare"]
        ),
    ]


def _tasks(client: Any, name: str) -> Iterator[str]:
    """Yield the ids of tasks without a report."""
    task_ids = [f"{name}-{number}" for number in range(_ROUNDS + _WARM_UP)]
    batch_put(client, "ledger", [stored_item(a_task(task_id=task_id)) for task_id in task_ids], make_backoff())
    return iter(task_ids)


def _report(task_id: str) -> Sample:
    event = api_event(
        STATUS_ROUTE,
        path={"executionId": "nightly", "taskId": task_id},
        body={"status": "COMPLETED", "attempt": 1},
    )

    def report() -> None:
        reply = call_api(load_handler("report_status").handler, event, Context())
        if '"verdict":"applied"' not in reply.text:
            raise RuntimeError(reply.text)

    return timed(report)


def _write(client: Any, task_id: str) -> Sample:
    write = write_for_report(a_report(task_id=task_id, attempt=1), now=NOW, request_id="0" * 32)
    pk = keys.execution_pk("default", "nightly")
    request = write_expression.render_update_item(write, "ledger", pk, expires_at=NOW // 1000)
    return timed(lambda: client.update_item(**request))


if __name__ == "__main__":
    write_figures(figures())
