"""Alternatives to this service: the same requests, at the same table, in the same run.

The alternatives are handlers with Powertools' resolver and validation: plain; with a condition, a log line and a
metric; with Idempotency. Measured are the cost of a report in each, and the end of two sequences of reports: after
each step, the status in the table and, in brackets, the response to the worker.
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

import boto3

from local.handlers import load_handler
from tasklatch.domain.status import TaskStatus, status_precedence
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_write import batch_put
from tasklatch.runtime import clients
from tests.benchmarks.dynamodb_stand_in import running
from tests.benchmarks.measure import Figure, Sample, figure, in_turn, ratio, timed, use_endpoint, write_figures
from tests.benchmarks.metered_service import STATUS_ROUTE
from tests.factories import Context, Reply, a_task, api_event, call_api, fresh_name, stored_item
from tests.integration.emulators import make_backoff

NAME: Final = "alternatives"
SERVICE: Final = "report_status"
PLAIN: Final = "powertools_plain"
GUARDED: Final = "powertools_guarded"
IDEMPOTENT: Final = "powertools_idempotent"
HANDLERS: Final[Mapping[str, str]] = {
    SERVICE: "Tasklatch",
    PLAIN: "Powertools",
    GUARDED: "Powertools, condition, log, metric",
    IDEMPOTENT: "Powertools, Idempotency",
}
"""Folders of handlers, and their names in the table."""

# Processor time of this service's report, as a multiple of each alternative's
CPU_GOALS: Final = {GUARDED: 1.2, IDEMPOTENT: 0.75}
_ROUNDS: Final[Mapping[int, int]] = {0: 200, 5: 60}
_WARM_UP: Final = 20


class Step(NamedTuple):
    """One step of a sequence.

    Attributes
    ----------
    reported
        Status that is reported; None to open the next attempt.
    attempt
        Attempt of the step.
    right
        Status that the task should then have: a success stands, and an old attempt does not fail a newer one.
    """

    reported: str | None
    attempt: int
    right: str


SEQUENCES: Final[Mapping[str, tuple[Step, ...]]] = {
    "success, late failure, the success again": (
        Step("COMPLETED", 1, right="COMPLETED"),
        Step("FAILED", 1, right="COMPLETED"),
        Step("COMPLETED", 1, right="COMPLETED"),
    ),
    "failure, attempt 2 opens, the old failure again, late success, failure of 2": (
        Step("FAILED", 1, right="FAILED"),
        Step(None, 2, right="SCHEDULED"),
        Step("FAILED", 1, right="SCHEDULED"),
        Step("COMPLETED", 1, right="COMPLETED"),
        Step("FAILED", 2, right="COMPLETED"),
    ),
}


@dataclass
class LambdaContext(Context):
    """Lambda's context, as far as Powertools reads it."""

    function_name: str = "report"
    function_version: str = "1"
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:report"
    aws_request_id: str = field(default_factory=fresh_name)


def figures() -> list[Figure]:
    """Measure all handlers at a table that takes no time, and at one that takes 5 ms a call."""
    collected: list[Figure] = []
    for service_ms, rounds in _ROUNDS.items():
        with running(service_ms) as url:
            bench = Bench(url)
            collected += _timings(bench, service_ms, rounds)
            if service_ms == 0:
                for folder, title in HANDLERS.items():
                    collected += [*bench.traffic(folder, title), *bench.endings(folder, title)]
    return collected


def report_event(task_id: str, status: str, attempt: int = 1) -> dict[str, Any]:
    """Return API Gateway's event of a report, with the further fields that Powertools' resolver reads."""
    event = api_event(
        STATUS_ROUTE,
        path={"executionId": "nightly", "taskId": task_id},
        body={"status": status, "attempt": attempt},
        headers={"content-type": "application/json"},
    )
    path = f"/v1/executions/nightly/tasks/{task_id}/status"
    event["rawPath"] = path
    event["requestContext"] |= {"http": {"method": "POST", "path": path}, "stage": "$default"}
    return event


def _timings(bench: "Bench", service_ms: int, rounds: int) -> list[Figure]:
    samples = in_turn(
        {folder: bench.case(folder, rounds + _WARM_UP) for folder in HANDLERS}, rounds=rounds, warm_up=_WARM_UP
    )
    cpu = {folder: [sample.cpu_ms for sample in taken] for folder, taken in samples.items()}
    wall = {folder: [sample.wall_ms for sample in taken] for folder, taken in samples.items()}
    table = f"table of {service_ms} ms"
    collected = []
    for folder, title in HANDLERS.items():
        if service_ms == 0:
            collected.append(figure(NAME, title, cpu[folder], "processor ms"))
        collected.append(figure(NAME, title, wall[folder], f"wall ms, {table}"))
        if folder != SERVICE:
            against = f"{table}: Tasklatch / {title}"
            goal = CPU_GOALS.get(folder) if service_ms == 0 else None
            collected.append(ratio(NAME, f"{against}: processor", cpu[SERVICE], cpu[folder], goal))
            collected.append(ratio(NAME, f"{against}: wall", wall[SERVICE], wall[folder]))
    return collected


class Bench:
    """The four handlers at one table.

    Parameters
    ----------
    url
        The table's endpoint; it is set for the whole process.
    """

    def __init__(self, url: str) -> None:
        use_endpoint(url)
        clients.dynamodb.cache_clear()
        self._client = boto3.client("dynamodb")
        self._handlers = {folder: _load(folder) for folder in HANDLERS}

    def case(self, folder: str, count: int) -> Callable[[], Sample]:
        """Return a case that reports a success on a fresh task at each call."""
        task_ids = iter(self._fresh_tasks(count))

        def report() -> Sample:
            event, context = report_event(next(task_ids), "COMPLETED"), LambdaContext()
            handler = self._handlers[folder].handler
            return timed(lambda: _check_ok(call_api(handler, event, context)))

        return report

    def traffic(self, folder: str, title: str) -> list[Figure]:
        """Return the calls and bytes of one successful report."""
        (task_id,) = self._fresh_tasks(1)
        with _traffic_of(self._client_of(folder)) as traffic:
            _check_ok(self._report(folder, task_id, "COMPLETED", attempt=1))
        return [Figure(NAME, title, value, unit) for unit, value in traffic.items()]

    def endings(self, folder: str, title: str) -> Iterator[Figure]:
        """Run each sequence; the value is the number of steps after which the task does not have the right status."""
        for name, steps in SEQUENCES.items():
            (task_id,) = self._fresh_tasks(1)
            history, wrong = [], 0
            for step in steps:
                answer = self._take(folder, task_id, step)
                stored = self._item(task_id)["status"]["S"]
                wrong += stored != step.right
                history.append(f"{stored}{answer}{'' if stored == step.right else ' WRONG'}")
            goal = 0 if folder == SERVICE else None
            yield Figure(NAME, title, wrong, name, goal=goal, text=", ".join(history))

    def _take(self, folder: str, task_id: str, step: Step) -> str:
        """Run a step; return the response to the worker, in brackets."""
        if step.reported is None:
            self._open_next_attempt(task_id)
            return ""
        reply = self._report(folder, task_id, step.reported, step.attempt)
        verdict = reply.body.get("verdict")
        return f" ({verdict})" if verdict else f" ({reply.status} {reply.body['status']})"

    def _report(self, folder: str, task_id: str, status: str, attempt: int) -> Reply:
        event = report_event(task_id, status, attempt)
        return call_api(self._handlers[folder].handler, event, LambdaContext())

    def _open_next_attempt(self, task_id: str) -> None:
        """Open the next attempt: the same write for all, unconditional, as the alternatives have no precedence."""
        attempt = int(self._item(task_id)["attempt"]["N"]) + 1
        precedence = status_precedence(TaskStatus.SCHEDULED, attempt)
        self._client.update_item(
            TableName="ledger",
            Key=_key(task_id),
            UpdateExpression="SET #status = :status, attempt = :attempt, precedence = :precedence",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={
                ":status": {"S": TaskStatus.SCHEDULED},
                ":attempt": {"N": str(attempt)},
                ":precedence": {"N": str(precedence)},
            },
        )

    def _item(self, task_id: str) -> Any:
        return self._client.get_item(TableName="ledger", Key=_key(task_id))["Item"]

    def _client_of(self, folder: str) -> Any:
        return clients.dynamodb() if folder == SERVICE else self._handlers[folder].client

    def _fresh_tasks(self, count: int) -> list[str]:
        task_ids = [fresh_name() for _ in range(count)]
        batch_put(
            self._client, "ledger", [stored_item(a_task(task_id=task_id)) for task_id in task_ids], make_backoff()
        )
        return task_ids


def _key(task_id: str) -> Any:
    return {keys.PK: {"S": keys.execution_pk("default", "nightly")}, keys.SK: {"S": keys.task_sk(task_id)}}


def _load(folder: str) -> ModuleType:
    """Load a handler; an alternative anew, since it makes its client for the endpoint that is set."""
    if folder == SERVICE:
        return load_handler(folder)
    spec = importlib.util.spec_from_file_location(folder, Path(__file__).parent / folder / "handler.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _traffic_of(client: Any) -> Iterator[dict[str, float]]:
    """Count the calls that a client makes, and the bytes of their bodies."""
    traffic: dict[str, float] = {"calls": 0, "bytes sent": 0, "bytes received": 0}

    def sent(request: Any, **_event: Any) -> None:
        traffic["calls"] += 1
        traffic["bytes sent"] += len(request.body)

    def received(http_response: Any, **_event: Any) -> None:
        traffic["bytes received"] += len(http_response.content)

    client.meta.events.register("before-send.dynamodb", sent)
    client.meta.events.register("after-call.dynamodb", received)
    try:
        yield traffic
    finally:
        client.meta.events.unregister("before-send.dynamodb", sent)
        client.meta.events.unregister("after-call.dynamodb", received)


def _check_ok(reply: Reply) -> None:
    if reply.status != 200:
        raise RuntimeError(reply.text)


if __name__ == "__main__":
    write_figures(figures())
