"""Plan of a replay's workers: a pure function of the trace, the share of chaos and the seed.

Workers in the field misbehave: they fail, are killed, and their requests arrive twice, late and out of order. The seed
chooses a fault for some tasks and for some deliveries. Each becomes scripted requests per attempt, with the expected
outcome of each request.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from local.replay.delivery_faults import FAULTY_STARTS, FAULTY_SUCCESSES, TaskScript
from local.replay.scripts import (
    TERMINAL_REASONS,
    DeliveryFault,
    ReplayPlan,
    RequestBatch,
    ScriptedRequest,
    TaskFault,
)
from local.replay.task_faults import WITHOUT_SUCCESS, plan_task
from local.replay.trace import Trace

_MAX_BATCH: Final = 100
_SHARE_OF_SINGLES: Final = 0.6
_SHARE_OF_FAILED: Final = 0.2
_START: Final = "start"
_SUCCESS: Final = "success"

_Chosen = dict[tuple[str, str], DeliveryFault]


def make_plan(trace: Trace, *, chaos: float = 0.0, seed: int = 0, ends: str | None = None) -> ReplayPlan:
    """Plan the workers of a replay: the same arguments always make the same plan.

    Parameters
    ----------
    chaos
        Share of tasks, 0 to 1, whose work goes wrong; and of starts and successes whose delivery does.
    ends
        Status in which the execution must end, COMPLETED or FAILED. None leaves it to the seed: where there is chaos,
        one in five ends FAILED.

    Raises
    ------
    ValueError
        If chaos or ends is out of range.
    """
    if not 0 <= chaos <= 1:
        raise ValueError(f"CHAOS must be a share from 0 to 1, not {chaos:g}")
    if ends not in (None, "COMPLETED", "FAILED"):
        raise ValueError(f"EXPECT must be COMPLETED or FAILED, not {ends}")
    fatal = _choose_fatal(trace, chaos, ends, _draws("end", seed))
    task_faults = _choose_task_faults(trace, chaos, fatal, _draws("troubles", seed))
    faulty_deliveries = _choose_delivery_faults(trace, chaos, task_faults, _draws("disturbances", seed))
    draws = _draws("details", seed)
    names = [task.task_id for task in trace.tasks]
    tasks = []
    for task in trace.tasks:
        others = [name for name in names if name != task.task_id]
        script = TaskScript(
            other_task=draws.choice(others) if others else "",
            new_id=str(UUID(int=draws.getrandbits(128), version=4)),
            start=faulty_deliveries.get((task.task_id, _START)),
            success=faulty_deliveries.get((task.task_id, _SUCCESS)),
            reason=draws.choice(TERMINAL_REASONS),
        )
        planned = plan_task(task, task_faults.get(task.task_id), script)
        attempts = (replace(attempt, requests=tuple(_batched(attempt.requests, draws))) for attempt in planned.attempts)
        tasks.append(replace(planned, attempts=tuple(attempts)))
    return ReplayPlan(trace, tuple(tasks), fatal, len(faulty_deliveries))


def count_faults(plan: ReplayPlan) -> dict[str, int]:
    """Return the number of requests per delivery fault and of tasks per task fault, in the order of both."""
    counts: Counter[str] = Counter(
        request.delivery_fault for request in plan.scripted_requests if request.delivery_fault is not None
    )
    counts.update(task.task_fault for task in plan.tasks if task.task_fault is not None)
    return {kind.value: counts[kind] for kinds in (TaskFault, DeliveryFault) for kind in kinds if counts[kind]}


def _draws(what: str, seed: int) -> random.Random:
    return random.Random(f"{what} {seed}")  # noqa: S311 - to be reproducible


def _choose_fatal(trace: Trace, chaos: float, ends: str | None, draws: random.Random) -> str | None:
    """Choose the task that ends the execution, rather a later one; None if no task does."""
    seeded = draws.random() < _SHARE_OF_FAILED and chaos > 0
    if ends == "COMPLETED" or (ends is None and not seeded):
        return None
    return draws.choice(trace.tasks[len(trace.tasks) // 2 :]).task_id


def _choose_task_faults(trace: Trace, chaos: float, fatal: str | None, draws: random.Random) -> dict[str, TaskFault]:
    """Choose the tasks that get a fault, and its kind: of each kind as many as of any other, or one less."""
    names = [task.task_id for task in trace.tasks]
    kinds = [task_fault for task_fault in TaskFault if task_fault is not TaskFault.FATAL]
    draws.shuffle(kinds)
    chosen_names = draws.sample(names, round(chaos * len(names)))
    chosen: dict[str, TaskFault] = {name: kinds[index % len(kinds)] for index, name in enumerate(chosen_names)}
    return chosen if fatal is None else {**chosen, fatal: TaskFault.FATAL}


def _choose_delivery_faults(
    trace: Trace, chaos: float, task_faults: dict[str, TaskFault], draws: random.Random
) -> _Chosen:
    """Choose the delivery faults of the attempts that succeed: of each kind about as many."""
    chosen: _Chosen = {}
    for kind, kinds in ((_START, list(FAULTY_STARTS)), (_SUCCESS, list(FAULTY_SUCCESSES))):
        possible = [task.task_id for task in trace.tasks if task_faults.get(task.task_id) not in WITHOUT_SUCCESS]
        if len(trace.tasks) == 1 and DeliveryFault.START_OF_ANOTHER_TASK in kinds:
            kinds.remove(DeliveryFault.START_OF_ANOTHER_TASK)
        draws.shuffle(kinds)
        chosen_names = draws.sample(possible, round(chaos * len(possible)))
        chosen |= {(name, kind): kinds[index % len(kinds)] for index, name in enumerate(chosen_names)}
    return chosen


def _batched(requests: Sequence[RequestBatch], draws: random.Random) -> Iterator[RequestBatch]:
    """Put some requests that are due at the same time into one batch; heartbeats go alone."""
    batch: list[ScriptedRequest] = []
    for scripted in (scripted for request in requests for scripted in request):
        fits = (
            bool(batch)
            and batch[0].share == scripted.share
            and not scripted.is_heartbeat
            and not batch[0].is_heartbeat
            and len(batch) < _MAX_BATCH
            and draws.random() >= _SHARE_OF_SINGLES
        )
        if batch and not fits:
            yield tuple(batch)
            batch = []
        batch.append(scripted)
    if batch:
        yield tuple(batch)
