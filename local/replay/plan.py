"""Plan of a replay's workers: a pure function of the trace, the share of chaos and the seed.

Workers in the field misbehave: they fail, are killed, and their requests arrive twice, late and out of order. A
`TaskFault` is one way in which the work on a task goes wrong, a `DeliveryFault` one way in which the delivery of a
start or of a success does. Both become scripted requests per attempt, each with its expected outcome. The outcomes
come from the service's promises, not from its code: a replay checks both.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from local.replay.trace import Trace, TraceTask

NEVER_OPENED_ATTEMPT: Final = 99
"""Number above the attempts of every retry policy here."""

MAX_ATTEMPTS: Final = 4
"""Attempts of a task, unless the plan spends its retries."""

_SPENT_ATTEMPTS: Final = 2
_MAX_BATCH: Final = 100
_SHARE_OF_SINGLES: Final = 0.6
_LONG_SECONDS: Final = 30.0
_HEARTBEATS: Final = (0.33, 0.67)
_PATIENCE_SECONDS: Final = 2
_ASKED_SECONDS: Final = 2
_FAR_AWAY_SECONDS: Final = 60
"""Delay, in seconds, after which a retry is still pending when the next request is sent."""

_SHARE_OF_FAILED: Final = 0.2


class ExpectedOutcome(StrEnum):
    """Expected outcome of a request."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    IGNORED_AFTER_SUCCESS = "ignored_after_success"
    STALE_ATTEMPT = "stale_attempt"
    SEALED = "sealed"
    REFUSED = "refused"
    GO_ON = "go_on"
    STOP = "stop"


class DeliveryFault(StrEnum):
    """Fault in the delivery of a start or of a success."""

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


class TaskFault(StrEnum):
    """Fault in the work on a task."""

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


TERMINAL_REASONS: Final = tuple(task_fault.name for task_fault in TaskFault if task_fault.name in task_fault.value)
"""Reasons after which there is no retry."""


@dataclass(frozen=True, slots=True)
class ScriptedRequest:
    """One request about one attempt.

    Attributes
    ----------
    body
        Request body, without the attempt's id.
    expected
        Expected outcome.
    share
        Due time: the share of the task's running time that has passed since its attempt was received.
    attempt
        Attempt of the request; None if it names none that the service would know.
    attempt_ref
        Task and attempt whose `taskExecutionId` is sent along; None for none.
    will_retry
        `willRetry` that the response must have; None if it is not checked.
    """

    task_id: str
    body: dict[str, Any]
    expected: ExpectedOutcome
    share: float = 0.0
    attempt: int | None = None
    attempt_ref: tuple[str, int] | None = None
    will_retry: bool | None = None
    delivery_fault: DeliveryFault | None = None

    @property
    def is_heartbeat(self) -> bool:
        """Return True for a heartbeat, False for a report."""
        return "status" not in self.body


RequestBatch = tuple[ScriptedRequest, ...]
"""Report, heartbeat, or batch of reports."""


@dataclass(frozen=True, slots=True)
class ScriptedAttempt:
    """Script of the worker that receives one attempt from the queue.

    Attributes
    ----------
    requests
        Requests to send, in order.
    is_killed
        True if the worker is dead afterwards: it neither reports nor returns the message.
    """

    requests: tuple[RequestBatch, ...]
    is_killed: bool = False


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """Plan of one task.

    Attributes
    ----------
    attempts
        Scripts of the first attempt, the second and so on.
    ends
        Status in which the service must leave the task, unless the execution ends before.
    continues_on_failure
        True if the execution continues after the task's last attempt has failed.
    timeout_seconds, heartbeat_timeout_seconds
        Longest silence besides the running time; None for no limit. Set only where a worker is killed: on a slow
        machine a normal worker may be slow too.
    """

    task: TraceTask
    attempts: tuple[ScriptedAttempt, ...]
    ends: str = "COMPLETED"
    continues_on_failure: bool = False
    max_attempts: int = MAX_ATTEMPTS
    timeout_seconds: int | None = None
    heartbeat_timeout_seconds: int | None = None
    task_fault: TaskFault | None = None

    @property
    def timed_out(self) -> set[int]:
        """Return the attempts whose workers are killed."""
        return {number for number, attempt in enumerate(self.attempts, 1) if attempt.is_killed}

    @property
    def may_be_timed_out(self) -> bool:
        """Return True if the service may time out a worker of this task, also one that is only slow."""
        return self.timeout_seconds is not None or self.heartbeat_timeout_seconds is not None

    @property
    def scripted_requests(self) -> Iterator[ScriptedRequest]:
        """Yield each request, in order."""
        for attempt in self.attempts:
            for request in attempt.requests:
                yield from request


@dataclass(frozen=True)
class ReplayPlan:
    """Plans of all tasks, and the end of the execution.

    Attributes
    ----------
    fatal
        Task whose failure ends the execution; None if the execution must end COMPLETED.
    """

    trace: Trace
    tasks: tuple[TaskPlan, ...]
    fatal: str | None = None
    faulty_deliveries: int = field(default=0)

    @property
    def ends(self) -> str:
        """Return the status in which the service must leave the execution."""
        return "COMPLETED" if self.fatal is None else "FAILED"

    @property
    def faulty_tasks(self) -> int:
        """Return the number of tasks with a fault."""
        return sum(task_plan.task_fault is not None for task_plan in self.tasks)

    @property
    def scripted_requests(self) -> Iterator[ScriptedRequest]:
        """Yield each request, task by task."""
        for task_plan in self.tasks:
            yield from task_plan.scripted_requests


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
        raise ValueError(f"CHAOS is the share of what goes wrong, from 0 to 1, not {chaos:g}")
    if ends not in (None, "COMPLETED", "FAILED"):
        raise ValueError(f"EXPECT is COMPLETED or FAILED, not {ends}")
    fatal = _choose_fatal(trace, chaos, ends, _draws("end", seed))
    task_faults = _choose_task_faults(trace, chaos, fatal, _draws("troubles", seed))
    faulty_deliveries = _choose_delivery_faults(trace, chaos, task_faults, _draws("disturbances", seed))
    draws = _draws("details", seed)
    names = [task.task_id for task in trace.tasks]
    tasks = []
    for task in trace.tasks:
        others = [name for name in names if name != task.task_id]
        script = _TaskScript(
            other_task=draws.choice(others) if others else "",
            new_id=str(UUID(int=draws.getrandbits(128), version=4)),
            start=faulty_deliveries.get((task.task_id, _START)),
            success=faulty_deliveries.get((task.task_id, _SUCCESS)),
            reason=draws.choice(TERMINAL_REASONS),
        )
        planned = _plan_task(task, task_faults.get(task.task_id), script)
        attempts = (replace(attempt, requests=tuple(_batched(attempt.requests, draws))) for attempt in planned.attempts)
        tasks.append(replace(planned, attempts=tuple(attempts)))
    return ReplayPlan(trace, tuple(tasks), fatal, len(faulty_deliveries))


def normal_attempt(task: TraceTask, attempt: int) -> ScriptedAttempt:
    """Return the script of an attempt without faults."""
    return _normal(task, attempt, _TaskScript())


def expected_output(task: TraceTask) -> dict[str, Any]:
    """Return the output that the service must show for a task that is done."""
    return {"runtimeInSeconds": task.runtime_seconds}


@dataclass(frozen=True, slots=True)
class _TaskScript:
    """Choices that the seed makes for one task."""

    other_task: str = ""
    new_id: str = ""
    start: DeliveryFault | None = None
    success: DeliveryFault | None = None
    reason: str = ""


# --------------------------------------------------------------------------------------------- requests


def _start(task: TraceTask, attempt: int) -> ScriptedRequest:
    body = {"status": "IN_PROGRESS"}
    return ScriptedRequest(
        task.task_id, body, ExpectedOutcome.APPLIED, attempt=attempt, attempt_ref=(task.task_id, attempt)
    )


def _success(task: TraceTask, attempt: int, share: float = 1.0) -> ScriptedRequest:
    body = {"status": "COMPLETED", "output": expected_output(task)}
    return ScriptedRequest(task.task_id, body, ExpectedOutcome.APPLIED, share, attempt, (task.task_id, attempt))


def _failure(
    request: ScriptedRequest,
    expected: ExpectedOutcome,
    *,
    status: str = "FAILED",
    will_retry: bool | None = None,
    **fields: Any,
) -> ScriptedRequest:
    """Return a failure of the attempt of another request, due at the same time."""
    return replace(request, body={"status": status, **fields}, expected=expected, will_retry=will_retry)


def _numbered(request: ScriptedRequest) -> ScriptedRequest:
    """Return the request with the attempt's number instead of its id."""
    return replace(request, body={**request.body, "attempt": request.attempt}, attempt_ref=None)


def _unnamed(request: ScriptedRequest) -> ScriptedRequest:
    """Return the request without an attempt; the service takes it for the current one."""
    return replace(request, attempt_ref=None)


def _start_twice(start: ScriptedRequest, _: _TaskScript) -> list[ScriptedRequest]:
    return [start, replace(_numbered(start), expected=ExpectedOutcome.DUPLICATE)]


def _start_without_attempt(start: ScriptedRequest, _: _TaskScript) -> list[ScriptedRequest]:
    return [_unnamed(start)]


def _start_of_another_task(start: ScriptedRequest, script: _TaskScript) -> list[ScriptedRequest]:
    return [replace(start, attempt_ref=(script.other_task, 1), expected=ExpectedOutcome.REFUSED), start]


def _start_of_unknown_attempt(start: ScriptedRequest, _: _TaskScript) -> list[ScriptedRequest]:
    return [replace(_numbered(replace(start, attempt=NEVER_OPENED_ATTEMPT)), expected=ExpectedOutcome.REFUSED), start]


def _start_after_success(_: ScriptedRequest, __: _TaskScript) -> list[ScriptedRequest]:
    return []  # sent after the success: see `_normal`


def _success_twice(success: ScriptedRequest, _: _TaskScript) -> list[ScriptedRequest]:
    return [success, replace(_numbered(success), expected=ExpectedOutcome.DUPLICATE)]


def _success_under_new_id(success: ScriptedRequest, script: _TaskScript) -> list[ScriptedRequest]:
    body = {**success.body, "taskExecutionId": script.new_id}
    return [success, replace(success, body=body, expected=ExpectedOutcome.DUPLICATE, attempt=None, attempt_ref=None)]


def _failure_after_success(success: ScriptedRequest, _: _TaskScript) -> list[ScriptedRequest]:
    message = "the lease ran out before the answer arrived"
    return [success, _numbered(_failure(success, ExpectedOutcome.IGNORED_AFTER_SUCCESS, message=message))]


def _failure_by_id_after_success(success: ScriptedRequest, _: _TaskScript) -> list[ScriptedRequest]:
    return [success, _failure(success, ExpectedOutcome.IGNORED_AFTER_SUCCESS, failureReason="RATE_LIMITED")]


def _failure_without_attempt_after_success(success: ScriptedRequest, _: _TaskScript) -> list[ScriptedRequest]:
    late_request = _failure(success, ExpectedOutcome.IGNORED_AFTER_SUCCESS, failureReason="RETRYABLE_ERROR")
    return [success, replace(_unnamed(late_request), attempt=None)]


def _terminal_error_after_success(success: ScriptedRequest, _: _TaskScript) -> list[ScriptedRequest]:
    # The same twice: it is ignored twice, and stored once.
    late_request = _failure(success, ExpectedOutcome.IGNORED_AFTER_SUCCESS, status="FAILED_WITH_TERMINAL_ERROR")
    return [success, late_request, late_request]


def _success_while_retry_is_pending(success: ScriptedRequest, _: _TaskScript) -> list[ScriptedRequest]:
    fields: dict[str, Any] = {"failureReason": "RETRYABLE_ERROR", "retryAfterSeconds": _FAR_AWAY_SECONDS}
    first = _failure(success, ExpectedOutcome.APPLIED, will_retry=True, **fields)
    again = _failure(success, ExpectedOutcome.DUPLICATE, failureReason="RATE_LIMITED")
    return [first, again, success]


def _heartbeat_after_success(success: ScriptedRequest, _: _TaskScript) -> list[ScriptedRequest]:
    return [success, replace(success, body={"progress": 1}, expected=ExpectedOutcome.STOP)]


_ApplyFault = Callable[[ScriptedRequest, _TaskScript], list[ScriptedRequest]]

FAULTY_STARTS: Final[dict[DeliveryFault, _ApplyFault]] = {
    DeliveryFault.START_TWICE: _start_twice,
    DeliveryFault.START_AFTER_SUCCESS: _start_after_success,
    DeliveryFault.START_WITHOUT_ATTEMPT: _start_without_attempt,
    DeliveryFault.START_OF_ANOTHER_TASK: _start_of_another_task,
    DeliveryFault.START_OF_UNKNOWN_ATTEMPT: _start_of_unknown_attempt,
}
"""Requests, with expected outcomes, that each fault makes of a start."""

FAULTY_SUCCESSES: Final[dict[DeliveryFault, _ApplyFault]] = {
    DeliveryFault.FAILURE_AFTER_SUCCESS: _failure_after_success,
    DeliveryFault.SUCCESS_TWICE: _success_twice,
    DeliveryFault.SUCCESS_WHILE_RETRY_IS_PENDING: _success_while_retry_is_pending,
    DeliveryFault.SUCCESS_UNDER_NEW_ID: _success_under_new_id,
    DeliveryFault.FAILURE_BY_ID_AFTER_SUCCESS: _failure_by_id_after_success,
    DeliveryFault.TERMINAL_ERROR_AFTER_SUCCESS: _terminal_error_after_success,
    DeliveryFault.FAILURE_WITHOUT_ATTEMPT_AFTER_SUCCESS: _failure_without_attempt_after_success,
    DeliveryFault.HEARTBEAT_AFTER_SUCCESS: _heartbeat_after_success,
}
"""Requests, with expected outcomes, that each fault makes of a success."""


# --------------------------------------------------------------------------------------------- attempts


def _each(*scripted_requests: ScriptedRequest) -> tuple[RequestBatch, ...]:
    return tuple((request,) for request in scripted_requests)


def _normal(task: TraceTask, attempt: int, script: _TaskScript) -> ScriptedAttempt:
    """Return an attempt that succeeds, its start and its success changed by the script's faults."""
    start, success = [_start(task, attempt)], [_success(task, attempt)]
    if script.start is not None:
        start = [
            replace(request, delivery_fault=script.start) for request in FAULTY_STARTS[script.start](start[0], script)
        ]
    if script.success is not None:
        faulty_deliveries = FAULTY_SUCCESSES[script.success](success[0], script)
        success = [replace(request, delivery_fault=script.success) for request in faulty_deliveries]
    if script.start is DeliveryFault.START_AFTER_SUCCESS:
        late_request = replace(
            _start(task, attempt),
            expected=ExpectedOutcome.IGNORED_AFTER_SUCCESS,
            share=1.0,
            delivery_fault=script.start,
        )
        success.append(late_request)
    return ScriptedAttempt(_each(*start, *_signs_of_life(task, attempt), *success))


def _signs_of_life(task: TraceTask, attempt: int) -> Iterator[ScriptedRequest]:
    if task.runtime_seconds >= _LONG_SECONDS:
        for share in _HEARTBEATS:
            attempt_ref = (task.task_id, attempt)
            yield ScriptedRequest(task.task_id, {"progress": share}, ExpectedOutcome.GO_ON, share, attempt, attempt_ref)


def _failing(
    task: TraceTask, attempt: int, *, will_retry: bool = True, status: str = "FAILED", **fields: Any
) -> ScriptedAttempt:
    """Return an attempt that begins, and fails half way through."""
    started = _start(task, attempt)
    failed = _failure(started, ExpectedOutcome.APPLIED, status=status, will_retry=will_retry, **fields)
    return ScriptedAttempt(_each(started, replace(failed, share=0.5)))


def _after(said_first: Sequence[ScriptedRequest], attempt: ScriptedAttempt) -> ScriptedAttempt:
    return replace(attempt, requests=(*_each(*said_first), *attempt.requests))


def _plan_task(task: TraceTask, task_fault: TaskFault | None, script: _TaskScript) -> TaskPlan:
    if task_fault is None:
        return TaskPlan(task, (_normal(task, 1, script),))
    plan = _TASK_FAULTS[task_fault](task, script)
    return replace(plan, task_fault=task_fault)


def _fails(task: TraceTask, script: _TaskScript) -> TaskPlan:
    return TaskPlan(task, (_failing(task, 1, failureReason="RETRYABLE_ERROR"), _normal(task, 2, script)))


def _fails_without_reason(task: TraceTask, script: _TaskScript) -> TaskPlan:
    return TaskPlan(task, (_failing(task, 1, message="it just stopped"), _normal(task, 2, script)))


def _is_limited(task: TraceTask, script: _TaskScript) -> TaskPlan:
    fields: dict[str, Any] = {"failureReason": "RATE_LIMITED", "retryAfterSeconds": _ASKED_SECONDS}
    return TaskPlan(task, (_failing(task, 1, **fields), _normal(task, 2, script)))


def _fails_twice(task: TraceTask, script: _TaskScript) -> TaskPlan:
    failing = (
        _failing(task, 1, failureReason="RETRYABLE_ERROR"),
        _failing(task, 2, failureReason="RATE_LIMITED"),
    )
    return TaskPlan(task, (*failing, _normal(task, 3, script)))


def _is_killed_before_its_start(task: TraceTask, script: _TaskScript) -> TaskPlan:
    killed = ScriptedAttempt((), is_killed=True)
    return TaskPlan(task, (killed, _normal(task, 2, script)), timeout_seconds=_PATIENCE_SECONDS)


def _is_killed_at_work(task: TraceTask, script: _TaskScript) -> TaskPlan:
    killed = ScriptedAttempt(_each(_start(task, 1)), is_killed=True)
    return TaskPlan(task, (killed, _normal(task, 2, script)), heartbeat_timeout_seconds=_PATIENCE_SECONDS)


def _fails_again_too_late(task: TraceTask, script: _TaskScript) -> TaskPlan:
    late_request = _failure(
        _start(task, 1), ExpectedOutcome.STALE_ATTEMPT, failureReason="NON_RETRYABLE_ERROR", message="gave up at last"
    )
    first = _failing(task, 1, failureReason="RETRYABLE_ERROR")
    return TaskPlan(task, (first, _after([late_request], _normal(task, 2, script))))


def _repeats_its_failure(task: TraceTask, script: _TaskScript) -> TaskPlan:
    first = _failing(task, 1, failureReason="RETRYABLE_ERROR")
    again = _failure(_start(task, 1), ExpectedOutcome.DUPLICATE, failureReason="RETRYABLE_ERROR")
    return TaskPlan(task, (first, _after([again], _normal(task, 2, script))))


def _succeeds_after_all(task: TraceTask, _: _TaskScript) -> TaskPlan:
    second = (
        _success(task, 1, share=0.0),
        replace(_start(task, 2), expected=ExpectedOutcome.IGNORED_AFTER_SUCCESS),
        ScriptedRequest(task.task_id, {"progress": 0}, ExpectedOutcome.STOP, attempt=2, attempt_ref=(task.task_id, 2)),
    )
    return TaskPlan(task, (_failing(task, 1, failureReason="RETRYABLE_ERROR"), ScriptedAttempt(_each(*second))))


def _spends_its_retries(task: TraceTask, _: _TaskScript) -> TaskPlan:
    failing = (
        _failing(task, 1, failureReason="RETRYABLE_ERROR"),
        _failing(task, 2, failureReason="RETRYABLE_ERROR", will_retry=False),
    )
    return TaskPlan(task, failing, "COMPLETED_WITH_ERRORS", continues_on_failure=True, max_attempts=_SPENT_ATTEMPTS)


def _calls_it_terminal(task: TraceTask, _: _TaskScript) -> TaskPlan:
    failing = _failing(task, 1, status="FAILED_WITH_TERMINAL_ERROR", will_retry=False)
    return TaskPlan(task, (failing,), "COMPLETED_WITH_ERRORS", continues_on_failure=True)


def _gives_up(reason: str) -> Callable[[TraceTask, _TaskScript], TaskPlan]:
    def plan(task: TraceTask, _: _TaskScript) -> TaskPlan:
        failing = _failing(task, 1, failureReason=reason, will_retry=False)
        return TaskPlan(task, (failing,), "COMPLETED_WITH_ERRORS", continues_on_failure=True)

    return plan


def _is_fatal(task: TraceTask, script: _TaskScript) -> TaskPlan:
    failing = _failing(task, 1, failureReason=script.reason, will_retry=False)
    return TaskPlan(task, (failing,), "FAILED_WITH_TERMINAL_ERROR")


_TASK_FAULTS: Final[dict[TaskFault, Callable[[TraceTask, _TaskScript], TaskPlan]]] = {
    TaskFault.FAILS: _fails,
    TaskFault.FAILS_WITHOUT_REASON: _fails_without_reason,
    TaskFault.IS_LIMITED: _is_limited,
    TaskFault.FAILS_TWICE: _fails_twice,
    TaskFault.IS_KILLED_BEFORE_ITS_START: _is_killed_before_its_start,
    TaskFault.IS_KILLED_AT_WORK: _is_killed_at_work,
    TaskFault.FAILS_AGAIN_TOO_LATE: _fails_again_too_late,
    TaskFault.REPEATS_ITS_FAILURE: _repeats_its_failure,
    TaskFault.SUCCEEDS_AFTER_ALL: _succeeds_after_all,
    TaskFault.SPENDS_ITS_RETRIES: _spends_its_retries,
    TaskFault.CALLS_IT_TERMINAL: _calls_it_terminal,
    **{TaskFault[reason]: _gives_up(reason) for reason in TERMINAL_REASONS},
    TaskFault.FATAL: _is_fatal,
}

_WITHOUT_SUCCESS: Final = frozenset(
    {
        TaskFault.SUCCEEDS_AFTER_ALL,
        TaskFault.SPENDS_ITS_RETRIES,
        TaskFault.CALLS_IT_TERMINAL,
        *(TaskFault[reason] for reason in TERMINAL_REASONS),
        TaskFault.FATAL,
    }
)
"""Faults without a success of the current attempt: there is no start and no success to disturb."""


# --------------------------------------------------------------------------------------------- choices of the seed

_START: Final = "start"
_SUCCESS: Final = "success"


def _draws(what: str, seed: int) -> random.Random:
    return random.Random(f"{what} {seed}")  # noqa: S311 - to be repeated


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


_Chosen = dict[tuple[str, str], DeliveryFault]


def _choose_delivery_faults(
    trace: Trace, chaos: float, task_faults: dict[str, TaskFault], draws: random.Random
) -> _Chosen:
    """Choose the delivery faults of the attempts that succeed: of each kind about as many."""
    chosen: _Chosen = {}
    for kind, kinds in ((_START, list(FAULTY_STARTS)), (_SUCCESS, list(FAULTY_SUCCESSES))):
        possible = [task.task_id for task in trace.tasks if task_faults.get(task.task_id) not in _WITHOUT_SUCCESS]
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


def count_kinds(plan: ReplayPlan) -> dict[str, int]:
    """Return the number of requests per delivery fault and of tasks per task fault, in the order of both."""
    counts: Counter[str] = Counter(
        delivery.delivery_fault for delivery in plan.scripted_requests if delivery.delivery_fault is not None
    )
    counts.update(task.task_fault for task in plan.tasks if task.task_fault is not None)
    return {kind.value: counts[kind] for kinds in (TaskFault, DeliveryFault) for kind in kinds if counts[kind]}
