"""The demonstration: what the service is for, told on a night at a small observatory, to somebody new to it.

Everything it tells is checked on the way; whatever is not as told is named, and the demonstration ends as failed.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from rich.console import Console
from rich.table import Column, Table

from local.api import Api, ApiError
from local.delivery_plan import MAX_BATCH, Plan, make_plan, output_of
from local.outcome_check import has_caught_up
from local.replay import SAMPLE_TRACE, create_execution, read_ledger, replay
from local.stack import Home, LocalCloudError, Stack
from local.tables import (
    clock,
    history_table,
    rates_line,
    result_console,
    status,
    tasks_table,
    verdicts_table,
)
from local.trace import Trace, TraceTask, read_trace

_CHAOS: Final = 0.6
_SEED: Final = 2026
_RETRY_AFTER_SECONDS: Final = 45
_WHO_WIDTH: Final = 10


@dataclass(frozen=True)
class _Stage:
    """Where the story is told, and what was found not to be as told."""

    api: Api
    console: Console
    faults: list[str] = field(default_factory=list)

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

    def report(self, execution_id: str, task_id: str, **said: Any) -> dict[str, Any]:
        """Report on a task, and show what was said and what was answered."""
        path = ("executions", execution_id, "tasks", task_id, "status")
        answer: dict[str, Any] = self.api.call("worker", "POST", *path, body=said).body
        task = answer["task"]
        words = " ".join(str(said[name]) for name in ("status", "failureReason") if name in said)
        self.line("worker", f"{task_id}: [bold]{words}[/bold]")
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
    except (ApiError, LocalCloudError) as error:
        print(f"The demonstration broke off: {error}", file=sys.stderr)
        return 1
    for fault in stage.faults:
        stage.console.print("NOT AS TOLD", fault, style="red", markup=False)
    return 1 if stage.faults else 0


def _tell(stage: _Stage, stack: Stack, trace: Trace) -> None:
    stage.chapter("Tasklatch")
    stage.tell(
        "Workers report how an attempt at a task ended. Networks repeat, delay and reorder what they say. The ledger "
        "answers each report with a verdict, and a success, once recorded, is never overwritten.",
    )
    execution_id = _create(stage, trace)
    first, contested, *others = trace.tasks
    _succeed(stage, execution_id, first)
    _fail(stage, execution_id, contested)
    _contest(stage, execution_id, contested)
    _finish_others(stage, execution_id, others)
    _show_ledger(stage, execution_id, trace, contested)
    _batch(stage)
    _replay(stage, make_plan(trace, chaos=_CHAOS, seed=_SEED))
    _go_on(stage, stack, execution_id)


def _create(stage: _Stage, trace: Trace) -> str:
    stage.chapter(f"1. An execution: {trace.name}, {len(trace.tasks)} tasks")
    execution_id = create_execution(stage.api, trace, f"demo-{uuid4()}")
    shown = stage.api.call("reader", "GET", "executions", execution_id).body
    stage.expect("tasks of the execution", shown["counts"], {"SCHEDULED": len(trace.tasks)})
    stage.tell("A small observatory takes a picture of the northern lights: three cameras, one panorama.")
    stage.line("operator", f"creates {execution_id}")
    stage.line("ledger", f"{shown['status']}; {shown['taskCount']} tasks wait for a worker")
    return execution_id


def _succeed(stage: _Stage, execution_id: str, task: TraceTask) -> None:
    stage.chapter("2. A worker starts, and succeeds")
    started = stage.report(execution_id, task.task_id, status="IN_PROGRESS", attempt=1)
    stage.expect("verdict on a start", started["verdict"], "applied")
    done = stage.report(execution_id, task.task_id, status="COMPLETED", attempt=1, output=output_of(task))
    stage.expect("verdict on a success", done["verdict"], "applied")


def _fail(stage: _Stage, execution_id: str, task: TraceTask) -> None:
    stage.chapter("3. Another fails, and learns at once what follows")
    stage.report(execution_id, task.task_id, status="IN_PROGRESS", attempt=1)
    answer = stage.report(
        execution_id,
        task.task_id,
        status="FAILED",
        attempt=1,
        failureReason="RATE_LIMITED",
        message="the camera's queue is full",
        retryAfterSeconds=_RETRY_AFTER_SECONDS,
    )
    retry = answer["retry"]
    stage.expect("will it be retried", (retry["willRetry"], retry["nextAttempt"]), (True, 2))
    stage.line("", f"willRetry: attempt {retry['nextAttempt']}, notBefore {clock(retry['notBefore'])} UTC")
    stage.line("", f"why: {retry['reason']}")


def _contest(stage: _Stage, execution_id: str, task: TraceTask) -> None:
    stage.chapter("4. It was not dead: its success arrives, then its failure again")
    done = stage.report(execution_id, task.task_id, status="COMPLETED", attempt=1, output=output_of(task))
    stage.expect("verdict on a success after a failure", done["verdict"], "applied")
    late = stage.report(execution_id, task.task_id, status="FAILED", attempt=1, failureReason="RETRYABLE_ERROR")
    stage.expect("verdict on a failure after a success", late["verdict"], "ignored_after_success")
    stage.expect("status after a late failure", late["task"]["status"], "COMPLETED")
    stage.expect("version after a late failure", late["task"]["version"], done["task"]["version"])
    stage.tell("The success stands; the late failure changed nothing, and is kept in the task's history all the same.")


def _finish_others(stage: _Stage, execution_id: str, tasks: list[TraceTask]) -> None:
    statuses = [
        {"taskId": task.task_id, "status": "COMPLETED", "attempt": 1, "output": output_of(task)} for task in tasks
    ]
    verdicts, _ = _send_batch(stage, execution_id, statuses)
    stage.expect("verdicts on the other tasks", verdicts, {"applied": len(tasks)})


def _show_ledger(stage: _Stage, execution_id: str, trace: Trace, contested: TraceTask) -> None:
    stage.chapter("5. The ledger, and the history of the task that was fought over")
    stage.tell(f"The other {len(trace.tasks) - 2} tasks were reported in one batch.")
    ledger = read_ledger(stage.api, execution_id)
    stage.console.print(tasks_table(ledger.tasks.values()))
    stage.tell(f"History of [bold]{contested.task_id}[/bold] (times UTC):")
    history = ledger.histories[contested.task_id]
    stage.console.print(history_table(history))
    stage.expect("the execution's counts", ledger.execution["counts"], {"COMPLETED": len(trace.tasks)})
    for name, shown in ledger.tasks.items():
        stage.expect(f"every change of {name} is in its history", has_caught_up(shown, ledger.histories[name]), True)
    told = [(entry["status"], entry["verdict"]) for entry in history]
    expected = [
        *((name, "applied") for name in ("PENDING", "SCHEDULED", "IN_PROGRESS", "FAILED", "COMPLETED")),
        ("FAILED", "ignored_after_success"),
    ]
    stage.expect("the history of the contested task", told, expected)


def _batch(stage: _Stage) -> None:
    stage.chapter(f"6. {MAX_BATCH} reports in one request, and the same request again")
    execution_id = f"demo-batch-{uuid4()}"
    names = [f"frame-{number:03d}" for number in range(1, MAX_BATCH + 1)]
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
        stage.expect(f"verdicts on a batch ({expected})", verdicts, {expected: MAX_BATCH})


def _send_batch(stage: _Stage, execution_id: str, statuses: list[dict[str, Any]]) -> tuple[Mapping[str, int], float]:
    """Send a batch; give how often each verdict, or refusal, was answered, and the seconds that it took."""
    began = time.monotonic()
    reply = stage.api.call("worker", "POST", "executions", execution_id, "statuses", body={"statuses": statuses})
    counts: dict[str, int] = {}
    for result in reply.body["results"]:
        outcome = result.get("verdict", str(result["status"]))
        counts[outcome] = counts.get(outcome, 0) + 1
    return counts, time.monotonic() - began


def _replay(stage: _Stage, plan: Plan) -> None:
    stage.chapter(
        f"7. The whole night again, with {plan.disturbed} of its {2 * len(plan.trace.tasks)} reports disturbed"
    )
    stage.tell("Delivered twice, too late, out of order, under another id, for an attempt that never was:")
    outcome = replay(stage.api, plan)
    stage.console.print(verdicts_table(outcome.answers))
    stage.tell(rates_line(outcome.answers, [sent.seconds for sent in outcome.sent], outcome.seconds))
    stage.faults.extend(outcome.differences)
    if not outcome.differences:
        stage.tell(
            f"[green]{len(plan.trace.tasks)} of {len(plan.trace.tasks)} tasks ended COMPLETED; every report is in "
            "the history.[/green]"
        )


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
