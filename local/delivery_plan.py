"""What a replay sends: a pure function of the trace, the share of chaos and the seed.

Workers in the field do not deliver as they should: queues deliver twice and out of order, a worker that was thought
dead reports after all, a platform hands out a new id for the same attempt. Each `Disturbance` is one such thing,
written down as the deliveries that it makes of one and what each of them must end in. That is stated here from the
service's promises, not asked of its code: a replay is a check of both.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from local.trace import Moment, Trace, TraceMoment, TraceTask

MAX_BATCH: Final = 100
NEVER_OPENED_ATTEMPT: Final = 99
"""More than any retry policy here allows."""

_SHARE_OF_SINGLES: Final = 0.4
_BATCH_WINDOW_SECONDS: Final = 10.0
_LONG_SECONDS: Final = 30.0
_HEARTBEATS: Final = (1 / 3, 2 / 3)


class End(StrEnum):
    """What a delivery ends in."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    IGNORED_AFTER_SUCCESS = "ignored_after_success"
    REFUSED = "refused"
    GO_ON = "go_on"
    STOP = "stop"


class Disturbance(StrEnum):
    """What can go wrong with the delivery of a start or of a success."""

    START_TWICE = "a start delivered twice"
    START_AFTER_SUCCESS = "a start that arrives after the success"
    START_WITHOUT_ATTEMPT = "a start that names no attempt"
    START_OF_ANOTHER_TASK = "a start with the id of another task's attempt"
    START_OF_UNKNOWN_ATTEMPT = "a start of an attempt that was never opened"
    SUCCESS_TWICE = "a success delivered twice"
    SUCCESS_UNDER_NEW_ID = "a success delivered again under another id"
    FAILURE_AFTER_SUCCESS = "a late failure of the same attempt"
    FAILURE_BY_ID_AFTER_SUCCESS = "a late failure by the attempt's id"
    FAILURE_WITHOUT_ATTEMPT_AFTER_SUCCESS = "a late failure that names no attempt"
    TERMINAL_ERROR_AFTER_SUCCESS = "a late terminal error"
    SUCCESS_AFTER_FAILURE = "a success after a failure told with two reasons"
    SUCCESS_AFTER_TERMINAL_ERROR = "a success after a failure, a terminal error and a late start"
    HEARTBEAT_AFTER_SUCCESS = "a heartbeat after the success"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing said of one attempt.

    Attributes
    ----------
    at
        When it is due, in seconds of the trace.
    said
        The body, without what names the attempt's id.
    id_of
        The task whose current `taskExecutionId` is passed along; None for none.
    end
        What it must end in.
    disturbance
        What went wrong on its way; None where nothing did.
    """

    at: float
    task_id: str
    said: dict[str, Any]
    end: End
    id_of: str | None = None
    disturbance: Disturbance | None = None

    @property
    def is_heartbeat(self) -> bool:
        """Whether it is a heartbeat, and not a report."""
        return self.end in (End.GO_ON, End.STOP)


@dataclass(frozen=True, slots=True)
class Sending:
    """One request: a report, a heartbeat, or a batch of reports.

    Attributes
    ----------
    number
        Its place in the plan.
    after
        The numbers of those that must be answered before it is sent.
    """

    number: int
    deliveries: tuple[Delivery, ...]
    after: frozenset[int]

    @property
    def at(self) -> float:
        """When it is due, in seconds of the trace: with its last delivery."""
        return self.deliveries[-1].at


@dataclass(frozen=True)
class Plan:
    """All that is sent, in order, none before what it must follow."""

    trace: Trace
    sendings: tuple[Sending, ...]
    disturbed: int = field(default=0)

    @property
    def deliveries(self) -> Iterator[Delivery]:
        """Each delivery, in order."""
        for sending in self.sendings:
            yield from sending.deliveries


def make_plan(trace: Trace, *, chaos: float = 0.0, seed: int = 0) -> Plan:
    """Plan the deliveries of a trace: the same arguments always make the same plan.

    Parameters
    ----------
    chaos
        The share of starts and successes, 0 to 1, whose delivery is disturbed.

    Raises
    ------
    ValueError
        If chaos is out of range.
    """
    if not 0 <= chaos <= 1:
        raise ValueError(f"CHAOS is the share of deliveries that are disturbed, from 0 to 1, not {chaos:g}")
    disturbed = _choose(trace, chaos, random.Random(f"disturbances {seed}"))  # noqa: S311 - to be repeated
    deliveries = list(_deliveries(trace, disturbed, seed))
    batches = _batched(trace, deliveries, random.Random(f"batches {seed}"))  # noqa: S311 - to be repeated
    return Plan(trace, tuple(_sendings(trace, batches)), len(disturbed))


def success(task: TraceTask, at: float) -> Delivery:
    """The success of a task as its worker reports it."""
    said = {
        "status": "COMPLETED",
        "attempt": 1,
        "output": output_of(task),
    }
    return Delivery(at, task.task_id, said, End.APPLIED)


def start(task: TraceTask, at: float) -> Delivery:
    """The start of a task as its worker reports it."""
    return Delivery(at, task.task_id, {"status": "IN_PROGRESS", "attempt": 1}, End.APPLIED)


def output_of(task: TraceTask) -> dict[str, Any]:
    """What the service must show as the output of a task that is done."""
    return {"runtimeInSeconds": task.runtime_seconds}


@dataclass(frozen=True, slots=True)
class _Scene:
    """What a disturbance may need to know."""

    other_task: str
    new_id: str


def _failure(delivery: Delivery, end: End, *, status: str = "FAILED", **said: Any) -> Delivery:
    return replace(delivery, said={"status": status, **said}, end=end)


def _start_twice(start: Delivery, _: _Scene) -> list[Delivery]:
    return [start, replace(start, end=End.DUPLICATE)]


def _start_without_attempt(start: Delivery, _: _Scene) -> list[Delivery]:
    return [replace(start, said={"status": "IN_PROGRESS"})]


def _start_of_another_task(start: Delivery, scene: _Scene) -> list[Delivery]:
    stray = replace(start, said={"status": "IN_PROGRESS"}, id_of=scene.other_task, end=End.REFUSED)
    return [stray, start]


def _start_of_unknown_attempt(start: Delivery, _: _Scene) -> list[Delivery]:
    said = {"status": "IN_PROGRESS", "attempt": NEVER_OPENED_ATTEMPT}
    return [replace(start, said=said, end=End.REFUSED), start]


def _start_after_success(_: Delivery, __: _Scene) -> list[Delivery]:
    return []  # it comes with the finish: see `_deliveries`


def _success_twice(success: Delivery, _: _Scene) -> list[Delivery]:
    return [success, replace(success, end=End.DUPLICATE)]


def _success_under_new_id(success: Delivery, scene: _Scene) -> list[Delivery]:
    said = {name: value for name, value in success.said.items() if name != "attempt"}
    return [success, replace(success, said={**said, "taskExecutionId": scene.new_id}, end=End.DUPLICATE)]


def _failure_after_success(success: Delivery, _: _Scene) -> list[Delivery]:
    message = "the lease ran out before the answer arrived"
    return [success, _failure(success, End.IGNORED_AFTER_SUCCESS, attempt=1, message=message)]


def _failure_by_id_after_success(success: Delivery, _: _Scene) -> list[Delivery]:
    late = _failure(success, End.IGNORED_AFTER_SUCCESS, failureReason="RATE_LIMITED")
    return [success, replace(late, id_of=success.task_id)]


def _failure_without_attempt_after_success(success: Delivery, _: _Scene) -> list[Delivery]:
    return [success, _failure(success, End.IGNORED_AFTER_SUCCESS, failureReason="RETRYABLE_ERROR")]


def _terminal_error_after_success(success: Delivery, _: _Scene) -> list[Delivery]:
    # The same twice: it is ignored twice, and kept once.
    late = _failure(success, End.IGNORED_AFTER_SUCCESS, status="FAILED_WITH_TERMINAL_ERROR", attempt=1)
    return [success, late, late]


def _success_after_failure(success: Delivery, _: _Scene) -> list[Delivery]:
    first = _failure(success, End.APPLIED, attempt=1, failureReason="RETRYABLE_ERROR")
    again = _failure(success, End.DUPLICATE, attempt=1, failureReason="RATE_LIMITED")
    return [first, again, success]


def _success_after_terminal_error(success: Delivery, _: _Scene) -> list[Delivery]:
    failed = _failure(success, End.APPLIED, attempt=1)
    terminal = _failure(success, End.APPLIED, attempt=1, failureReason="ENTITY_NOT_FOUND")
    late_start = replace(success, said={"status": "IN_PROGRESS", "attempt": 1}, end=End.DUPLICATE)
    return [failed, terminal, late_start, success]


def _heartbeat_after_success(success: Delivery, _: _Scene) -> list[Delivery]:
    return [success, replace(success, said={"attempt": 1, "progress": 1}, end=End.STOP)]


_Disturb = Callable[[Delivery, _Scene], list[Delivery]]

DISTURBANCES: Final[dict[Moment, dict[Disturbance, _Disturb]]] = {
    Moment.START: {
        Disturbance.START_TWICE: _start_twice,
        Disturbance.START_AFTER_SUCCESS: _start_after_success,
        Disturbance.START_WITHOUT_ATTEMPT: _start_without_attempt,
        Disturbance.START_OF_ANOTHER_TASK: _start_of_another_task,
        Disturbance.START_OF_UNKNOWN_ATTEMPT: _start_of_unknown_attempt,
    },
    Moment.FINISH: {
        Disturbance.FAILURE_AFTER_SUCCESS: _failure_after_success,
        Disturbance.SUCCESS_TWICE: _success_twice,
        Disturbance.SUCCESS_AFTER_FAILURE: _success_after_failure,
        Disturbance.SUCCESS_UNDER_NEW_ID: _success_under_new_id,
        Disturbance.FAILURE_BY_ID_AFTER_SUCCESS: _failure_by_id_after_success,
        Disturbance.SUCCESS_AFTER_TERMINAL_ERROR: _success_after_terminal_error,
        Disturbance.TERMINAL_ERROR_AFTER_SUCCESS: _terminal_error_after_success,
        Disturbance.FAILURE_WITHOUT_ATTEMPT_AFTER_SUCCESS: _failure_without_attempt_after_success,
        Disturbance.HEARTBEAT_AFTER_SUCCESS: _heartbeat_after_success,
    },
}
"""What each disturbance makes of a start or of a success, and what each of the deliveries must end in."""

_Chosen = dict[tuple[str, Moment], Disturbance]


def _choose(trace: Trace, chaos: float, rng: random.Random) -> _Chosen:
    """Choose what is disturbed, and how: of each kind as many as of any other, or one less."""
    keys = [(one.task.task_id, one.moment) for one in trace.moments]
    hit = set(rng.sample(keys, round(chaos * len(keys))))
    chosen: _Chosen = {}
    for moment, kinds in DISTURBANCES.items():
        names = [kind for kind in kinds if len(trace.tasks) > 1 or kind is not Disturbance.START_OF_ANOTHER_TASK]
        keys_of_moment = [key for key in keys if key in hit and key[1] is moment]
        for place, key in enumerate(keys_of_moment):
            chosen[key] = names[place % len(names)]
    return chosen


def _deliveries(trace: Trace, disturbed: _Chosen, seed: int) -> Iterator[Delivery]:
    rng = random.Random(f"details {seed}")  # noqa: S311 - to be repeated
    names = [task.task_id for task in trace.tasks]
    due: list[TraceMoment | _SignOfLife] = [*trace.moments, *_signs_of_life(trace)]
    for one in sorted(due, key=lambda moment: moment.at):
        task = one.task
        if isinstance(one, _SignOfLife):
            yield Delivery(one.at, task.task_id, {"attempt": 1, "progress": one.progress}, End.GO_ON)
            continue
        others = [name for name in names if name != task.task_id]
        scene = _Scene(rng.choice(others) if others else "", str(UUID(int=rng.getrandbits(128), version=4)))
        regular = start(task, one.at) if one.moment is Moment.START else success(task, one.at)
        kind = disturbed.get((task.task_id, one.moment))
        if kind is None:
            yield regular
        else:
            for delivery in DISTURBANCES[one.moment][kind](regular, scene):
                yield replace(delivery, disturbance=kind)
        start_kind = disturbed.get((task.task_id, Moment.START))
        if one.moment is Moment.FINISH and start_kind is Disturbance.START_AFTER_SUCCESS:
            late = start(task, one.at)
            yield replace(late, end=End.IGNORED_AFTER_SUCCESS, disturbance=start_kind)


@dataclass(frozen=True, slots=True)
class _SignOfLife:
    """A moment at which a task that takes long says that it is alive."""

    at: float
    task: TraceTask
    progress: float


def _signs_of_life(trace: Trace) -> Iterator[_SignOfLife]:
    for task in trace.tasks:
        if task.runtime_seconds >= _LONG_SECONDS:
            for share in _HEARTBEATS:
                yield _SignOfLife(task.starts_at + share * task.runtime_seconds, task, round(share, 2))


def _batched(trace: Trace, deliveries: Sequence[Delivery], rng: random.Random) -> Iterator[tuple[Delivery, ...]]:
    """Cut the deliveries into requests: some alone, some in batches, and never out of order."""
    parents = {task.task_id: set(task.parents) for task in trace.tasks}
    batch: list[Delivery] = []
    room = 0
    for delivery in deliveries:
        names = {one.task_id for one in batch}
        fits = (
            len(batch) < room
            and not delivery.is_heartbeat
            and delivery.at - batch[0].at <= _BATCH_WINDOW_SECONDS
            and not parents[delivery.task_id] & names
        )
        if batch and not fits:
            yield tuple(batch)
            batch = []
        if not batch:
            alone = delivery.is_heartbeat or rng.random() < _SHARE_OF_SINGLES
            room = 1 if alone else rng.randint(2, MAX_BATCH)
        batch.append(delivery)
    if batch:
        yield tuple(batch)


def _sendings(trace: Trace, batches: Iterable[tuple[Delivery, ...]]) -> Iterator[Sending]:
    """Say what must be answered before what: the task's own earlier deliveries, and its parents'."""
    parents = {task.task_id: task.parents for task in trace.tasks}
    latest: dict[str, int] = {}
    for number, batch in enumerate(batches):
        names = {delivery.task_id for delivery in batch}
        before = {latest[name] for task_id in names for name in (task_id, *parents[task_id]) if name in latest}
        yield Sending(number, batch, frozenset(before))
        latest.update(dict.fromkeys(names, number))


def count_kinds(plan: Plan) -> dict[Disturbance, int]:
    """How many deliveries each disturbance made, in the order of `Disturbance`."""
    counts: dict[Disturbance, int] = defaultdict(int)
    for delivery in plan.deliveries:
        if delivery.disturbance is not None:
            counts[delivery.disturbance] += 1
    return {kind: counts[kind] for kind in Disturbance if counts[kind]}
