"""Replay of a recorded run against the local cloud, with workers that fail and die, and a check of its end.

The execution is created with the run's own dependencies. The workers receive tasks from a queue as the service
schedules them, and follow the plan; the run is over when the service has closed the execution, not when they are done.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from threading import BoundedSemaphore, Event, Lock
from typing import Any, Final
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from local.api_client import ApiClient, ApiError, Reply
from local.backoff import DEADLINE_SECONDS
from local.cloud.stack import ROOT, LocalCloudError, Stack, StateDir
from local.replay.check import LedgerSnapshot, ReceivedAttempt, RequestResult, differences, is_consistent
from local.replay.plan import (
    ExpectedOutcome,
    ReplayPlan,
    RequestBatch,
    ScriptedRequest,
    TaskPlan,
    make_plan,
    normal_attempt,
)
from local.replay.tables import (
    Wait,
    failures_table,
    faults_table,
    rates_line,
    reactions_table,
    result_console,
    verdicts_table,
    waits_table,
)
from local.replay.trace import TraceError, read_trace
from local.worker import Assignment, WorkQueue

SAMPLE_TRACE: Final = ROOT / "events" / "traces" / "workflow-trace.json"
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
class ReplayResult:
    """Result of a replay.

    Attributes
    ----------
    answers, waits
        Result of each request, and the time that its sender waited for each response.
    received
        Attempts from the queue, in order of receipt.
    seconds
        Time from the first assignment to the execution's end.
    differences
        Differences from the plan, one sentence each.
    """

    execution_id: str
    answers: Sequence[RequestResult]
    waits: Sequence[Wait]
    received: Sequence[ReceivedAttempt]
    seconds: float
    ledger: LedgerSnapshot
    differences: Sequence[str]


def run_replay(
    stack_file: Path,
    trace: Path | None,
    speed: float | None,
    chaos: float,
    seed: int,
    expected_status: str | None = None,
) -> int:
    """Replay a trace and print its course and its result.

    Parameters
    ----------
    stack_file
        File that ``make up`` wrote.
    trace
        An instance in WfFormat 1.5; None for the sample that comes with the project.
    speed
        Seconds of the trace that pass in one second; None for work that takes no time.
    chaos
        Share of tasks, 0 to 1, whose work goes wrong, and of starts and successes whose delivery does.
    seed
        Seed of the plan: the same seed makes the same faults.
    expected_status
        Status in which the execution is to end, COMPLETED or FAILED; None leaves it to the seed.

    Returns
    -------
    int
        0 if all checks passed, 1 if one failed, 2 if the replay could not begin.
    """
    try:
        _check_speed(speed)
        plan = make_plan(read_trace(trace or SAMPLE_TRACE), chaos=chaos, seed=seed, ends=expected_status)
        stack = Stack.load(StateDir(stack_file.parent))
    except (TraceError, ValueError, LocalCloudError) as error:
        print(error, file=sys.stderr)
        return _WRONG_USE
    try:
        with ApiClient(stack) as api:
            return _replay_and_show(api, stack, plan, speed=speed, chaos=chaos, seed=seed)
    except (ApiError, LocalCloudError, BotoCoreError, ClientError) as error:
        print(f"The replay failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; what was done so far stays in the ledger.", file=sys.stderr)
        return _INTERRUPTED


@contextmanager
def attached_queue(
    stack: Stack, api: ApiClient, execution_id: str, deadline_seconds: float = DEADLINE_SECONDS
) -> Iterator[WorkQueue]:
    """Attach a queue to the bus by a rule, for the tasks of one execution alone, and remove both afterwards."""
    sqs, events = stack.aws("sqs", deadline_seconds), stack.aws("events", deadline_seconds)
    name = f"tasklatch-{execution_id}"[:64]
    bus = {"EventBusName": stack.event_bus_name}
    pattern = {"source": ["tasklatch"], "detail-type": ["Task Scheduled"], "detail": {"executionId": [execution_id]}}
    with ExitStack() as undo:
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        undo.callback(sqs.delete_queue, QueueUrl=url)
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        rule = events.put_rule(Name=name, EventPattern=json.dumps(pattern), **bus)["RuleArn"]
        undo.callback(events.delete_rule, Name=name, **bus)
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": _queue_policy(arn, rule)})
        events.put_targets(Rule=name, Targets=[{"Id": "workers", "Arn": arn}], **bus)
        # A rule that has targets cannot be deleted
        undo.callback(events.remove_targets, Rule=name, Ids=["workers"], **bus)
        yield WorkQueue(sqs, url, api)


def _queue_policy(queue_arn: str, rule_arn: str) -> str:
    """Return the policy of a queue into which a rule may put events."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def replay(
    api: ApiClient,
    plan: ReplayPlan,
    queue: WorkQueue,
    execution_id: str,
    *,
    speed: float | None = None,
    on_counts: Callable[[dict[str, int]], None] = lambda _: None,
) -> ReplayResult:
    """Create the plan's execution, work on it until the service has closed it, read everything back and compare.

    Parameters
    ----------
    queue
        Queue that receives the tasks of this execution alone.
    speed
        Seconds of the trace that pass in one second; None for work that takes no time.
    on_counts
        Called now and then with the number of tasks per status.

    Raises
    ------
    ApiError, LocalCloudError
        If a request fails or the local cloud is not there.
    """
    create_planned_execution(api, plan, execution_id, speed=speed)
    workers_pool = _WorkerPool(api, plan, queue, execution_id, speed)
    started = time.monotonic()
    workers = min(_MOST_WORKERS, len(plan.tasks))
    longest = max(task_plan.task.runtime_seconds for task_plan in plan.tasks) / speed if speed else 0.0
    with ThreadPoolExecutor(workers, "worker") as pool, ThreadPoolExecutor(1, "queue") as receiver:
        receiving = receiver.submit(workers_pool.receive, pool)
        try:
            _until_over(api, execution_id, receiving, _STALL_SECONDS + longest, on_counts)
            seconds = time.monotonic() - started
        finally:
            workers_pool.stop.set()
    workers_pool.check()
    ledger = read_ledger(api, execution_id)
    return ReplayResult(
        execution_id=execution_id,
        answers=workers_pool.answers,
        waits=workers_pool.waits,
        received=workers_pool.received,
        seconds=seconds,
        ledger=ledger,
        differences=differences(plan, workers_pool.answers, workers_pool.received, ledger),
    )


def create_planned_execution(
    api: ApiClient, plan: ReplayPlan, execution_id: str, *, speed: float | None = None
) -> None:
    """Create an execution with the plan's tasks and their dependencies; safe to repeat.

    Raises
    ------
    ApiError, LocalCloudError
        As `Api.call`.
    """
    first, *others = _chunks([_task_body(task_plan, speed) for task_plan in plan.tasks])
    name = "".join(character if character.isprintable() else " " for character in plan.trace.name)[:_LONGEST_NAME]
    body = {"executionId": execution_id, "name": name, "tasks": first}
    api.request("operator", "POST", "executions", body=body)
    for chunk in others:
        api.request("operator", "POST", "executions", execution_id, "tasks", body={"tasks": chunk})


def read_ledger(api: ApiClient, execution_id: str) -> LedgerSnapshot:
    """Read an execution, its tasks and their histories; waits for the histories, which come from the table's stream.

    Raises
    ------
    ApiError, LocalCloudError
        As `Api.call`.
    """
    path = ("executions", execution_id)
    names = [task["taskId"] for task in api.paginate("reader", *path, "tasks")]
    deadline = time.monotonic() + _HISTORY_SECONDS

    def read_task(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        while True:
            shown = api.request("reader", "GET", *path, "tasks", name).body
            history = list(api.paginate("reader", *path, "tasks", name, "history"))
            if is_consistent(shown, history) or time.monotonic() > deadline:
                return shown, history
            time.sleep(_POLL_SECONDS)

    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        read = dict(zip(names, pool.map(read_task, names), strict=True))
    return LedgerSnapshot(
        execution=api.request("reader", "GET", *path).body,
        tasks={name: shown for name, (shown, _) in read.items()},
        histories={name: history for name, (_, history) in read.items()},
    )


@dataclass
class _WorkerPool:
    """Workers of a replay: one of them handles each attempt."""

    api: ApiClient
    plan: ReplayPlan
    queue: WorkQueue
    execution_id: str
    speed: float | None
    stop: Event = field(default_factory=Event)
    answers: list[RequestResult] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    received: list[ReceivedAttempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = Lock()
        self._calls = BoundedSemaphore(CALLS_AT_ONCE)
        self._plans = {task_plan.task.task_id: task_plan for task_plan in self.plan.tasks}
        self._seen: set[tuple[str, int]] = set()
        self._playing: list[Future[None]] = []
        tasks = self.api.paginate("reader", "executions", self.execution_id, "tasks")
        self._issued = {(task["taskId"], task["attempt"]): task["taskExecutionId"] for task in tasks}

    def receive(self, pool: ThreadPoolExecutor) -> None:
        """Start an attempt that the queue delivered; one that is delivered twice is recorded, and handled once."""
        while not self.stop.is_set():
            for assignment in self.queue.take(at_most=10):
                key = (assignment.task_id, assignment.attempt)
                again = key in self._seen
                self._seen.add(key)
                self._issued[key] = assignment.task_execution_id
                self.received.append(ReceivedAttempt(*key, time.monotonic(), again))
                if not again:
                    self._playing.append(pool.submit(self.play, assignment))

    def check(self) -> None:
        """Raise the error of a worker, if one failed."""
        for future in self._playing:
            future.result()

    def play(self, assignment: Assignment) -> None:
        """Follow the script of an attempt; an attempt without one goes well."""
        plan = self._plans[assignment.task_id]
        is_planned = assignment.attempt <= len(plan.attempts)
        attempt = plan.attempts[assignment.attempt - 1] if is_planned else normal_attempt(plan.task, assignment.attempt)
        started = time.monotonic()
        for batch in attempt.requests:
            if self.speed:
                time.sleep(max(started + batch[0].share * plan.task.runtime_seconds / self.speed - time.monotonic(), 0))
            if self._send(batch):
                break
        if not attempt.is_killed:
            self.queue.delete(assignment)

    def _send(self, batch: RequestBatch) -> bool:
        """Send a request; return True if the task was sealed, so that further requests are useless."""
        with self._calls:
            sent_at = time.monotonic()
            results, wait = _send(self.api, self.execution_id, batch, self._issued, sent_at)
        with self._lock:
            self.answers += results
            self.waits.append(wait)
        return any(result.outcome is ExpectedOutcome.SEALED for result in results)


def _until_over(
    api: ApiClient,
    execution_id: str,
    receiving: "Future[None]",
    stall_seconds: float,
    on_counts: Callable[[dict[str, int]], None],
) -> None:
    """Wait until the service has closed the execution, and cancelled open tasks if it failed."""
    last: dict[str, int] = {}
    moved_at = time.monotonic()
    while True:
        execution = api.request("reader", "GET", "executions", execution_id).body
        counts = {name: count for name, count in execution["counts"].items() if count}
        if counts != last:
            last, moved_at = counts, time.monotonic()
            on_counts(counts)
        if execution["status"] != "RUNNING" and not _OPEN & set(counts):
            return
        if receiving.done():
            receiving.result()
        if time.monotonic() - moved_at > stall_seconds:
            return  # the comparison names the missing parts
        time.sleep(_POLL_SECONDS)


def _check_speed(speed: float | None) -> None:
    if speed is not None and not speed > 0:
        raise ValueError(f"SPEED is how many seconds of the trace pass in one second, above 0, not {speed:g}")


def _task_body(plan: TaskPlan, speed: float | None) -> dict[str, Any]:
    # The service detects a killed worker after the time-out and the running time of the work
    work = ceil(plan.task.runtime_seconds / speed) if speed else 0
    body: dict[str, Any] = {
        "taskId": plan.task.task_id,
        "input": plan.task.input,
        "dependsOn": list(plan.task.parents),
        "retryPolicy": {**RETRY_POLICY, "maxAttempts": plan.max_attempts},
        "onFailure": "continue" if plan.continues_on_failure else "abort",
    }
    if plan.timeout_seconds is not None:
        body["timeoutSeconds"] = plan.timeout_seconds + work
    if plan.heartbeat_timeout_seconds is not None:
        body["heartbeatTimeoutSeconds"] = plan.heartbeat_timeout_seconds + work
    return body


_Issued = dict[tuple[str, int], str]


def _send(
    api: ApiClient, execution_id: str, batch: RequestBatch, issued: _Issued, sent_at: float
) -> tuple[list[RequestResult], Wait]:
    bodies = [_body(scripted, issued) for scripted in batch]
    if len(batch) > 1:
        results, wait = _send_batch(api, execution_id, batch, bodies)
        return [replace(result, sent_at=sent_at) for result in results], wait
    (planned,), (body,) = batch, bodies
    route = "heartbeat" if planned.is_heartbeat else "status"
    try:
        reply = api.request("worker", "POST", "executions", execution_id, "tasks", planned.task_id, route, body=body)
    except ApiError as error:
        if not error.is_final:
            raise
        rejected = RequestResult(
            planned, ExpectedOutcome.REFUSED, None, str(error.problem.get("detail", error)), sent_at=sent_at
        )
        return [rejected], Wait(time.monotonic() - sent_at, error.sends > 1)
    again = reply.sends > 1
    return [_answered(planned, reply.body, sent_at, again=again)], Wait(reply.seconds, again)


def _send_batch(
    api: ApiClient, execution_id: str, scripted_requests: Sequence[ScriptedRequest], bodies: Sequence[dict[str, Any]]
) -> tuple[list[RequestResult], Wait]:
    """Send a batch, and repeat the part of it for which the service was too busy."""
    results_by_index: dict[int, RequestResult] = {}
    waiting = list(range(len(scripted_requests)))
    unsure = False
    started = time.monotonic()
    deadline = started + _BUSY_SECONDS
    while waiting:
        reply = _post_batch(api, execution_id, [(scripted_requests[index], bodies[index]) for index in waiting])
        results = dict(zip(waiting, reply.body["results"], strict=True))
        unsure = unsure or reply.sends > 1
        waiting = []
        for index, result in results.items():
            if "verdict" in result:
                results_by_index[index] = _answered(scripted_requests[index], result, 0.0, again=False)
            elif result["status"] == _TOO_BUSY and time.monotonic() < deadline:
                waiting.append(index)
                unsure = True
            else:
                results_by_index[index] = RequestResult(
                    scripted_requests[index], ExpectedOutcome.REFUSED, None, result["problem"]["detail"]
                )
        if waiting:
            time.sleep(_POLL_SECONDS)
    wait = Wait(time.monotonic() - started, unsure)
    return [
        replace(results_by_index[index], may_be_processed_twice=unsure) for index in range(len(scripted_requests))
    ], wait


def _post_batch(api: ApiClient, execution_id: str, reports: Sequence[tuple[ScriptedRequest, dict[str, Any]]]) -> Reply:
    statuses = [{"taskId": request.task_id, **body} for request, body in reports]
    return api.request("worker", "POST", "executions", execution_id, "statuses", body={"statuses": statuses})


def _body(request: ScriptedRequest, issued: _Issued) -> dict[str, Any]:
    return (
        request.body
        if request.attempt_ref is None
        else {**request.body, "taskExecutionId": issued[request.attempt_ref]}
    )


def _answered(request: ScriptedRequest, response: dict[str, Any], sent_at: float, *, again: bool) -> RequestResult:
    version = response["task"]["version"]
    if request.is_heartbeat:
        end = ExpectedOutcome.GO_ON if response["continue"] else ExpectedOutcome.STOP
        return RequestResult(request, end, version, response.get("reason", ""), again, sent_at)
    return RequestResult(
        request, ExpectedOutcome(response["verdict"]), version, "", again, sent_at, response.get("retry")
    )


def _chunks(bodies: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Split task bodies into requests that are small enough; there is always at least one."""
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


def _replay_and_show(
    api: ApiClient, stack: Stack, plan: ReplayPlan, *, speed: float | None, chaos: float, seed: int
) -> int:
    console = result_console()
    trace = plan.trace
    pace = f"{speed:g} times as fast as it was" if speed else "the work takes no time"
    console.print(
        f"[bold]{escape(trace.name)}[/bold]: {len(trace.tasks)} tasks, {trace.seconds:,.0f} s of work, {pace}",
    )
    console.print(
        f"chaos {chaos:g}, seed {seed}: {plan.faulty_tasks} tasks get into trouble, {plan.faulty_deliveries} "
        f"starts and successes are disturbed, the execution must end {plan.ends}",
    )
    execution_id = f"replay-{uuid4()}"
    console.print(f"execution {execution_id}", style="dim")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        attached_queue(stack, api, execution_id) as queue,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task("tasks", total=len(plan.tasks))

        def show(counts: dict[str, int]) -> None:
            over = sum(count for name, count in counts.items() if name not in _OPEN)
            progress.update(bar, completed=over)

        outcome = replay(api, plan, queue, execution_id, speed=speed, on_counts=show)
    if plan.faulty_deliveries or plan.faulty_tasks:
        console.print(faults_table(plan))
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
        f"[green]All checks passed:[/green] the execution is {plan.ends}, no task began before its parents were done, "
        "each retry was opened once, no success was overwritten, every report is in the history.",
    )
    return 0
