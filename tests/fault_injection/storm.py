"""Many reports by many workers at once, while calls to AWS keep failing at random; and the checks at the end."""

from collections import Counter, UserDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from threading import Lock, local
from typing import Any, Final

import pytest

from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item
from tasklatch.runtime.observability import metrics
from tests.fault_injection.check import broken_promises
from tests.fault_injection.emulated_aws import WireRequest, WireResponse
from tests.fault_injection.faults import LASTING, Fault, faults_of, inflict
from tests.fault_injection.whole_service import WholeService

_TASKS_AN_EXECUTION: Final = 500
_REPORTS_A_BATCH: Final = 100
_SHARE_ALONE: Final = 0.1
_WORKERS: Final = 4
_CALLS_AN_OUTAGE: Final = 150
_ROUNDS: Final = 2
REPORTS_A_TASK: Final = 8
KINDS: Final = frozenset(Fault) - LASTING - {Fault.NO_ITEM}
"""Faults of a single call. Without the item, a response shows the task as another may have moved it on since:
the version of the write is not known then, and could not be checked.
"""

ReportFields = Mapping[str, Any]
_START: Final = {"status": "IN_PROGRESS"}
_DONE: Final = {"status": "COMPLETED", "output": {"pages": 3}}
_FAILED: Final = {"status": "FAILED", "message": "disk full"}
_LATE: Final = {"status": "FAILED", "message": "a duplicate delivery's"}


@dataclass(frozen=True)
class Plan:
    """Reports on a task in each round, by attempt; its final status; and the attempts that may have been opened."""

    rounds: tuple[Sequence[tuple[int, ReportFields]], Sequence[tuple[int, ReportFields]]]
    ends: str
    opened: tuple[tuple[int, ...], ...]
    max_attempts: int = 2


PLANS: Final[Mapping[str, Plan]] = {
    "goes well, and a duplicate delivery fails": Plan(
        (
            ((1, _START), (1, _DONE), (1, _DONE), (1, _START)),
            ((1, _LATE), (1, _LATE), (1, _DONE), (1, {"status": "FAILED_WITH_TERMINAL_ERROR"})),
        ),
        "COMPLETED",
        ((1,),),
    ),
    "fails once": Plan(
        (
            ((1, _START), (1, _FAILED), (1, _FAILED), (1, _START)),
            ((2, _START), (2, _DONE), (1, _LATE), (2, _START)),
        ),
        "COMPLETED",
        ((1, 2),),
    ),
    "fails, and succeeds late": Plan(
        (
            ((1, _START), (1, _FAILED), (1, _START), (1, _LATE)),
            ((1, _DONE), (2, _START), (2, _FAILED), (1, _DONE)),
        ),
        "COMPLETED",
        ((1, 2), (1, 2, 3)),
        max_attempts=3,
    ),
    "never succeeds": Plan(
        (((1, _FAILED),) * 4, ((2, _FAILED), (2, _FAILED), (2, _START), (1, _LATE))),
        "COMPLETED_WITH_ERRORS",
        ((1, 2),),
    ),
}


@dataclass
class Storm:
    """Injection of faults into a share of all calls, drawn by a seed; each kind has its turn.

    Attributes
    ----------
    rate
        Share of calls, 0 to 1; now and then nothing at all passes for a while.
    """

    seed: int
    rate: float
    fired: Counter[Fault] = field(default_factory=Counter)
    calls: int = 0
    outages: int = 0
    _left_of_outage: int = 0
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._draws: dict[str, Random] = defaultdict(lambda: Random(f"{self.seed}"))  # noqa: S311 - guards nothing

    def __call__(self, call: WireRequest, serve: Callable[[WireRequest], WireResponse]) -> WireResponse:
        fault = self._next(call)
        return serve(call) if fault is None else inflict(fault, call, serve)

    def _next(self, call: WireRequest) -> Fault | None:
        with self._lock:
            self.calls += 1
            draw = self._draws[call.operation].random()
            if self._left_of_outage:
                self._left_of_outage -= 1
                self.fired[Fault.OUTAGE] += 1
                return Fault.OUTAGE
            if draw > self.rate:
                return None
            if draw < self.rate / 50:
                self.outages += 1
                self._left_of_outage = _CALLS_AN_OUTAGE
            fault = min((kind for kind in faults_of(call) if kind in KINDS), key=lambda kind: self.fired[kind])
            self.fired[fault] += 1
            return fault


@dataclass(frozen=True)
class _Request:
    execution_id: str
    reports: Sequence[ReportFields]


def run_storm(service: WholeService, storm: Storm, reports: int) -> list[str]:
    """Create tasks, report on them from many workers under faults, and return all differences at the end.

    Parameters
    ----------
    reports
        Number of reports: a multiple of `REPORTS_A_TASK`.
    """
    draw = Random(storm.seed)  # noqa: S311 - guards nothing
    names = [f"task-{number}" for number in range(reports // REPORTS_A_TASK)]
    plans = {name: draw.choice(list(PLANS.values())) for name in names}
    executions = {
        f"run-{number}": names[first : first + _TASKS_AN_EXECUTION]
        for number, first in enumerate(range(0, len(names), _TASKS_AN_EXECUTION))
    }
    service.most_sends = 100
    service.aws.around = storm
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(_WORKERS) as workers:
        _let_functions_run_side_by_side(patch)
        for execution_id, members in executions.items():
            tasks = [_task(name, plans[name]) for name in members]
            service.call("executions", "POST /v1/executions", body={"executionId": execution_id, "tasks": tasks})
        service.settle()
        for number in range(_ROUNDS):
            requests = list(_requests(executions, plans, number, draw))
            sending = [workers.submit(_send, service, request) for request in requests]
            while not all(item.done() for item in sending):
                service.settle()
            for element in sending:
                element.result()
            service.settle()
    service.reconcile()
    service.aws.around = lambda call, serve: serve(call)
    return list(_wrong(service, executions, plans, reports))


def _task(name: str, plan: Plan) -> dict[str, Any]:
    policy = {"maxAttempts": plan.max_attempts, "initialSeconds": 1, "multiplier": 1, "jitter": 0}
    return {"taskId": name, "retryPolicy": policy, "onFailure": "continue"}


def _requests(
    executions: Mapping[str, Sequence[str]], plans: Mapping[str, Plan], number: int, draw: Random
) -> Iterator[_Request]:
    """Return all reports of a round, shuffled: some alone, the others in batches per execution."""
    requests = []
    for execution_id, members in executions.items():
        body = [
            {"taskId": name, "attempt": attempt, **what}
            for name in members
            for attempt, what in plans[name].rounds[number]
        ]
        draw.shuffle(body)
        alone = round(len(body) * _SHARE_ALONE)
        requests += [_Request(execution_id, [report]) for report in body[:alone]]
        batched = body[alone:]
        requests += [
            _Request(execution_id, batched[first : first + _REPORTS_A_BATCH])
            for first in range(0, len(batched), _REPORTS_A_BATCH)
        ]
    draw.shuffle(requests)
    yield from requests


def _send(service: WholeService, request: _Request) -> None:
    if len(request.reports) > 1:
        service.report_all(request.execution_id, request.reports)
        return
    body = dict(request.reports[0])
    service.report(request.execution_id, body.pop("taskId"), **body)


def _let_functions_run_side_by_side(patch: pytest.MonkeyPatch) -> None:
    """Give each thread metrics of its own: on Lambda each instance of a function is a process."""
    for name in ("metric_set", "dimension_set", "metadata_set"):
        patch.setattr(metrics.provider, name, _PerThread())


class _PerThread(UserDict[str, Any]):
    """A dictionary of which each thread has its own."""

    def __init__(self) -> None:
        self._local = local()

    @property
    def data(self) -> dict[str, Any]:  # type: ignore[override]
        return self._local.__dict__.setdefault("data", {})  # type: ignore[no-any-return]


def _wrong(
    service: WholeService, executions: Mapping[str, Sequence[str]], plans: Mapping[str, Plan], reports: int
) -> Iterator[str]:
    if len(service.acknowledged) != reports:
        yield f"{len(service.acknowledged)} reports were acknowledged, not {reports}"
    yield from broken_promises(service)
    items = {(item[keys.PK]["S"], item[keys.SK]["S"]): item for item in service.items()}
    changes: dict[str, list[Item]] = defaultdict(list)
    for (pk, _), item in items.items():
        if pk.startswith("HIST#") and item["verdict"]["S"] == "applied":
            changes[pk].append(item)
    for execution_id, members in executions.items():
        partition = keys.execution_pk("default", execution_id)
        ended = items[partition, keys.EXECUTION_SK]["status"]["S"]
        if ended != "COMPLETED":
            yield f"{execution_id} is {ended}"
        for name in members:
            history = changes[keys.history_pk("default", execution_id, name)]
            yield from _wrong_of_task(name, items[partition, keys.task_sk(name)], history, plans[name])


def _wrong_of_task(name: str, task: Item, history: Sequence[Item], plan: Plan) -> Iterator[str]:
    if task["status"]["S"] != plan.ends:
        yield f"{name} is {task['status']['S']}, not {plan.ends}"
    opened = sorted(int(entry["attempt"]["N"]) for entry in history if entry["status"]["S"] == "SCHEDULED")
    if tuple(opened) not in plan.opened:
        yield f"of {name} the attempts {opened} were opened, not {plan.opened}"
    versions = sorted(int(entry["version"]["N"]) for entry in history)
    if versions != list(range(1, int(task["version"]["N"]) + 1)):
        yield f"{name} is at version {task['version']['N']}, its history has {versions}"
