"""Result of a replay, and its output: the plan before it, the tables and the differences after it."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from local.replay.check import LedgerSnapshot, ReceivedAttempt, RequestResult
from local.replay.scripts import ReplayPlan
from local.replay.tables import (
    Wait,
    failures_table,
    faults_table,
    rates_line,
    service_actions_table,
    verdicts_table,
    waits_table,
)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """Result of a replay.

    Attributes
    ----------
    results, waits
        Result of each request, and the time that its sender waited for each response.
    received
        Attempts from the queue, in order of receipt.
    seconds
        Time from the first assignment to the execution's end.
    differences
        Differences from the plan, one sentence each.
    """

    results: Sequence[RequestResult]
    waits: Sequence[Wait]
    received: Sequence[ReceivedAttempt]
    seconds: float
    ledger: LedgerSnapshot
    differences: Sequence[str]


def print_plan(console: Console, plan: ReplayPlan, *, speed: float | None, chaos: float, seed: int) -> None:
    """Print the trace, the pace of the replay and the number of faults."""
    trace = plan.trace
    pace = f"replayed at {speed:g} times the speed" if speed else "replayed without waiting for the work"
    console.print(
        f"[bold]{escape(trace.name)}[/bold]: {len(trace.tasks)} tasks, {trace.seconds:,.0f} s of work, {pace}",
    )
    console.print(
        f"chaos {chaos:g}, seed {seed}: faults in the work on {plan.faulty_tasks} tasks and in the delivery of "
        f"{plan.faulty_deliveries} starts and successes; the execution must end {plan.ends}",
    )


def print_result(console: Console, plan: ReplayPlan, result: ReplayResult) -> None:
    """Print the tables of a replay, and each difference or that there is none."""
    if plan.faulty_deliveries or plan.faulty_tasks:
        console.print(faults_table(plan))
    console.print(verdicts_table(result.results))
    failures = failures_table(result.ledger)
    if failures.row_count:
        console.print(failures)
    console.print(service_actions_table(result.results, result.ledger))
    console.print(waits_table(result.waits))
    console.print(rates_line(result.results, result.waits, result.seconds))
    for difference in result.differences:
        console.print(f"[red]CHECK FAILED[/red] {escape(difference)}")
    if result.differences:
        console.print(f"[red]Failed checks: {len(result.differences)}[/red]")
        return
    console.print(
        f"[green]All checks passed:[/green] the execution ended {plan.ends}, no task was started before its "
        "dependencies were done, each retry was opened once, no success was overwritten, every report is in the "
        "history.",
    )
