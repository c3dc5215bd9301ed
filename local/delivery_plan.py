"""What the workers of a replay do: a pure function of the trace, the share of chaos and the seed.

Workers in the field do not do as they should: they fail, are killed, and what they say is delivered twice, late and
out of order. A `Trouble` is one way in which the work on a task goes wrong, a `Disturbance` one way in which the
delivery of a start or of a success does. Both are written down as what is said in each attempt, and what each of it
must end in. That is stated here from the service's promises, not asked of its code: a replay is a check of both.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from local.trace import Trace, TraceTask

NEVER_OPENED_ATTEMPT: Final = 99
"""More than any retry policy here allows."""

MAX_ATTEMPTS: Final = 4
"""How often a task may be tried, unless its retries are to be spent."""

_SPENT_ATTEMPTS: Final = 2
_MAX_BATCH: Final = 100
_SHARE_OF_SINGLES: Final = 0.6
_LONG_SECONDS: Final = 30.0
_HEARTBEATS: Final = (0.33, 0.67)
_PATIENCE_SECONDS: Final = 2
_ASKED_SECONDS: Final = 2
_FAR_AWAY_SECONDS: Final = 60
"""A retry that far away is still pending when the next thing is said."""

_SHARE_OF_FAILED: Final = 0.2


class End(StrEnum):
    """What a delivery ends in."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    IGNORED_AFTER_SUCCESS = "ignored_after_success"
    STALE_ATTEMPT = "stale_attempt"
    SEALED = "sealed"
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
    SUCCESS_WHILE_RETRY_IS_PENDING = "a success while a retry is pending"
    HEARTBEAT_AFTER_SUCCESS = "a heartbeat after the success"


class Trouble(StrEnum):
    """What can go wrong with the work on a task."""

    FAILS = "fails, and is retried"
    FAILS_WITHOUT_REASON = "fails without a reason, and is retried"
    IS_LIMITED = "is rate limited, and retried when it asked for"
    FAILS_TWICE = "fails twice, and is retried twice"
    IS_KILLED_BEFORE_ITS_START = "its worker is killed before it says anything"
    IS_KILLED_AT_WORK = "its worker is killed at work"
    FAILS_AGAIN_TOO_LATE = "the first attempt fails again, once the second is open"
    REPEATS_ITS_FAILURE = "the first attempt's failure is repeated, once the second is open"
    SUCCEEDS_AFTER_ALL = "the first attempt succeeds after all, once the second is open"
    SPENDS_ITS_RETRIES = "fails until its retries are spent; the execution goes on"
    CALLS_IT_TERMINAL = "calls its error terminal; the execution goes on"
    ENTITY_NOT_FOUND = "ENTITY_NOT_FOUND; the execution goes on"
    RETRY_LIMIT_EXCEEDED = "RETRY_LIMIT_EXCEEDED; the execution goes on"
    NON_RETRYABLE_ERROR = "NON_RETRYABLE_ERROR; the execution goes on"
    UNAUTHORIZED = "UNAUTHORIZED; the execution goes on"
    AUTH_TOKEN_EXPIRED = "AUTH_TOKEN_EXPIRED; the execution goes on"  # noqa: S105 - a reason's name
    AUTH_TOKEN_REVOKED = "AUTH_TOKEN_REVOKED; the execution goes on"  # noqa: S105 - a reason's name
    FATAL = "a terminal error that ends the execution"


TERMINAL_REASONS: Final = tuple(trouble.name for trouble in Trouble if trouble.name in trouble.value)
"""The reasons after which there is no retry."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing said of one attempt.

    Attributes
    ----------
    said
        The body, without the attempt's id.
    end
        What it must end in.
    share
        When it is due: the share of the task's running time that has passed since its attempt was taken.
    attempt
        The attempt that it speaks of; None where it names none that the service would know.
    id_of
        The task and the attempt whose `taskExecutionId` is passed along; None for none.
    will_retry
        Whether the answer must say that another attempt follows; None where it says nothing of it.
    """

    task_id: str
    said: dict[str, Any]
    end: End
    share: float = 0.0
    attempt: int | None = None
    id_of: tuple[str, int] | None = None
    will_retry: bool | None = None
    disturbance: Disturbance | None = None

    @property
    def is_heartbeat(self) -> bool:
        """Whether it is a heartbeat, and not a report."""
        return "status" not in self.said


Request = tuple[Delivery, ...]
"""A report, a heartbeat, or a batch of reports."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the worker does that takes one attempt from the queue.

    Attributes
    ----------
    requests
        What is sent, in order.
    is_killed
        Whether the worker is dead after that: it neither reports nor gives the message back.
    """

    requests: tuple[Request, ...]
    is_killed: bool = False


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What a task goes through.

    Attributes
    ----------
    attempts
        The first, the second and so on.
    ends
        The status in which the service must leave it, where the execution is not ended before.
    goes_on
        Whether its execution goes on when the task gives up.
    timeout_seconds, heartbeat_timeout_seconds
        How long it may be silent, besides its running time; None for ever. Only where a worker is killed: on a slow
        machine an honest worker may be slow too.
    """

    task: TraceTask
    attempts: tuple[Attempt, ...]
    ends: str = "COMPLETED"
    goes_on: bool = False
    max_attempts: int = MAX_ATTEMPTS
    timeout_seconds: int | None = None
    heartbeat_timeout_seconds: int | None = None
    trouble: Trouble | None = None

    @property
    def timed_out(self) -> set[int]:
        """The attempts whose workers are killed."""
        return {number for number, attempt in enumerate(self.attempts, 1) if attempt.is_killed}

    @property
    def may_be_timed_out(self) -> bool:
        """Whether the service may give up a worker, also one that is only slow."""
        return self.timeout_seconds is not None or self.heartbeat_timeout_seconds is not None

    @property
    def deliveries(self) -> Iterator[Delivery]:
        """Each delivery, in order."""
        for attempt in self.attempts:
            for request in attempt.requests:
                yield from request


@dataclass(frozen=True)
class Plan:
    """What all tasks go through, and how the execution must end.

    Attributes
    ----------
    fatal
        The task whose failure ends the execution; None where it must end COMPLETED.
    """

    trace: Trace
    tasks: tuple[TaskPlan, ...]
    fatal: str | None = None
    disturbed: int = field(default=0)

    @property
    def ends(self) -> str:
        """The status in which the service must leave the execution."""
        return "COMPLETED" if self.fatal is None else "FAILED"

    @property
    def troubled(self) -> int:
        """How many tasks do not go well at once."""
        return sum(one.trouble is not None for one in self.tasks)

    @property
    def deliveries(self) -> Iterator[Delivery]:
        """Each delivery, task by task."""
        for one in self.tasks:
            yield from one.deliveries


def make_plan(trace: Trace, *, chaos: float = 0.0, seed: int = 0, ends: str | None = None) -> Plan:
    """Plan what workers do: the same arguments always make the same plan.

    Parameters
    ----------
    chaos
        The share of tasks, 0 to 1, whose work goes wrong; and of starts and successes whose delivery is disturbed.
    ends
        How the execution must end, COMPLETED or FAILED. None leaves it to the seed: where there is chaos, one in five
        ends FAILED.

    Raises
    ------
    ValueError
        If chaos or ends is out of range.
    """
    if not 0 <= chaos <= 1:
        raise ValueError(f"CHAOS is the share of what goes wrong, from 0 to 1, not {chaos:g}")
    if ends not in (None, "COMPLETED", "FAILED"):
        raise ValueError(f"EXPECT is COMPLETED or FAILED, not {ends}")
    fatal = _choose_fatal(trace, chaos, ends, _draws("end", seed))
    troubles = _choose_troubles(trace, chaos, fatal, _draws("troubles", seed))
    disturbed = _choose_disturbances(trace, chaos, troubles, _draws("disturbances", seed))
    draws = _draws("details", seed)
    names = [task.task_id for task in trace.tasks]
    tasks = []
    for task in trace.tasks:
        others = [name for name in names if name != task.task_id]
        scene = _Scene(
            other_task=draws.choice(others) if others else "",
            new_id=str(UUID(int=draws.getrandbits(128), version=4)),
            start=disturbed.get((task.task_id, _START)),
            success=disturbed.get((task.task_id, _SUCCESS)),
            reason=draws.choice(TERMINAL_REASONS),
        )
        planned = _plan_task(task, troubles.get(task.task_id), scene)
        attempts = (replace(one, requests=tuple(_batched(one.requests, draws))) for one in planned.attempts)
        tasks.append(replace(planned, attempts=tuple(attempts)))
    return Plan(trace, tuple(tasks), fatal, len(disturbed))


def honest_attempt(task: TraceTask, attempt: int) -> Attempt:
    """What a worker does with which nothing goes wrong."""
    return _honest(task, attempt, _Scene())


def output_of(task: TraceTask) -> dict[str, Any]:
    """What the service must show as the output of a task that is done."""
    return {"runtimeInSeconds": task.runtime_seconds}


@dataclass(frozen=True, slots=True)
class _Scene:
    """What of a task the seed decides."""

    other_task: str = ""
    new_id: str = ""
    start: Disturbance | None = None
    success: Disturbance | None = None
    reason: str = ""


# --------------------------------------------------------------------------------------------- what is said


def _start(task: TraceTask, attempt: int) -> Delivery:
    said = {"status": "IN_PROGRESS"}
    return Delivery(task.task_id, said, End.APPLIED, attempt=attempt, id_of=(task.task_id, attempt))


def _success(task: TraceTask, attempt: int, share: float = 1.0) -> Delivery:
    said = {"status": "COMPLETED", "output": output_of(task)}
    return Delivery(task.task_id, said, End.APPLIED, share, attempt, (task.task_id, attempt))


def _failure(
    of: Delivery, end: End, *, status: str = "FAILED", will_retry: bool | None = None, **said: Any
) -> Delivery:
    """A failure of the attempt that another delivery speaks of, said in the same breath."""
    return replace(of, said={"status": status, **said}, end=end, will_retry=will_retry)


def _numbered(delivery: Delivery) -> Delivery:
    """Named by its number, not by its id."""
    return replace(delivery, said={**delivery.said, "attempt": delivery.attempt}, id_of=None)


def _unnamed(delivery: Delivery) -> Delivery:
    """Without a word about the attempt; the service takes it for the current one."""
    return replace(delivery, id_of=None)


def _start_twice(start: Delivery, _: _Scene) -> list[Delivery]:
    return [start, replace(_numbered(start), end=End.DUPLICATE)]


def _start_without_attempt(start: Delivery, _: _Scene) -> list[Delivery]:
    return [_unnamed(start)]


def _start_of_another_task(start: Delivery, scene: _Scene) -> list[Delivery]:
    return [replace(start, id_of=(scene.other_task, 1), end=End.REFUSED), start]


def _start_of_unknown_attempt(start: Delivery, _: _Scene) -> list[Delivery]:
    return [replace(_numbered(replace(start, attempt=NEVER_OPENED_ATTEMPT)), end=End.REFUSED), start]


def _start_after_success(_: Delivery, __: _Scene) -> list[Delivery]:
    return []  # it comes after the success: see `_honest`


def _success_twice(success: Delivery, _: _Scene) -> list[Delivery]:
    return [success, replace(_numbered(success), end=End.DUPLICATE)]


def _success_under_new_id(success: Delivery, scene: _Scene) -> list[Delivery]:
    said = {**success.said, "taskExecutionId": scene.new_id}
    return [success, replace(success, said=said, end=End.DUPLICATE, attempt=None, id_of=None)]


def _failure_after_success(success: Delivery, _: _Scene) -> list[Delivery]:
    message = "the lease ran out before the answer arrived"
    return [success, _numbered(_failure(success, End.IGNORED_AFTER_SUCCESS, message=message))]


def _failure_by_id_after_success(success: Delivery, _: _Scene) -> list[Delivery]:
    return [success, _failure(success, End.IGNORED_AFTER_SUCCESS, failureReason="RATE_LIMITED")]


def _failure_without_attempt_after_success(success: Delivery, _: _Scene) -> list[Delivery]:
    late = _failure(success, End.IGNORED_AFTER_SUCCESS, failureReason="RETRYABLE_ERROR")
    return [success, replace(_unnamed(late), attempt=None)]


def _terminal_error_after_success(success: Delivery, _: _Scene) -> list[Delivery]:
    # The same twice: it is ignored twice, and kept once.
    late = _failure(success, End.IGNORED_AFTER_SUCCESS, status="FAILED_WITH_TERMINAL_ERROR")
    return [success, late, late]


def _success_while_retry_is_pending(success: Delivery, _: _Scene) -> list[Delivery]:
    asked: dict[str, Any] = {"failureReason": "RETRYABLE_ERROR", "retryAfterSeconds": _FAR_AWAY_SECONDS}
    first = _failure(success, End.APPLIED, will_retry=True, **asked)
    again = _failure(success, End.DUPLICATE, failureReason="RATE_LIMITED")
    return [first, again, success]


def _heartbeat_after_success(success: Delivery, _: _Scene) -> list[Delivery]:
    return [success, replace(success, said={"progress": 1}, end=End.STOP)]


_Disturb = Callable[[Delivery, _Scene], list[Delivery]]

DISTURBED_STARTS: Final[dict[Disturbance, _Disturb]] = {
    Disturbance.START_TWICE: _start_twice,
    Disturbance.START_AFTER_SUCCESS: _start_after_success,
    Disturbance.START_WITHOUT_ATTEMPT: _start_without_attempt,
    Disturbance.START_OF_ANOTHER_TASK: _start_of_another_task,
    Disturbance.START_OF_UNKNOWN_ATTEMPT: _start_of_unknown_attempt,
}
"""What each disturbance makes of a start, and what each of the deliveries must end in."""

DISTURBED_SUCCESSES: Final[dict[Disturbance, _Disturb]] = {
    Disturbance.FAILURE_AFTER_SUCCESS: _failure_after_success,
    Disturbance.SUCCESS_TWICE: _success_twice,
    Disturbance.SUCCESS_WHILE_RETRY_IS_PENDING: _success_while_retry_is_pending,
    Disturbance.SUCCESS_UNDER_NEW_ID: _success_under_new_id,
    Disturbance.FAILURE_BY_ID_AFTER_SUCCESS: _failure_by_id_after_success,
    Disturbance.TERMINAL_ERROR_AFTER_SUCCESS: _terminal_error_after_success,
    Disturbance.FAILURE_WITHOUT_ATTEMPT_AFTER_SUCCESS: _failure_without_attempt_after_success,
    Disturbance.HEARTBEAT_AFTER_SUCCESS: _heartbeat_after_success,
}
"""The same of a success."""


# --------------------------------------------------------------------------------------------- what is done


def _each(*deliveries: Delivery) -> tuple[Request, ...]:
    return tuple((delivery,) for delivery in deliveries)


def _honest(task: TraceTask, attempt: int, scene: _Scene) -> Attempt:
    """An attempt that succeeds, its start and its success disturbed as the scene says."""
    start, success = [_start(task, attempt)], [_success(task, attempt)]
    if scene.start is not None:
        start = [replace(one, disturbance=scene.start) for one in DISTURBED_STARTS[scene.start](start[0], scene)]
    if scene.success is not None:
        disturbed = DISTURBED_SUCCESSES[scene.success](success[0], scene)
        success = [replace(one, disturbance=scene.success) for one in disturbed]
    if scene.start is Disturbance.START_AFTER_SUCCESS:
        late = replace(_start(task, attempt), end=End.IGNORED_AFTER_SUCCESS, share=1.0, disturbance=scene.start)
        success.append(late)
    return Attempt(_each(*start, *_signs_of_life(task, attempt), *success))


def _signs_of_life(task: TraceTask, attempt: int) -> Iterator[Delivery]:
    if task.runtime_seconds >= _LONG_SECONDS:
        for share in _HEARTBEATS:
            named = (task.task_id, attempt)
            yield Delivery(task.task_id, {"progress": share}, End.GO_ON, share, attempt, named)


def _failing(task: TraceTask, attempt: int, *, will_retry: bool = True, status: str = "FAILED", **said: Any) -> Attempt:
    """An attempt that begins and fails, half way through."""
    begun = _start(task, attempt)
    failed = _failure(begun, End.APPLIED, status=status, will_retry=will_retry, **said)
    return Attempt(_each(begun, replace(failed, share=0.5)))


def _after(said_first: Sequence[Delivery], attempt: Attempt) -> Attempt:
    return replace(attempt, requests=(*_each(*said_first), *attempt.requests))


def _plan_task(task: TraceTask, trouble: Trouble | None, scene: _Scene) -> TaskPlan:
    if trouble is None:
        return TaskPlan(task, (_honest(task, 1, scene),))
    plan = _TROUBLES[trouble](task, scene)
    return replace(plan, trouble=trouble)


def _fails(task: TraceTask, scene: _Scene) -> TaskPlan:
    return TaskPlan(task, (_failing(task, 1, failureReason="RETRYABLE_ERROR"), _honest(task, 2, scene)))


def _fails_without_reason(task: TraceTask, scene: _Scene) -> TaskPlan:
    return TaskPlan(task, (_failing(task, 1, message="it just stopped"), _honest(task, 2, scene)))


def _is_limited(task: TraceTask, scene: _Scene) -> TaskPlan:
    asked: dict[str, Any] = {"failureReason": "RATE_LIMITED", "retryAfterSeconds": _ASKED_SECONDS}
    return TaskPlan(task, (_failing(task, 1, **asked), _honest(task, 2, scene)))


def _fails_twice(task: TraceTask, scene: _Scene) -> TaskPlan:
    failing = (
        _failing(task, 1, failureReason="RETRYABLE_ERROR"),
        _failing(task, 2, failureReason="RATE_LIMITED"),
    )
    return TaskPlan(task, (*failing, _honest(task, 3, scene)))


def _is_killed_before_its_start(task: TraceTask, scene: _Scene) -> TaskPlan:
    killed = Attempt((), is_killed=True)
    return TaskPlan(task, (killed, _honest(task, 2, scene)), timeout_seconds=_PATIENCE_SECONDS)


def _is_killed_at_work(task: TraceTask, scene: _Scene) -> TaskPlan:
    killed = Attempt(_each(_start(task, 1)), is_killed=True)
    return TaskPlan(task, (killed, _honest(task, 2, scene)), heartbeat_timeout_seconds=_PATIENCE_SECONDS)


def _fails_again_too_late(task: TraceTask, scene: _Scene) -> TaskPlan:
    late = _failure(_start(task, 1), End.STALE_ATTEMPT, failureReason="NON_RETRYABLE_ERROR", message="gave up at last")
    first = _failing(task, 1, failureReason="RETRYABLE_ERROR")
    return TaskPlan(task, (first, _after([late], _honest(task, 2, scene))))


def _repeats_its_failure(task: TraceTask, scene: _Scene) -> TaskPlan:
    first = _failing(task, 1, failureReason="RETRYABLE_ERROR")
    again = _failure(_start(task, 1), End.DUPLICATE, failureReason="RETRYABLE_ERROR")
    return TaskPlan(task, (first, _after([again], _honest(task, 2, scene))))


def _succeeds_after_all(task: TraceTask, _: _Scene) -> TaskPlan:
    second = (
        _success(task, 1, share=0.0),
        replace(_start(task, 2), end=End.IGNORED_AFTER_SUCCESS),
        Delivery(task.task_id, {"progress": 0}, End.STOP, attempt=2, id_of=(task.task_id, 2)),
    )
    return TaskPlan(task, (_failing(task, 1, failureReason="RETRYABLE_ERROR"), Attempt(_each(*second))))


def _spends_its_retries(task: TraceTask, _: _Scene) -> TaskPlan:
    failing = (
        _failing(task, 1, failureReason="RETRYABLE_ERROR"),
        _failing(task, 2, failureReason="RETRYABLE_ERROR", will_retry=False),
    )
    return TaskPlan(task, failing, "COMPLETED_WITH_ERRORS", goes_on=True, max_attempts=_SPENT_ATTEMPTS)


def _calls_it_terminal(task: TraceTask, _: _Scene) -> TaskPlan:
    failing = _failing(task, 1, status="FAILED_WITH_TERMINAL_ERROR", will_retry=False)
    return TaskPlan(task, (failing,), "COMPLETED_WITH_ERRORS", goes_on=True)


def _gives_up(reason: str) -> Callable[[TraceTask, _Scene], TaskPlan]:
    def plan(task: TraceTask, _: _Scene) -> TaskPlan:
        failing = _failing(task, 1, failureReason=reason, will_retry=False)
        return TaskPlan(task, (failing,), "COMPLETED_WITH_ERRORS", goes_on=True)

    return plan


def _is_fatal(task: TraceTask, scene: _Scene) -> TaskPlan:
    failing = _failing(task, 1, failureReason=scene.reason, will_retry=False)
    return TaskPlan(task, (failing,), "FAILED_WITH_TERMINAL_ERROR")


_TROUBLES: Final[dict[Trouble, Callable[[TraceTask, _Scene], TaskPlan]]] = {
    Trouble.FAILS: _fails,
    Trouble.FAILS_WITHOUT_REASON: _fails_without_reason,
    Trouble.IS_LIMITED: _is_limited,
    Trouble.FAILS_TWICE: _fails_twice,
    Trouble.IS_KILLED_BEFORE_ITS_START: _is_killed_before_its_start,
    Trouble.IS_KILLED_AT_WORK: _is_killed_at_work,
    Trouble.FAILS_AGAIN_TOO_LATE: _fails_again_too_late,
    Trouble.REPEATS_ITS_FAILURE: _repeats_its_failure,
    Trouble.SUCCEEDS_AFTER_ALL: _succeeds_after_all,
    Trouble.SPENDS_ITS_RETRIES: _spends_its_retries,
    Trouble.CALLS_IT_TERMINAL: _calls_it_terminal,
    **{Trouble[reason]: _gives_up(reason) for reason in TERMINAL_REASONS},
    Trouble.FATAL: _is_fatal,
}

_WITHOUT_SUCCESS: Final = frozenset(
    {
        Trouble.SUCCEEDS_AFTER_ALL,
        Trouble.SPENDS_ITS_RETRIES,
        Trouble.CALLS_IT_TERMINAL,
        *(Trouble[reason] for reason in TERMINAL_REASONS),
        Trouble.FATAL,
    }
)
"""Where the current attempt does not succeed, there is no start and no success of it to disturb."""


# --------------------------------------------------------------------------------------------- what the seed decides

_START: Final = "start"
_SUCCESS: Final = "success"


def _draws(what: str, seed: int) -> random.Random:
    return random.Random(f"{what} {seed}")  # noqa: S311 - to be repeated


def _choose_fatal(trace: Trace, chaos: float, ends: str | None, draws: random.Random) -> str | None:
    """Choose the task that ends the execution, rather a later one, if any does."""
    seeded = draws.random() < _SHARE_OF_FAILED and chaos > 0
    if ends == "COMPLETED" or (ends is None and not seeded):
        return None
    return draws.choice(trace.tasks[len(trace.tasks) // 2 :]).task_id


def _choose_troubles(trace: Trace, chaos: float, fatal: str | None, draws: random.Random) -> dict[str, Trouble]:
    """Choose which tasks do not go well, and how: of each kind as many as of any other, or one less."""
    names = [task.task_id for task in trace.tasks]
    kinds = [trouble for trouble in Trouble if trouble is not Trouble.FATAL]
    draws.shuffle(kinds)
    hit = draws.sample(names, round(chaos * len(names)))
    chosen: dict[str, Trouble] = {name: kinds[place % len(kinds)] for place, name in enumerate(hit)}
    return chosen if fatal is None else {**chosen, fatal: Trouble.FATAL}


_Chosen = dict[tuple[str, str], Disturbance]


def _choose_disturbances(trace: Trace, chaos: float, troubles: dict[str, Trouble], draws: random.Random) -> _Chosen:
    """Choose what is disturbed of the attempts that succeed, and how: of each kind about as many."""
    chosen: _Chosen = {}
    for moment, kinds in ((_START, list(DISTURBED_STARTS)), (_SUCCESS, list(DISTURBED_SUCCESSES))):
        possible = [task.task_id for task in trace.tasks if troubles.get(task.task_id) not in _WITHOUT_SUCCESS]
        if len(trace.tasks) == 1 and Disturbance.START_OF_ANOTHER_TASK in kinds:
            kinds.remove(Disturbance.START_OF_ANOTHER_TASK)
        draws.shuffle(kinds)
        hit = draws.sample(possible, round(chaos * len(possible)))
        chosen |= {(name, moment): kinds[place % len(kinds)] for place, name in enumerate(hit)}
    return chosen


def _batched(requests: Sequence[Request], draws: random.Random) -> Iterator[Request]:
    """Put some of what is due at the same time into one request; heartbeats go alone."""
    batch: list[Delivery] = []
    for delivery in (delivery for request in requests for delivery in request):
        fits = (
            bool(batch)
            and batch[0].share == delivery.share
            and not delivery.is_heartbeat
            and not batch[0].is_heartbeat
            and len(batch) < _MAX_BATCH
            and draws.random() >= _SHARE_OF_SINGLES
        )
        if batch and not fits:
            yield tuple(batch)
            batch = []
        batch.append(delivery)
    if batch:
        yield tuple(batch)


def count_kinds(plan: Plan) -> dict[str, int]:
    """How many deliveries each disturbance makes, and how many tasks each trouble befalls, in the order of both."""
    counts: Counter[str] = Counter(one.disturbance for one in plan.deliveries if one.disturbance is not None)
    counts.update(one.trouble for one in plan.tasks if one.trouble is not None)
    return {kind.value: counts[kind] for kinds in (Trouble, Disturbance) for kind in kinds if counts[kind]}
