"""The demonstration: what the service is for, told on a night at a small observatory, to somebody new to it.

Everything it tells is checked on the way; whatever is not as told is named, and the demonstration ends as failed.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.table import Column, Table

from local.api import Api, ApiError
from local.delivery_plan import Plan, make_plan, output_of
from local.outcome_check import has_caught_up
from local.replay import SAMPLE_TRACE, create_execution, queue_of, read_ledger, replay
from local.stack import Home, LocalCloudError, Stack
from local.tables import (
    clock,
    failures_table,
    history_table,
    rates_line,
    result_console,
    status,
    tasks_table,
    verdicts_table,
    waits_table,
)
from local.trace import Trace, TraceTask, read_trace
from local.watch import Feed, Update, line_of
from local.worker import Assignment, WorkQueue

_CHAOS: Final = 0.6
_SEED: Final = 2026
_RETRY_AFTER_SECONDS: Final = 3
_PUNCTUAL_SECONDS: Final = 10
"""How late a retry may be on a slow machine; it is shown how late it was."""

_PATIENCE_SECONDS: Final = 30.0
_BATCH: Final = 100
_LINES_OF_FEED: Final = 12
_WHO_WIDTH: Final = 10


@dataclass
class _Stage:
    """Where the story is told, and what was found not to be as told."""

    api: Api
    console: Console
    faults: list[str] = field(default_factory=list)
    came: dict[tuple[str, int], Assignment] = field(default_factory=dict)

    def chapter(self, title: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{title}[/bold]", align="left")

    def tell(self, text: str) -> None:
        self.console.print(text)

    def line(self, who: str, text: str) -> None:
        """Show who says what, a long text under itself."""
        table = Table.grid(Column(width=_WHO_WIDTH), Column(), padding=(0, 1))
        table.add_row(f"  {who}", text)
        self.console.print(table)

    def expect(self, what: str, found: Any, expected: Any) -> None:
        if found != expected:
            self.faults.append(f"{what}: {found!r}, not {expected!r}")

    def take(self, queue: WorkQueue, task: TraceTask, attempt: int = 1) -> Assignment:
        """Wait for an attempt to come out of the queue, keep what comes before it, and show it.

        Raises
        ------
        LocalCloudError
            If it does not come.
        """
        key = (task.task_id, attempt)
        ends = time.monotonic() + _PATIENCE_SECONDS
        while key not in self.came:
            if time.monotonic() > ends:
                raise LocalCloudError(f"attempt {attempt} at {task.task_id} did not come out of the queue")
            for assignment in queue.take(at_most=10):
                self.came[assignment.task_id, assignment.attempt] = assignment
                queue.delete(assignment)
        self.line("queue", f"attempt {attempt} at {task.task_id}")
        return self.came[key]

    def report(self, of: Assignment, **said: Any) -> dict[str, Any]:
        """Report on an attempt, and show what was said and what was answered."""
        body = {**said, "taskExecutionId": of.task_execution_id}
        answer: dict[str, Any] = self.api.call("worker", "POST", *of.path, "status", body=body).body
        task = answer["task"]
        words = " ".join(str(said[name]) for name in ("status", "failureReason") if name in said)
        self.line("worker", f"{of.task_id} #{of.attempt}: [bold]{words}[/bold]")
        self.line("ledger", f"{answer['verdict']}; the task is {status(task['status'])}, version {task['version']}")
        return answer


def run_demo(stack_file: Path) -> int:
    """Tell the story against the running local cloud.

    Returns
    -------
    int
        0 if everything was as told, 1 if anything was not, 2 if the local cloud is not up.
    """
    try:
        stack = Stack.load(Home(stack_file.parent))
    except LocalCloudError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        with Api(stack) as api:
            stage = _Stage(api, result_console())
            _tell(stage, stack, read_trace(SAMPLE_TRACE))
    except (ApiError, LocalCloudError, BotoCoreError, ClientError) as error:
        print(f"The demonstration failed: {error}", file=sys.stderr)
        return 1
    for fault in stage.faults:
        stage.console.print("CHECK FAILED", fault, style="red", markup=False)
    return 1 if stage.faults else 0


def _tell(stage: _Stage, stack: Stack, trace: Trace) -> None:
    stage.chapter("Tasklatch")
    stage.tell(
        "Workers report how an attempt at a task ended. Networks repeat, delay and reorder what they say. The ledger "
        "answers each report with a verdict, and a success, once recorded, is never overwritten.",
    )
    execution_id = f"demo-{uuid4()}"
    first, limited, contested, *others = trace.tasks
    with queue_of(stack, stage.api, execution_id) as queue, ThreadPoolExecutor(1) as watcher:
        _create(stage, execution_id, trace)
        watching = watcher.submit(lambda: list(Feed(stage.api, execution_id).updates()))
        try:
            _succeed(stage, queue, first)
            failed = _fail(stage, queue, limited)
            _contest(stage, queue, contested)
            _try_again(stage, queue, limited, failed)
            for task in others:
                stage.report(stage.take(queue, task), status="COMPLETED", output=output_of(task))
        except BaseException:
            # Nobody will end it any more, and the watch ends with it
            stage.api.call("operator", "POST", "executions", execution_id, "cancel", body={})
            raise
        updates = watching.result()
    _show_feed(stage, trace, updates)
    _show_ledger(stage, execution_id, trace, contested)
    _batch(stage)
    _replay(stage, stack, make_plan(trace, chaos=_CHAOS, seed=_SEED, ends="COMPLETED"))
    _go_on(stage, stack, execution_id)


def _create(stage: _Stage, execution_id: str, trace: Trace) -> None:
    stage.chapter(f"1. An execution: {trace.name}, {len(trace.tasks)} tasks")
    create_execution(stage.api, make_plan(trace), execution_id)
    shown = stage.api.call("reader", "GET", "executions", execution_id).body
    stage.expect("tasks of the execution", shown["counts"], {"SCHEDULED": 1, "PENDING": len(trace.tasks) - 1})
    stage.tell("A small observatory takes a picture of the northern lights: three cameras, one panorama.")
    stage.line("operator", f"creates {execution_id}")
    stage.line("ledger", f"{shown['status']}; one task can begin, {len(trace.tasks) - 1} wait for others")


def _succeed(stage: _Stage, queue: WorkQueue, task: TraceTask) -> None:
    stage.chapter("2. A worker takes a task from its queue, and succeeds")
    taken = stage.take(queue, task)
    started = stage.report(taken, status="IN_PROGRESS")
    stage.expect("verdict on a start", started["verdict"], "applied")
    done = stage.report(taken, status="COMPLETED", output=output_of(task))
    stage.expect("verdict on a success", done["verdict"], "applied")
    stage.tell("What waited for it comes out of the queue by itself.")


def _fail(stage: _Stage, queue: WorkQueue, task: TraceTask) -> dict[str, Any]:
    stage.chapter("3. Another fails, and learns at once what follows")
    taken = stage.take(queue, task)
    stage.report(taken, status="IN_PROGRESS")
    answer = stage.report(
        taken,
        status="FAILED",
        failureReason="RATE_LIMITED",
        message="the camera's queue is full",
        retryAfterSeconds=_RETRY_AFTER_SECONDS,
    )
    retry: dict[str, Any] = answer["retry"]
    stage.expect("will it be retried", (retry["willRetry"], retry["nextAttempt"]), (True, 2))
    stage.line("", f"willRetry: attempt {retry['nextAttempt']}, notBefore {clock(retry['notBefore'])} UTC")
    stage.line("", f"why: {retry['reason']}")
    return retry


def _contest(stage: _Stage, queue: WorkQueue, task: TraceTask) -> None:
    stage.chapter("4. A third was not dead: its success arrives, then its failure again")
    taken = stage.take(queue, task)
    stage.report(taken, status="FAILED", failureReason="RETRYABLE_ERROR", retryAfterSeconds=60)
    done = stage.report(taken, status="COMPLETED", output=output_of(task))
    stage.expect("verdict on a success after a failure", done["verdict"], "applied")
    late = stage.report(taken, status="FAILED", failureReason="RATE_LIMITED")
    stage.expect("verdict on a failure after a success", late["verdict"], "ignored_after_success")
    stage.expect("status after a late failure", late["task"]["status"], "COMPLETED")
    stage.expect("version after a late failure", late["task"]["version"], done["task"]["version"])
    stage.tell("The success stands and its retry is called off; the late failure is kept in the history all the same.")


def _try_again(stage: _Stage, queue: WorkQueue, task: TraceTask, failed: Mapping[str, Any]) -> None:
    stage.chapter("5. The second attempt opens when it was said to")
    taken = stage.take(queue, task, attempt=2)
    shown = stage.api.call("reader", "GET", *taken.path).body
    opened = [
        entry
        for entry in stage.api.pages("reader", *taken.path, "history")
        if entry["status"] == "SCHEDULED" and entry["attempt"] == shown["attempt"]
    ]
    stage.expect("how often the second attempt was opened", len(opened), 1)
    late = _moment(opened[0]["at"]) - _moment(failed["notBefore"])
    stage.line("ledger", f"opened it at {clock(opened[0]['at'])}, {late:.1f} s after notBefore")
    stage.expect("whether the retry was in time", 0 <= late <= _PUNCTUAL_SECONDS, expected=True)
    stage.report(taken, status="COMPLETED", output=output_of(task))
    old = stage.came[task.task_id, 1]
    stale = stage.report(old, status="FAILED", failureReason="UNAUTHORIZED")
    stage.expect("verdict on the first attempt's late failure", stale["verdict"], "ignored_after_success")
    stage.tell("The rest of the night goes well, one task after the other.")


def _show_feed(stage: _Stage, trace: Trace, updates: Sequence[Update]) -> None:
    stage.chapter("6. What somebody saw who watched it live")
    told = [update for update in updates if not update.is_listed]
    cut = f"; the last {_LINES_OF_FEED}" if len(told) > _LINES_OF_FEED else ""
    stage.tell(f"{len(told)} changes over the live socket{cut} (times UTC):")
    for update in told[-_LINES_OF_FEED:]:
        stage.console.print(f"  {line_of(update)}")
    last = {update.task_id: update.status for update in updates}
    expected = dict.fromkeys((None, *(task.task_id for task in trace.tasks)), "COMPLETED")
    stage.expect("what the watcher saw last", last, expected)


def _show_ledger(stage: _Stage, execution_id: str, trace: Trace, contested: TraceTask) -> None:
    stage.chapter("7. The ledger, and the history of the task that was fought over")
    ledger = read_ledger(stage.api, execution_id)
    stage.line("ledger", f"the execution is {status(ledger.execution['status'])}")
    stage.console.print(tasks_table(ledger.tasks.values()))
    stage.tell(f"History of [bold]{contested.task_id}[/bold] (times UTC):")
    history = ledger.histories[contested.task_id]
    stage.console.print(history_table(history))
    stage.expect("the execution's status", ledger.execution["status"], "COMPLETED")
    stage.expect("the execution's counts", ledger.execution["counts"], {"COMPLETED": len(trace.tasks)})
    for name, shown in ledger.tasks.items():
        stage.expect(f"every change of {name} is in its history", has_caught_up(shown, ledger.histories[name]), True)
    told = [(entry["status"], entry["verdict"]) for entry in history]
    expected = [
        *((name, "applied") for name in ("PENDING", "SCHEDULED", "FAILED", "COMPLETED")),
        ("FAILED", "ignored_after_success"),
    ]
    stage.expect("the history of the contested task", told, expected)


def _batch(stage: _Stage) -> None:
    stage.chapter(f"8. {_BATCH} reports in one request, and the same request again")
    execution_id = f"demo-batch-{uuid4()}"
    names = [f"frame-{number:03d}" for number in range(1, _BATCH + 1)]
    body = {
        "executionId": execution_id,
        "name": "a hundred frames",
        "tasks": [{"taskId": name} for name in names],
    }
    stage.api.call("operator", "POST", "executions", body=body)
    statuses = [
        {"taskId": name, "status": "COMPLETED", "attempt": 1, "output": {"stars": 40 + number}}
        for number, name in enumerate(names)
    ]
    for expected in ("applied", "duplicate"):
        verdicts, seconds = _send_batch(stage, execution_id, statuses)
        shown = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
        stage.tell(f"  {seconds * 1000:5.0f} ms  {shown}")
        stage.expect(f"verdicts on a batch ({expected})", verdicts, {expected: _BATCH})


def _send_batch(stage: _Stage, execution_id: str, statuses: list[dict[str, Any]]) -> tuple[Mapping[str, int], float]:
    """Send a batch; give how often each verdict, or refusal, was answered, and the seconds that it took."""
    began = time.monotonic()
    reply = stage.api.call("worker", "POST", "executions", execution_id, "statuses", body={"statuses": statuses})
    counts: dict[str, int] = {}
    for result in reply.body["results"]:
        outcome = result.get("verdict", str(result["status"]))
        counts[outcome] = counts.get(outcome, 0) + 1
    return counts, time.monotonic() - began


def _replay(stage: _Stage, stack: Stack, plan: Plan) -> None:
    stage.chapter("9. The whole night again, and much goes wrong")
    stage.tell(
        f"Workers fail and are killed at {plan.troubled} of {len(plan.tasks)} tasks; {plan.disturbed} starts and "
        "successes are delivered twice, too late, or under another id:",
    )
    execution_id = f"replay-{uuid4()}"
    with queue_of(stack, stage.api, execution_id) as queue:
        outcome = replay(stage.api, plan, queue, execution_id)
    stage.console.print(verdicts_table(outcome.answers))
    stage.console.print(failures_table(outcome.ledger))
    stage.console.print(waits_table(outcome.waits))
    stage.tell(rates_line(outcome.answers, outcome.waits, outcome.seconds))
    stage.faults.extend(outcome.differences)
    if not outcome.differences:
        stage.tell(
            "[green]The execution ended COMPLETED; each retry was opened once, every report is in the history.[/green]"
        )


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _go_on(stage: _Stage, stack: Stack, execution_id: str) -> None:
    stage.chapter("How to go on")
    url = f"{stack.api_url}/v1/executions/{execution_id}/tasks"
    stage.console.print(
        f"curl -H \"Authorization: Bearer $(make token CLIENT=reader)\" '{url}'",
        soft_wrap=True,
        markup=False,
    )
    stage.tell("make replay CHAOS=0.5 SEED=7")
    stage.console.print(f"The API, in a browser: {stack.api_url}/v1/docs", soft_wrap=True, markup=False)
