"""Replays a recorded run against the local cloud, with workers that fail and die, and checks how it ended.

The execution is created with the run's own dependencies. The workers take tasks from a queue as the service schedules
them and do what the plan says; the run is over when the service has closed the execution, not when they are.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from threading import BoundedSemaphore, Event, Lock
from typing import Any, Final
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from local.api import Api, ApiError, Reply
from local.backoff import DEADLINE_SECONDS
from local.delivery_plan import Delivery, End, Plan, Request, TaskPlan, honest_attempt, make_plan
from local.outcome_check import Answered, Ledger, Taken, differences, has_caught_up
from local.stack import ROOT, Home, LocalCloudError, Stack
from local.tables import (
    Wait,
    failures_table,
    rates_line,
    reactions_table,
    result_console,
    troubles_table,
    verdicts_table,
    waits_table,
)
from local.trace import TraceError, read_trace
from local.worker import Assignment, WorkQueue

SAMPLE_TRACE: Final = ROOT / "events" / "workflow-trace.json"
CALLS_AT_ONCE: Final = 4
RETRY_POLICY: Final = {"initialSeconds": 1, "multiplier": 2, "maxSeconds": 60, "jitter": 0.2}

_MOST_WORKERS: Final = 64
_TASKS_A_REQUEST: Final = 500
_BYTES_A_REQUEST: Final = 1_000_000
_HISTORY_SECONDS: Final = 60.0
_STALL_SECONDS: Final = 90.0
_BUSY_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.3
_LONGEST_NAME: Final = 255
_WRONG_USE: Final = 2
_TOO_BUSY: Final = 503
_INTERRUPTED: Final = 130
_OPEN: Final = frozenset({"PENDING", "SCHEDULED", "IN_PROGRESS"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """A replay that is over.

    Attributes
    ----------
    answers, waits
        What each delivery got; and how long its sender waited for each request.
    taken
        What came out of the queue, in the order in which it came.
    seconds
        From the first assignment to the execution's end.
    differences
        What is not as it had to be, one sentence each.
    """

    execution_id: str
    answers: Sequence[Answered]
    waits: Sequence[Wait]
    taken: Sequence[Taken]
    seconds: float
    ledger: Ledger
    differences: Sequence[str]


def run_replay(
    stack_file: Path,
    trace: Path | None,
    speed: float | None,
    chaos: float,
    seed: int,
    ends: str | None = None,
) -> int:
    """Replay a trace and show how it went.

    Parameters
    ----------
    stack_file
        What ``make up`` wrote.
    trace
        An instance in WfFormat 1.5; None for the sample that comes with the project.
    speed
        Seconds of the trace that pass in one second; None for work that takes no time.
    chaos
        The share of tasks, 0 to 1, whose work goes wrong, and of starts and successes whose delivery does.
    seed
        With the same seed the same goes wrong in the same way.
    ends
        COMPLETED or FAILED: how the execution is to end; None leaves it to the seed.

    Returns
    -------
    int
        0 if all ended as it had to, 1 if anything did not, 2 if it could not begin.
    """
    try:
        _check_speed(speed)
        plan = make_plan(read_trace(trace or SAMPLE_TRACE), chaos=chaos, seed=seed, ends=ends)
        stack = Stack.load(Home(stack_file.parent))
    except (TraceError, ValueError, LocalCloudError) as error:
        print(error, file=sys.stderr)
        return _WRONG_USE
    try:
        with Api(stack) as api:
            return _replay_and_show(api, stack, plan, speed=speed, chaos=chaos, seed=seed)
    except (ApiError, LocalCloudError, BotoCoreError, ClientError) as error:
        print(f"The replay failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; what was done so far stays in the ledger.", file=sys.stderr)
        return _INTERRUPTED


@contextmanager
def queue_of(
    stack: Stack, api: Api, execution_id: str, deadline_seconds: float = DEADLINE_SECONDS
) -> Iterator[WorkQueue]:
    """Attach a queue by a rule to the bus, for the tasks of one execution alone, and remove both afterwards."""
    sqs, events = stack.aws("sqs", deadline_seconds), stack.aws("events", deadline_seconds)
    name = f"tasklatch-{execution_id}"[:64]
    bus = {"EventBusName": stack.event_bus_name}
    pattern = {"source": ["tasklatch"], "detail-type": ["Task Scheduled"], "detail": {"executionId": [execution_id]}}
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    try:
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.put_rule(Name=name, EventPattern=json.dumps(pattern), **bus)
        try:
            events.put_targets(Rule=name, Targets=[{"Id": "workers", "Arn": arn}], **bus)
            yield WorkQueue(sqs, url, api)
            events.remove_targets(Rule=name, Ids=["workers"], **bus)
        finally:
            events.delete_rule(Name=name, Force=True, **bus)
    finally:
        sqs.delete_queue(QueueUrl=url)


def replay(
    api: Api,
    plan: Plan,
    queue: WorkQueue,
    execution_id: str,
    *,
    speed: float | None = None,
    on_counts: Callable[[dict[str, int]], None] = lambda _: None,
) -> Outcome:
    """Create the plan's execution, work on it until the service has closed it, read everything back and compare.

    Parameters
    ----------
    queue
        Where the tasks of this execution alone come out.
    speed
        Seconds of the trace that pass in one second; None for work that takes no time.
    on_counts
        Told now and then how many tasks stand where.

    Raises
    ------
    ApiError, LocalCloudError
        If the service does not take part.
    """
    create_execution(api, plan, execution_id, speed=speed)
    crew = _Crew(api, plan, queue, execution_id, speed)
    began = time.monotonic()
    workers = min(_MOST_WORKERS, len(plan.tasks))
    longest = max(one.task.runtime_seconds for one in plan.tasks) / speed if speed else 0.0
    with ThreadPoolExecutor(workers, "worker") as pool, ThreadPoolExecutor(1, "queue") as receiver:
        receiving = receiver.submit(crew.receive, pool)
        try:
            _until_over(api, execution_id, receiving, _STALL_SECONDS + longest, on_counts)
            seconds = time.monotonic() - began
        finally:
            crew.stop.set()
    crew.check()
    ledger = read_ledger(api, execution_id)
    return Outcome(
        execution_id=execution_id,
        answers=crew.answers,
        waits=crew.waits,
        taken=crew.taken,
        seconds=seconds,
        ledger=ledger,
        differences=differences(plan, crew.answers, crew.taken, ledger),
    )


def create_execution(api: Api, plan: Plan, execution_id: str, *, speed: float | None = None) -> None:
    """Create an execution with a task for each of the plan's, and their dependencies; safe to be sent twice.

    Raises
    ------
    ApiError, LocalCloudError
        As `Api.call`.
    """
    first, *others = _chunks([_task_body(one, speed) for one in plan.tasks])
    name = "".join(character if character.isprintable() else " " for character in plan.trace.name)[:_LONGEST_NAME]
    body = {"executionId": execution_id, "name": name, "tasks": first}
    api.call("operator", "POST", "executions", body=body)
    for chunk in others:
        api.call("operator", "POST", "executions", execution_id, "tasks", body={"tasks": chunk})


def read_ledger(api: Api, execution_id: str) -> Ledger:
    """Read an execution, its tasks and their histories; waits for the histories, which come from the table's stream.

    Raises
    ------
    ApiError, LocalCloudError
        As `Api.call`.
    """
    path = ("executions", execution_id)
    names = [task["taskId"] for task in api.pages("reader", *path, "tasks")]
    ends = time.monotonic() + _HISTORY_SECONDS

    def read_task(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        while True:
            shown = api.call("reader", "GET", *path, "tasks", name).body
            history = list(api.pages("reader", *path, "tasks", name, "history"))
            if has_caught_up(shown, history) or time.monotonic() > ends:
                return shown, history
            time.sleep(_POLL_SECONDS)

    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        read = dict(zip(names, pool.map(read_task, names), strict=True))
    return Ledger(
        execution=api.call("reader", "GET", *path).body,
        tasks={name: shown for name, (shown, _) in read.items()},
        histories={name: history for name, (_, history) in read.items()},
    )


@dataclass
class _Crew:
    """The workers of a replay: each attempt is played by one of them."""

    api: Api
    plan: Plan
    queue: WorkQueue
    execution_id: str
    speed: float | None
    stop: Event = field(default_factory=Event)
    answers: list[Answered] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = Lock()
        self._calls = BoundedSemaphore(CALLS_AT_ONCE)
        self._plans = {one.task.task_id: one for one in self.plan.tasks}
        self._seen: set[tuple[str, int]] = set()
        self._playing: list[Future[None]] = []
        tasks = self.api.pages("reader", "executions", self.execution_id, "tasks")
        self._issued = {(task["taskId"], task["attempt"]): task["taskExecutionId"] for task in tasks}

    def receive(self, pool: ThreadPoolExecutor) -> None:
        """Hand out what comes from the queue; what comes twice is noted, and done once."""
        while not self.stop.is_set():
            for assignment in self.queue.take(at_most=10):
                key = (assignment.task_id, assignment.attempt)
                again = key in self._seen
                self._seen.add(key)
                self._issued[key] = assignment.task_execution_id
                self.taken.append(Taken(*key, time.monotonic(), again))
                if not again:
                    self._playing.append(pool.submit(self.play, assignment))

    def check(self) -> None:
        """Raise what a worker has raised."""
        for one in self._playing:
            one.result()

    def play(self, assignment: Assignment) -> None:
        """Do what is planned for an attempt; one that is not planned goes well."""
        plan = self._plans[assignment.task_id]
        is_planned = assignment.attempt <= len(plan.attempts)
        attempt = plan.attempts[assignment.attempt - 1] if is_planned else honest_attempt(plan.task, assignment.attempt)
        began = time.monotonic()
        for request in attempt.requests:
            if self.speed:
                time.sleep(max(began + request[0].share * plan.task.runtime_seconds / self.speed - time.monotonic(), 0))
            if self._send(request):
                break
        if not attempt.is_killed:
            self.queue.delete(assignment)

    def _send(self, request: Request) -> bool:
        """Send a request; tell whether the task was sealed, so that there is no more to say."""
        with self._calls:
            said_at = time.monotonic()
            answers, wait = _send(self.api, self.execution_id, request, self._issued, said_at)
        with self._lock:
            self.answers += answers
            self.waits.append(wait)
        return any(answered.end is End.SEALED for answered in answers)


def _until_over(
    api: Api,
    execution_id: str,
    receiving: "Future[None]",
    stall_seconds: float,
    on_counts: Callable[[dict[str, int]], None],
) -> None:
    """Wait until the service has closed the execution, and cancelled what was open if it failed."""
    last: dict[str, int] = {}
    moved_at = time.monotonic()
    while True:
        execution = api.call("reader", "GET", "executions", execution_id).body
        counts = {name: count for name, count in execution["counts"].items() if count}
        if counts != last:
            last, moved_at = counts, time.monotonic()
            on_counts(counts)
        if execution["status"] != "RUNNING" and not _OPEN & set(counts):
            return
        if receiving.done():
            receiving.result()
        if time.monotonic() - moved_at > stall_seconds:
            return  # the comparison says what is missing
        time.sleep(_POLL_SECONDS)


def _check_speed(speed: float | None) -> None:
    if speed is not None and not speed > 0:
        raise ValueError(f"SPEED is how many seconds of the trace pass in one second, above 0, not {speed:g}")


def _task_body(plan: TaskPlan, speed: float | None) -> dict[str, Any]:
    # A worker that is killed is missed after its patience and what the work would have taken
    work = ceil(plan.task.runtime_seconds / speed) if speed else 0
    body: dict[str, Any] = {
        "taskId": plan.task.task_id,
        "input": plan.task.input,
        "dependsOn": list(plan.task.parents),
        "retryPolicy": {**RETRY_POLICY, "maxAttempts": plan.max_attempts},
        "onFailure": "continue" if plan.goes_on else "abort",
    }
    if plan.timeout_seconds is not None:
        body["timeoutSeconds"] = plan.timeout_seconds + work
    if plan.heartbeat_timeout_seconds is not None:
        body["heartbeatTimeoutSeconds"] = plan.heartbeat_timeout_seconds + work
    return body


_Issued = dict[tuple[str, int], str]


def _send(
    api: Api, execution_id: str, request: Request, issued: _Issued, said_at: float
) -> tuple[list[Answered], Wait]:
    bodies = [_body(delivery, issued) for delivery in request]
    if len(request) > 1:
        answers, wait = _send_batch(api, execution_id, request, bodies)
        return [replace(answered, said_at=said_at) for answered in answers], wait
    (delivery,), (body,) = request, bodies
    route = "heartbeat" if delivery.is_heartbeat else "status"
    try:
        reply = api.call("worker", "POST", "executions", execution_id, "tasks", delivery.task_id, route, body=body)
    except ApiError as error:
        if not error.is_final:
            raise
        refused = Answered(delivery, End.REFUSED, None, str(error.problem.get("detail", error)), said_at=said_at)
        return [refused], Wait(time.monotonic() - said_at, error.sends > 1)
    again = reply.sends > 1
    return [_answered(delivery, reply.body, said_at, again=again)], Wait(reply.seconds, again)


def _send_batch(
    api: Api, execution_id: str, deliveries: Sequence[Delivery], bodies: Sequence[dict[str, Any]]
) -> tuple[list[Answered], Wait]:
    """Send a batch, and again those of it that the service was too busy for."""
    answers: dict[int, Answered] = {}
    waiting = list(range(len(deliveries)))
    unsure = False
    began = time.monotonic()
    ends = began + _BUSY_SECONDS
    while waiting:
        reply = _post_batch(api, execution_id, [(deliveries[index], bodies[index]) for index in waiting])
        results = dict(zip(waiting, reply.body["results"], strict=True))
        unsure = unsure or reply.sends > 1
        waiting = []
        for index, result in results.items():
            if "verdict" in result:
                answers[index] = _answered(deliveries[index], result, 0.0, again=False)
            elif result["status"] == _TOO_BUSY and time.monotonic() < ends:
                waiting.append(index)
                unsure = True
            else:
                answers[index] = Answered(deliveries[index], End.REFUSED, None, result["problem"]["detail"])
        if waiting:
            time.sleep(_POLL_SECONDS)
    wait = Wait(time.monotonic() - began, unsure)
    return [replace(answers[index], may_have_been_taken_twice=unsure) for index in range(len(deliveries))], wait


def _post_batch(api: Api, execution_id: str, reports: Sequence[tuple[Delivery, dict[str, Any]]]) -> Reply:
    statuses = [{"taskId": delivery.task_id, **body} for delivery, body in reports]
    return api.call("worker", "POST", "executions", execution_id, "statuses", body={"statuses": statuses})


def _body(delivery: Delivery, issued: _Issued) -> dict[str, Any]:
    return delivery.said if delivery.id_of is None else {**delivery.said, "taskExecutionId": issued[delivery.id_of]}


def _answered(delivery: Delivery, answer: dict[str, Any], said_at: float, *, again: bool) -> Answered:
    version = answer["task"]["version"]
    if delivery.is_heartbeat:
        end = End.GO_ON if answer["continue"] else End.STOP
        return Answered(delivery, end, version, answer.get("reason", ""), again, said_at)
    return Answered(delivery, End(answer["verdict"]), version, "", again, said_at, answer.get("retry"))


def _chunks(bodies: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Cut task bodies into requests that are small enough; there is always one."""
    chunks: list[list[dict[str, Any]]] = [[]]
    size = 0
    for body in bodies:
        length = len(json.dumps(body))
        if chunks[-1] and (len(chunks[-1]) == _TASKS_A_REQUEST or size + length > _BYTES_A_REQUEST):
            chunks.append([])
            size = 0
        chunks[-1].append(body)
        size += length
    return chunks


def _replay_and_show(api: Api, stack: Stack, plan: Plan, *, speed: float | None, chaos: float, seed: int) -> int:
    console = result_console()
    trace = plan.trace
    pace = f"{speed:g} times as fast as it was" if speed else "the work takes no time"
    console.print(
        f"[bold]{escape(trace.name)}[/bold]: {len(trace.tasks)} tasks, {trace.seconds:,.0f} s of work, {pace}",
    )
    console.print(
        f"chaos {chaos:g}, seed {seed}: {plan.troubled} tasks get into trouble, {plan.disturbed} starts and successes "
        f"are disturbed, the execution must end {plan.ends}",
    )
    execution_id = f"replay-{uuid4()}"
    console.print(f"execution {execution_id}", style="dim")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        queue_of(stack, api, execution_id) as queue,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task("tasks", total=len(plan.tasks))

        def show(counts: dict[str, int]) -> None:
            over = sum(count for name, count in counts.items() if name not in _OPEN)
            progress.update(bar, completed=over)

        outcome = replay(api, plan, queue, execution_id, speed=speed, on_counts=show)
    if plan.disturbed or plan.troubled:
        console.print(troubles_table(plan))
    console.print(verdicts_table(outcome.answers))
    failures = failures_table(outcome.ledger)
    if failures.row_count:
        console.print(failures)
    console.print(reactions_table(outcome.answers, outcome.ledger))
    console.print(waits_table(outcome.waits))
    console.print(rates_line(outcome.answers, outcome.waits, outcome.seconds))
    for difference in outcome.differences:
        console.print(f"[red]DIFFERENT[/red] {escape(difference)}")
    if outcome.differences:
        console.print(f"[red]{len(outcome.differences)} differences.[/red]")
        return 1
    console.print(
        f"[green]As it had to be:[/green] the execution is {plan.ends}, no task began before its parents were done, "
        "each retry was opened once, no success was overwritten, every report is in the history.",
    )
    return 0
