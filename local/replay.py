"""Replays a recorded run against a deployment, disturbed as deliveries are, and checks that it ended as it had to."""

import heapq
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from local.api import Api, ApiError, Reply
from local.delivery_plan import Delivery, End, Plan, Sending, make_plan
from local.outcome_check import Answered, Ledger, differences, has_caught_up
from local.stack import ROOT, Home, LocalCloudError, Stack
from local.tables import disturbances_table, rates_line, result_console, verdicts_table
from local.trace import Trace, TraceError, read_trace

SAMPLE_TRACE: Final = ROOT / "events" / "workflow-trace.json"
WORKERS: Final = 4
_TASKS_A_REQUEST: Final = 500
_BYTES_A_REQUEST: Final = 1_000_000
_HISTORY_SECONDS: Final = 60.0
_BUSY_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.2
_LONGEST_NAME: Final = 255
_WRONG_USE: Final = 2
_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that was answered: what each of its deliveries got, and how many seconds the answer took."""

    answers: tuple[Answered, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A replay that is over.

    Attributes
    ----------
    seconds
        How long the deliveries took, all together.
    differences
        What is not as it had to be, one sentence each.
    """

    execution_id: str
    sent: Sequence[Sent]
    seconds: float
    ledger: Ledger
    differences: Sequence[str]

    @property
    def answers(self) -> list[Answered]:
        """What each delivery got, in the order in which the answers came."""
        return [answered for sent in self.sent for answered in sent.answers]


def run_replay(stack_file: Path, trace: Path | None, speed: float | None, chaos: float, seed: int) -> int:
    """Replay a trace and show how it went.

    Parameters
    ----------
    stack_file
        What ``make up`` wrote.
    trace
        An instance in WfFormat 1.5; None for the sample that comes with the project.
    speed
        Seconds of the trace that pass in one second; None for as fast as it goes.
    chaos
        The share of starts and successes, 0 to 1, whose delivery is disturbed.
    seed
        The same seed disturbs the same deliveries in the same way.

    Returns
    -------
    int
        0 if all ended as it had to, 1 if anything did not, 2 if it could not begin.
    """
    try:
        _check_speed(speed)
        plan = make_plan(read_trace(trace or SAMPLE_TRACE), chaos=chaos, seed=seed)
        stack = Stack.load(Home(stack_file.parent))
    except (TraceError, ValueError, LocalCloudError) as error:
        print(error, file=sys.stderr)
        return _WRONG_USE
    try:
        with Api(stack) as api:
            return _replay_and_show(api, plan, speed=speed, chaos=chaos, seed=seed)
    except (ApiError, LocalCloudError) as error:
        print(f"The replay broke off: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; what was delivered so far stays in the ledger.", file=sys.stderr)
        return _INTERRUPTED


def replay(
    api: Api,
    plan: Plan,
    *,
    speed: float | None = None,
    on_answer: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Create an execution for a plan's trace, deliver what is planned, read everything back and compare.

    Parameters
    ----------
    speed
        Seconds of the trace that pass in one second; None for as fast as it goes.
    on_answer
        Told after each request how many deliveries were answered.

    Raises
    ------
    ApiError, LocalCloudError
        If the service does not take part.
    """
    execution_id = create_execution(api, plan.trace, f"replay-{uuid4()}")
    tasks = api.pages("reader", "executions", execution_id, "tasks")
    issued = {task["taskId"]: task["taskExecutionId"] for task in tasks}
    began = time.monotonic()
    sent = []
    for one in _deliver(plan, lambda sending: send(api, execution_id, sending.deliveries, issued), speed):
        sent.append(one)
        on_answer(len(one.answers))
    seconds = time.monotonic() - began
    ledger = read_ledger(api, execution_id)
    answers = [answered for one in sent for answered in one.answers]
    return Outcome(execution_id, sent, seconds, ledger, differences(plan, answers, ledger))


def create_execution(api: Api, trace: Trace, execution_id: str) -> str:
    """Create an execution with a task for each of the trace's; safe to be sent twice.

    Raises
    ------
    ApiError, LocalCloudError
        As `Api.call`.
    """
    first, *others = _chunks([{"taskId": task.task_id, "input": task.input} for task in trace.tasks])
    name = "".join(character if character.isprintable() else " " for character in trace.name)[:_LONGEST_NAME]
    body = {"executionId": execution_id, "name": name, "tasks": first}
    api.call("operator", "POST", "executions", body=body)
    for chunk in others:
        api.call("operator", "POST", "executions", execution_id, "tasks", body={"tasks": chunk})
    return execution_id


def send(api: Api, execution_id: str, deliveries: Sequence[Delivery], issued: dict[str, str]) -> Sent:
    """Send one request: alone what is alone, else as a batch.

    Parameters
    ----------
    issued
        The `taskExecutionId` of each task's attempt.

    Raises
    ------
    ApiError, LocalCloudError
        If the service does not take it; a refusal of the report itself is an answer.
    """
    bodies = [_body(delivery, issued) for delivery in deliveries]
    if len(deliveries) > 1:
        return _send_batch(api, execution_id, deliveries, bodies)
    (delivery,), (body,) = deliveries, bodies
    route = "heartbeat" if delivery.is_heartbeat else "status"
    began = time.monotonic()
    try:
        reply = api.call("worker", "POST", "executions", execution_id, "tasks", delivery.task_id, route, body=body)
    except ApiError as error:
        if not HTTPStatus.BAD_REQUEST <= error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        refused = Answered(delivery, End.REFUSED, None, str(error.problem.get("detail", error)))
        return Sent((refused,), time.monotonic() - began)
    return Sent((_answered(delivery, reply.body, again=reply.sends > 1),), reply.seconds)


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
        shown = api.call("reader", "GET", *path, "tasks", name).body
        while True:
            history = list(api.pages("reader", *path, "tasks", name, "history"))
            if has_caught_up(shown, history) or time.monotonic() > ends:
                return shown, history
            time.sleep(_POLL_SECONDS)

    with ThreadPoolExecutor(WORKERS) as pool:
        read = dict(zip(names, pool.map(read_task, names), strict=True))
    return Ledger(
        execution=api.call("reader", "GET", *path).body,
        tasks={name: shown for name, (shown, _) in read.items()},
        histories={name: history for name, (_, history) in read.items()},
    )


def _check_speed(speed: float | None) -> None:
    if speed is not None and not speed > 0:
        raise ValueError(f"SPEED is how many seconds of the trace pass in one second, above 0, not {speed:g}")


def _deliver(plan: Plan, send_one: Callable[[Sending], Sent], speed: float | None) -> Iterator[Sent]:
    """Send each request as soon as it is due and what it must follow is answered, a few side by side."""
    sorter = TopologicalSorter({sending.number: sending.after for sending in plan.sendings})
    sorter.prepare()
    began = time.monotonic()
    ready: list[int] = []
    running: dict[Future[Sent], int] = {}

    def seconds_until_due(number: int) -> float:
        return began + plan.sendings[number].at / speed - time.monotonic() if speed else 0.0

    with ThreadPoolExecutor(WORKERS) as pool:
        while sorter.is_active():
            for number in sorter.get_ready():
                heapq.heappush(ready, number)
            while ready and len(running) < WORKERS and seconds_until_due(ready[0]) <= 0:
                number = heapq.heappop(ready)
                running[pool.submit(send_one, plan.sendings[number])] = number
            pause = max(seconds_until_due(ready[0]), 0) if ready and len(running) < WORKERS else None
            if not running:
                time.sleep(pause or 0)
                continue
            done, _ = wait(running, timeout=pause, return_when=FIRST_COMPLETED)
            for future in done:
                sorter.done(running.pop(future))
                yield future.result()


def _send_batch(api: Api, execution_id: str, deliveries: Sequence[Delivery], bodies: Sequence[dict[str, Any]]) -> Sent:
    """Send a batch, and again those of it that the service was too busy for."""
    answers: dict[int, Answered] = {}
    waiting = list(range(len(deliveries)))
    unsure: set[str] = set()
    seconds = 0.0
    ends = time.monotonic() + _BUSY_SECONDS
    while waiting:
        reply = _post_batch(api, execution_id, [(deliveries[index], bodies[index]) for index in waiting])
        seconds += reply.seconds
        results = dict(zip(waiting, reply.body["results"], strict=True))
        if reply.sends > 1:
            unsure |= {deliveries[index].task_id for index in waiting}
        waiting = []
        for index, result in results.items():
            if result["status"] == HTTPStatus.SERVICE_UNAVAILABLE and time.monotonic() < ends:
                waiting.append(index)
                unsure.add(deliveries[index].task_id)
            elif result["status"] == HTTPStatus.OK:
                answers[index] = _answered(deliveries[index], result, again=False)
            else:
                answers[index] = Answered(deliveries[index], End.REFUSED, None, result["problem"]["detail"])
        if waiting:
            time.sleep(_POLL_SECONDS)
    return Sent(
        tuple(
            replace(answers[index], may_have_been_taken_twice=delivery.task_id in unsure)
            for index, delivery in enumerate(deliveries)
        ),
        seconds,
    )


def _post_batch(api: Api, execution_id: str, reports: Sequence[tuple[Delivery, dict[str, Any]]]) -> Reply:
    statuses = [{"taskId": delivery.task_id, **body} for delivery, body in reports]
    return api.call("worker", "POST", "executions", execution_id, "statuses", body={"statuses": statuses})


def _body(delivery: Delivery, issued: dict[str, str]) -> dict[str, Any]:
    return delivery.said if delivery.id_of is None else {**delivery.said, "taskExecutionId": issued[delivery.id_of]}


def _answered(delivery: Delivery, answer: dict[str, Any], *, again: bool) -> Answered:
    if delivery.is_heartbeat:
        end = End.GO_ON if answer["continue"] else End.STOP
        return Answered(delivery, end, answer["task"]["version"], answer.get("reason", ""), again)
    return Answered(delivery, End(answer["verdict"]), answer["task"]["version"], "", again)


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


def _replay_and_show(api: Api, plan: Plan, *, speed: float | None, chaos: float, seed: int) -> int:
    console = result_console()
    trace = plan.trace
    pace = f"{speed:g} times as fast as it was" if speed else "as fast as it goes"
    console.print(
        f"[bold]{escape(trace.name)}[/bold]: {len(trace.tasks)} tasks, {trace.seconds:,.0f} s of work, {pace}; "
        f"{plan.disturbed} of {2 * len(trace.tasks)} starts and successes disturbed (chaos {chaos:g}, seed {seed})",
    )
    columns = (TextColumn("delivering"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=sum(1 for _ in plan.deliveries))
        outcome = replay(api, plan, speed=speed, on_answer=lambda count: progress.advance(bar, count))
    console.print(f"execution {outcome.execution_id}", style="dim")
    if plan.disturbed:
        console.print(disturbances_table(plan))
    console.print(verdicts_table(outcome.answers))
    console.print(rates_line(outcome.answers, [sent.seconds for sent in outcome.sent], outcome.seconds))
    for difference in outcome.differences:
        console.print(f"[red]DIFFERENT[/red] {escape(difference)}")
    if outcome.differences:
        console.print(f"[red]{len(outcome.differences)} differences.[/red]")
        return 1
    console.print(
        f"[green]As it had to be:[/green] {len(trace.tasks)} of {len(trace.tasks)} tasks COMPLETED with the trace's "
        "own output, no success overwritten, every report in the history.",
    )
    return 0
