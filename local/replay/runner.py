"""Replay of a recorded run against the local cloud, with workers that fail and die, and a check of its end.

The execution is created with the run's own dependencies. The workers receive tasks from a queue as the service
schedules them, and follow the plan; the run is over when the service has closed the execution, not when they are done.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from threading import BoundedSemaphore, Event, Lock
from typing import Any, Final
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from local.api_client import ApiClient, ApiError
from local.backoff import DEADLINE_SECONDS
from local.cloud.stack import ROOT, LocalCloudError, Stack, StateDir
from local.replay.check import LedgerSnapshot, ReceivedAttempt, RequestResult, differences, is_consistent
from local.replay.plan import make_plan
from local.replay.scripts import ExpectedOutcome, ReplayPlan, RequestBatch, ScriptedAttempt, TaskPlan
from local.replay.sending import send_requests
from local.replay.summary import ReplayResult, print_plan, print_result
from local.replay.tables import Wait, result_console
from local.replay.task_faults import normal_attempt
from local.replay.trace import TraceError, read_trace
from local.worker import Assignment, WorkQueue

SAMPLE_TRACE: Final = ROOT / "events" / "traces" / "workflow-trace.json"
CONCURRENT_REQUESTS: Final = 4
RETRY_POLICY: Final = {"initialSeconds": 1, "multiplier": 2, "maxSeconds": 60, "jitter": 0.2}

_MOST_WORKERS: Final = 64
_TASKS_A_REQUEST: Final = 500
_BYTES_A_REQUEST: Final = 1_000_000
_HISTORY_SECONDS: Final = 60.0
_STALL_SECONDS: Final = 90.0
_POLL_SECONDS: Final = 0.3
_LONGEST_NAME: Final = 255
_WRONG_USE: Final = 2
_INTERRUPTED: Final = 130
_OPEN: Final = frozenset({"PENDING", "SCHEDULED", "IN_PROGRESS"})


def run_replay(
    stack_file: Path,
    trace: Path | None,
    speed: float | None,
    chaos: float,
    seed: int,
    expected_status: str | None = None,
) -> int:
    """Replay a trace; print the plan, the progress and the result.

    Parameters
    ----------
    stack_file
        `stack.json` of the running local cloud.
    trace
        An instance in WfFormat 1.5; None for the sample of this project.
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
    print_plan(result_console(), plan, speed=speed, chaos=chaos, seed=seed)
    return _replay_and_print(stack, plan, speed)


def _replay_and_print(stack: Stack, plan: ReplayPlan, speed: float | None) -> int:
    console = result_console()
    try:
        with ApiClient(stack) as api:
            result = _replay_with_progress(console, api, stack, plan, speed)
    except (ApiError, LocalCloudError, BotoCoreError, ClientError) as error:
        print(f"Replay failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Replay stopped; the execution and all reports so far stay in the local cloud.", file=sys.stderr)
        return _INTERRUPTED
    print_result(console, plan, result)
    return 1 if result.differences else 0


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
    """Create the plan's execution, work on it until the service has ended it, read its state and compare it.

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
        If a request fails or the local cloud cannot be reached.
    """
    create_planned_execution(api, plan, execution_id, speed=speed)
    workers = _WorkerPool(api, plan, queue, execution_id, speed)
    seconds = _run_workers(workers, on_counts)
    ledger = read_ledger(api, execution_id)
    return ReplayResult(
        results=workers.results,
        waits=workers.waits,
        received=workers.received,
        seconds=seconds,
        ledger=ledger,
        differences=differences(plan, workers.results, workers.received, ledger),
    )


def _run_workers(workers: "_WorkerPool", on_counts: Callable[[dict[str, int]], None]) -> float:
    """Let the workers run until the execution has ended; return the duration in seconds."""
    started = time.monotonic()
    tasks = workers.plan.tasks
    longest = max(task_plan.task.runtime_seconds for task_plan in tasks) / workers.speed if workers.speed else 0.0
    threads = min(_MOST_WORKERS, len(tasks))
    with ThreadPoolExecutor(threads, "worker") as pool, ThreadPoolExecutor(1, "queue") as receiver:
        receiving = receiver.submit(workers.receive, pool)
        try:
            _wait_for_end(workers.api, workers.execution_id, receiving, _STALL_SECONDS + longest, on_counts)
            seconds = time.monotonic() - started
        finally:
            workers.stop.set()
    workers.raise_error()
    return seconds


def create_planned_execution(
    api: ApiClient, plan: ReplayPlan, execution_id: str, *, speed: float | None = None
) -> None:
    """Create an execution with the plan's tasks and their dependencies; safe to repeat.

    Raises
    ------
    ApiError, LocalCloudError
        As `ApiClient.request`.
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
        As `ApiClient.request`.
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

    with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
        read = dict(zip(names, pool.map(read_task, names), strict=True))
    return LedgerSnapshot(
        execution=api.request("reader", "GET", *path).body,
        tasks={name: shown for name, (shown, _) in read.items()},
        histories={name: history for name, (_, history) in read.items()},
    )


@dataclass
class _WorkerPool:
    """Workers of a replay; each attempt is handled by one of them."""

    api: ApiClient
    plan: ReplayPlan
    queue: WorkQueue
    execution_id: str
    speed: float | None
    stop: Event = field(default_factory=Event)
    results: list[RequestResult] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    received: list[ReceivedAttempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = Lock()
        self._request_slots = BoundedSemaphore(CONCURRENT_REQUESTS)
        self._plans = {task_plan.task.task_id: task_plan for task_plan in self.plan.tasks}
        self._seen: set[tuple[str, int]] = set()
        self._attempts: list[Future[None]] = []
        tasks = self.api.paginate("reader", "executions", self.execution_id, "tasks")
        self._attempt_ids = {(task["taskId"], task["attempt"]): task["taskExecutionId"] for task in tasks}

    def receive(self, pool: ThreadPoolExecutor) -> None:
        """Start each attempt that the queue delivers; a repeated delivery is recorded, but not started again."""
        while not self.stop.is_set():
            for assignment in self.queue.take(at_most=10):
                key = (assignment.task_id, assignment.attempt)
                is_repeated = key in self._seen
                self._seen.add(key)
                self._attempt_ids[key] = assignment.task_execution_id
                self.received.append(ReceivedAttempt(*key, time.monotonic(), is_repeated))
                if not is_repeated:
                    self._attempts.append(pool.submit(self._follow_script, assignment))

    def raise_error(self) -> None:
        """Raise the error of a worker, if one failed."""
        for future in self._attempts:
            future.result()

    def _follow_script(self, assignment: Assignment) -> None:
        plan = self._plans[assignment.task_id]
        attempt = _script(plan, assignment.attempt)
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
        with self._request_slots:
            sent_at = time.monotonic()
            results, wait = send_requests(self.api, self.execution_id, batch, self._attempt_ids, sent_at)
        with self._lock:
            self.results += results
            self.waits.append(wait)
        return any(result.outcome is ExpectedOutcome.SEALED for result in results)


def _script(plan: TaskPlan, attempt: int) -> ScriptedAttempt:
    """Return the script of an attempt; an attempt that was not planned succeeds."""
    return plan.attempts[attempt - 1] if attempt <= len(plan.attempts) else normal_attempt(plan.task, attempt)


def _wait_for_end(
    api: ApiClient,
    execution_id: str,
    receiving: "Future[None]",
    stall_seconds: float,
    on_counts: Callable[[dict[str, int]], None],
) -> None:
    """Wait until the service has ended the execution, and has cancelled its open tasks if it failed."""
    last: dict[str, int] = {}
    changed_at = time.monotonic()
    while True:
        execution = api.request("reader", "GET", "executions", execution_id).body
        counts = {name: count for name, count in execution["counts"].items() if count}
        if counts != last:
            last, changed_at = counts, time.monotonic()
            on_counts(counts)
        if execution["status"] != "RUNNING" and not _OPEN & set(counts):
            return
        if receiving.done():
            receiving.result()
        if time.monotonic() - changed_at > stall_seconds:
            return  # the comparison names the missing parts
        time.sleep(_POLL_SECONDS)


def _check_speed(speed: float | None) -> None:
    if speed is not None and not speed > 0:
        raise ValueError(f"SPEED, the seconds of the trace that pass in one second, must be above 0, not {speed:g}")


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


def _replay_with_progress(
    console: Console, api: ApiClient, stack: Stack, plan: ReplayPlan, speed: float | None
) -> ReplayResult:
    execution_id = f"replay-{uuid4()}"
    console.print(f"execution {execution_id}", style="dim")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        attached_queue(stack, api, execution_id) as queue,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task("tasks", total=len(plan.tasks))

        def show(counts: dict[str, int]) -> None:
            ended = sum(count for name, count in counts.items() if name not in _OPEN)
            progress.update(bar, completed=ended)

        return replay(api, plan, queue, execution_id, speed=speed, on_counts=show)
