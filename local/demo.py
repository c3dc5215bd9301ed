"""Demonstration of the service for newcomers: one workflow of a small observatory, step by step.

Every step is checked. Failed checks are printed at the end, and the exit status is then 1.
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

from local.api_client import ApiClient, ApiError
from local.cloud.stack import LocalCloudError, Stack, StateDir
from local.replay.check import is_consistent
from local.replay.plan import make_plan
from local.replay.runner import SAMPLE_TRACE, attached_queue, create_planned_execution, read_ledger, replay
from local.replay.scripts import ReplayPlan, expected_output
from local.replay.tables import (
    failures_table,
    history_table,
    rates_line,
    result_console,
    status,
    tasks_table,
    time_of_day,
    verdicts_table,
    waits_table,
)
from local.replay.trace import Trace, TraceTask, read_trace
from local.watch import ExecutionFeed, StatusUpdate, format_update
from local.worker import Assignment, WorkQueue

_CHAOS: Final = 0.6
_SEED: Final = 2026
_RETRY_AFTER_SECONDS: Final = 3
_MAX_RETRY_DELAY_SECONDS: Final = 10
"""Maximum delay of a retry after `notBefore`, for slow machines; the output shows the actual delay."""

_QUEUE_SECONDS: Final = 30.0
_BATCH: Final = 100
_FEED_LINES: Final = 12
_ACTOR_WIDTH: Final = 10


@dataclass
class _Demo:
    """State of a running demonstration: API client, console, failed checks and received assignments."""

    api: ApiClient
    console: Console
    failures: list[str] = field(default_factory=list)
    received: dict[tuple[str, int], Assignment] = field(default_factory=dict)

    def print_heading(self, title: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{title}[/bold]", align="left")

    def print_text(self, text: str) -> None:
        self.console.print(text)

    def print_line(self, actor: str, text: str) -> None:
        """Print an actor and its action in two columns, so that a long text wraps in its own column."""
        table = Table.grid(Column(width=_ACTOR_WIDTH), Column(), padding=(0, 1))
        table.add_row(f"  {actor}", text)
        self.console.print(table)

    def check(self, subject: str, actual: Any, expected: Any) -> None:
        if actual != expected:
            self.failures.append(f"{subject}: got {actual!r}, expected {expected!r}")

    def take(self, queue: WorkQueue, task: TraceTask, attempt: int = 1) -> Assignment:
        """Wait for an attempt from the queue and print it; keep the assignments that arrive before it.

        Raises
        ------
        LocalCloudError
            If the attempt does not arrive within 30 s.
        """
        key = (task.task_id, attempt)
        ends = time.monotonic() + _QUEUE_SECONDS
        while key not in self.received:
            if time.monotonic() > ends:
                raise LocalCloudError(f"attempt {attempt} of {task.task_id} did not arrive in the workers' queue")
            for assignment in queue.take(at_most=10):
                self.received[assignment.task_id, assignment.attempt] = assignment
                queue.delete(assignment)
        self.print_line("queue", f"delivers {task.task_id}, attempt {attempt}")
        return self.received[key]

    def report(self, assignment: Assignment, **fields: Any) -> dict[str, Any]:
        """Report on an attempt; print the report and the response."""
        body = {**fields, "taskExecutionId": assignment.task_execution_id}
        response: dict[str, Any] = self.api.request("worker", "POST", *assignment.path, "status", body=body).body
        task = response["task"]
        reason = f" ({fields['failureReason']})" if "failureReason" in fields else ""
        self.print_line(
            "worker",
            f"reports [bold]{fields['status']}[/bold]{reason} for {assignment.task_id}, attempt {assignment.attempt}",
        )
        self.print_line(
            "ledger", f"verdict {response['verdict']}: task is {status(task['status'])}, version {task['version']}"
        )
        return response


def run_demo(stack_file: Path) -> int:
    """Run the demonstration against the running local cloud.

    Returns
    -------
    int
        0 if every check passed, 1 if a check or a request failed, 2 if the local cloud is not running.
    """
    try:
        stack = Stack.load(StateDir(stack_file.parent))
    except LocalCloudError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        with ApiClient(stack) as api:
            demo = _Demo(api, result_console())
            _run(demo, stack, read_trace(SAMPLE_TRACE))
    except (ApiError, LocalCloudError, BotoCoreError, ClientError) as error:
        print(f"The demonstration failed: {error}", file=sys.stderr)
        return 1
    for failure in demo.failures:
        demo.console.print("CHECK FAILED", failure, style="red", markup=False)
    return 1 if demo.failures else 0


def _run(demo: _Demo, stack: Stack, trace: Trace) -> None:
    demo.print_heading("Tasklatch")
    demo.print_text(
        "Workers report the status of their attempts at tasks. Reports can arrive twice, late and out of order. The "
        "service records them in a ledger and responds to each with a verdict. A success, once recorded, is never "
        "overwritten.",
    )
    execution_id = f"demo-{uuid4()}"
    first, limited, contested, *others = trace.tasks
    with attached_queue(stack, demo.api, execution_id) as queue, ThreadPoolExecutor(1) as watcher:
        _create(demo, execution_id, trace)
        watching = watcher.submit(lambda: list(ExecutionFeed(demo.api, execution_id).updates()))
        try:
            _succeed(demo, queue, first)
            failed = _fail(demo, queue, limited)
            _succeed_after_failure(demo, queue, contested)
            _succeed_in_second_attempt(demo, queue, limited, failed)
            for task in others:
                demo.report(demo.take(queue, task), status="COMPLETED", output=expected_output(task))
        except BaseException:
            # The watcher ends only with the execution, and after an error no further step would end it
            demo.api.request("operator", "POST", "executions", execution_id, "cancel", body={})
            raise
        updates = watching.result()
    _show_feed(demo, trace, updates)
    _show_ledger(demo, execution_id, trace, contested)
    _batch(demo)
    _replay(demo, stack, make_plan(trace, chaos=_CHAOS, seed=_SEED, ends="COMPLETED"))
    _print_next_steps(demo, stack, execution_id)


def _create(demo: _Demo, execution_id: str, trace: Trace) -> None:
    demo.print_heading(f"1. Create an execution: {trace.name}, {len(trace.tasks)} tasks")
    create_planned_execution(demo.api, make_plan(trace), execution_id)
    shown = demo.api.request("reader", "GET", "executions", execution_id).body
    demo.check("tasks of the execution", shown["counts"], {"SCHEDULED": 1, "PENDING": len(trace.tasks) - 1})
    demo.print_text("A small observatory photographs the northern lights: three cameras, one panorama.")
    demo.print_line("operator", f"creates {execution_id}")
    demo.print_line(
        "ledger",
        f"execution is {shown['status']}: 1 task is scheduled, {len(trace.tasks) - 1} wait for their dependencies",
    )


def _succeed(demo: _Demo, queue: WorkQueue, task: TraceTask) -> None:
    demo.print_heading("2. A worker receives a task and succeeds")
    taken = demo.take(queue, task)
    started = demo.report(taken, status="IN_PROGRESS")
    demo.check("verdict on a start", started["verdict"], "applied")
    done = demo.report(taken, status="COMPLETED", output=expected_output(task))
    demo.check("verdict on a success", done["verdict"], "applied")
    demo.print_text("The tasks that depend on it are now scheduled.")


def _fail(demo: _Demo, queue: WorkQueue, task: TraceTask) -> dict[str, Any]:
    demo.print_heading("3. A worker fails, and the response says when the task is retried")
    taken = demo.take(queue, task)
    demo.report(taken, status="IN_PROGRESS")
    response = demo.report(
        taken,
        status="FAILED",
        failureReason="RATE_LIMITED",
        message="the camera's queue is full",
        retryAfterSeconds=_RETRY_AFTER_SECONDS,
    )
    retry: dict[str, Any] = response["retry"]
    demo.check("retry decision", (retry["willRetry"], retry["nextAttempt"]), (True, 2))
    demo.print_line("", f"retry: attempt {retry['nextAttempt']}, not before {time_of_day(retry['notBefore'])} UTC")
    demo.print_line("", f"reason: {retry['reason']}")
    return retry


def _succeed_after_failure(demo: _Demo, queue: WorkQueue, task: TraceTask) -> None:
    demo.print_heading("4. A success arrives after a failure of the same attempt, then another failure")
    taken = demo.take(queue, task)
    demo.report(taken, status="FAILED", failureReason="RETRYABLE_ERROR", retryAfterSeconds=60)
    done = demo.report(taken, status="COMPLETED", output=expected_output(task))
    demo.check("verdict on a success after a failure", done["verdict"], "applied")
    late = demo.report(taken, status="FAILED", failureReason="RATE_LIMITED")
    demo.check("verdict on a failure after a success", late["verdict"], "ignored_after_success")
    demo.check("status after a late failure", late["task"]["status"], "COMPLETED")
    demo.check("version after a late failure", late["task"]["version"], done["task"]["version"])
    demo.print_text("The success stands and the pending retry is cancelled. The history keeps the late failure too.")


def _succeed_in_second_attempt(demo: _Demo, queue: WorkQueue, task: TraceTask, failed: Mapping[str, Any]) -> None:
    demo.print_heading("5. The retry of step 3 starts on time")
    taken = demo.take(queue, task, attempt=2)
    shown = demo.api.request("reader", "GET", *taken.path).body
    opened = [
        entry
        for entry in demo.api.paginate("reader", *taken.path, "history")
        if entry["status"] == "SCHEDULED" and entry["attempt"] == shown["attempt"]
    ]
    demo.check("number of times that the second attempt was opened", len(opened), 1)
    delay = _parse_timestamp(opened[0]["at"]) - _parse_timestamp(failed["notBefore"])
    demo.print_line(
        "ledger", f"opened attempt 2 at {time_of_day(opened[0]['at'])} UTC, {delay:.1f} s after the announced time"
    )
    demo.check("retry is on time", 0 <= delay <= _MAX_RETRY_DELAY_SECONDS, expected=True)
    demo.report(taken, status="COMPLETED", output=expected_output(task))
    old = demo.received[task.task_id, 1]
    stale = demo.report(old, status="FAILED", failureReason="UNAUTHORIZED")
    demo.check("verdict on the first attempt's late failure", stale["verdict"], "ignored_after_success")
    demo.print_text(
        "The success of a newer attempt also outweighs late failures of older ones. The remaining tasks succeed:"
    )


def _show_feed(demo: _Demo, trace: Trace, updates: Sequence[StatusUpdate]) -> None:
    demo.print_heading("6. Live updates over a WebSocket connection")
    live_updates = [update for update in updates if not update.is_listed]
    shown = f"; the last {_FEED_LINES}" if len(live_updates) > _FEED_LINES else ""
    demo.print_text(f"A client that watched the execution received {len(live_updates)} changes{shown} (times in UTC):")
    for update in live_updates[-_FEED_LINES:]:
        demo.console.print(f"  {format_update(update)}")
    last = {update.task_id: update.status for update in updates}
    expected = dict.fromkeys((None, *(task.task_id for task in trace.tasks)), "COMPLETED")
    demo.check("last status of each task that the watcher received", last, expected)


def _show_ledger(demo: _Demo, execution_id: str, trace: Trace, contested: TraceTask) -> None:
    demo.print_heading("7. The ledger, and the history of the task of step 4")
    ledger = read_ledger(demo.api, execution_id)
    demo.print_line("ledger", f"execution is {status(ledger.execution['status'])}")
    demo.console.print(tasks_table(ledger.tasks.values()))
    demo.print_text(f"History of [bold]{contested.task_id}[/bold] (times in UTC):")
    history = ledger.histories[contested.task_id]
    demo.console.print(history_table(history))
    demo.check("status of the execution", ledger.execution["status"], "COMPLETED")
    demo.check("counts of the execution", ledger.execution["counts"], {"COMPLETED": len(trace.tasks)})
    for name, shown in ledger.tasks.items():
        demo.check(f"history of {name} is complete", is_consistent(shown, ledger.histories[name]), True)
    verdicts = [(entry["status"], entry["verdict"]) for entry in history]
    expected = [
        *((name, "applied") for name in ("PENDING", "SCHEDULED", "FAILED", "COMPLETED")),
        ("FAILED", "ignored_after_success"),
    ]
    demo.check("history of the contested task", verdicts, expected)


def _batch(demo: _Demo) -> None:
    demo.print_heading(f"8. {_BATCH} reports in one request, and the same request again")
    execution_id = f"demo-batch-{uuid4()}"
    names = [f"frame-{number:03d}" for number in range(1, _BATCH + 1)]
    body = {
        "executionId": execution_id,
        "name": "a hundred frames",
        "tasks": [{"taskId": name} for name in names],
    }
    demo.api.request("operator", "POST", "executions", body=body)
    statuses = [
        {"taskId": name, "status": "COMPLETED", "attempt": 1, "output": {"stars": 40 + number}}
        for number, name in enumerate(names)
    ]
    for expected in ("applied", "duplicate"):
        verdicts, seconds = _send_batch(demo, execution_id, statuses)
        shown = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
        demo.print_text(f"  {seconds * 1000:5.0f} ms  {shown}")
        demo.check(f"verdicts on a batch ({expected})", verdicts, {expected: _BATCH})


def _send_batch(demo: _Demo, execution_id: str, statuses: list[dict[str, Any]]) -> tuple[Mapping[str, int], float]:
    """Send a batch; return the count of each verdict or error status, and the duration in seconds."""
    started = time.monotonic()
    reply = demo.api.request("worker", "POST", "executions", execution_id, "statuses", body={"statuses": statuses})
    counts: dict[str, int] = {}
    for result in reply.body["results"]:
        outcome = result.get("verdict", str(result["status"]))
        counts[outcome] = counts.get(outcome, 0) + 1
    return counts, time.monotonic() - started


def _replay(demo: _Demo, stack: Stack, plan: ReplayPlan) -> None:
    demo.print_heading("9. The same workflow with injected faults")
    demo.print_text(
        f"At {plan.faulty_tasks} of {len(plan.tasks)} tasks workers fail or are killed. {plan.faulty_deliveries} "
        "starts and successes are delivered twice, late or with another id:",
    )
    execution_id = f"replay-{uuid4()}"
    with attached_queue(stack, demo.api, execution_id) as queue:
        outcome = replay(demo.api, plan, queue, execution_id)
    demo.console.print(verdicts_table(outcome.results))
    demo.console.print(failures_table(outcome.ledger))
    demo.console.print(waits_table(outcome.waits))
    demo.print_text(rates_line(outcome.results, outcome.waits, outcome.seconds))
    demo.failures.extend(outcome.differences)
    if not outcome.differences:
        demo.print_text(
            "[green]All checks passed:[/green] the execution ended COMPLETED, each retry was opened once, every "
            "report is in the history."
        )


def _parse_timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _print_next_steps(demo: _Demo, stack: Stack, execution_id: str) -> None:
    demo.print_heading("Next steps")
    url = f"{stack.api_url}/v1/executions/{execution_id}/tasks"
    demo.print_text("These commands need the running local cloud (make up starts it).")
    demo.print_text("\nList the tasks of the execution:")
    demo.console.print(
        f"curl -H \"Authorization: Bearer $(make token CLIENT=reader)\" '{url}'",
        soft_wrap=True,
        markup=False,
    )
    demo.print_text("\nRun the workflow again with other faults:")
    demo.print_text("make replay CHAOS=0.5 SEED=7")
    demo.print_text("\nRead the API documentation in a browser:")
    demo.console.print(f"{stack.api_url}/v1/docs", soft_wrap=True, markup=False)
