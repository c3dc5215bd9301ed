"""Runner of every benchmark, each in a process of its own; prints and saves figures and missed goals."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks import alternatives
from tests.benchmarks.measure import Figure
from tests.conftest import ENVIRONMENT

ROOT: Final = Path(__file__).resolve().parents[2]
RESULT: Final = ROOT / ".local" / "bench.json"
BENCHMARKS: Final = ("report_overhead", "alternatives", "batch_time", "cold_start", "cost", "scale", "large_execution")
# Benchmarks whose figures are counts, many for each case
COUNTED: Final = ("cost", "scale")
_LONGEST_SECONDS: Final = 480


def run_all(names: Sequence[str]) -> list[Figure]:
    """Run benchmarks, one after the other."""
    console = Console(stderr=True)
    figures = []
    for name in names:
        began = time.monotonic()
        figures += _run(name)
        console.print(f"{name}: {time.monotonic() - began:.0f} s", style="dim")
    return figures


def _run(name: str) -> list[Figure]:
    stored = {
        variable: os.environ[variable] for variable in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if variable in os.environ
    }
    with tempfile.TemporaryDirectory() as folder:
        messages, log = Path(folder) / "figures.json", Path(folder) / "log"
        with log.open("wb") as output:
            done = subprocess.run(  # noqa: S603 - a module of this package
                [sys.executable, "-m", f"tests.benchmarks.{name}", str(messages)],
                cwd=ROOT,
                # Without the SDK's native parts: this machine may have them, the layer has not
                env=stored | ENVIRONMENT | {"PYTHONPATH": "layers/tasklatch", "BOTO_DISABLE_CRT": "true"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                timeout=_LONGEST_SECONDS,
                check=False,
            )
        if done.returncode:
            raise SystemExit(f"{name} did not end well")
        return [Figure(**load) for load in json.loads(messages.read_text(encoding="utf-8"))]


def counts_table(figures: Sequence[Figure]) -> Table:
    """Return a table of counts: a line for each case, a column for each amount."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Counted, for each; $ for a million, and less bus and live", no_wrap=True)
    for unit in dict.fromkeys(figure.unit for figure in figures):
        table.add_column(unit, justify="right")
    for case in dict.fromkeys(item.name for item in figures):
        table.add_row(case, *(_number(element.value) for element in figures if element.name == case))
    return table


def comparison_table(figures: Sequence[Figure]) -> Table:
    """Return a table of the alternatives side by side: a line for each figure, a column for each handler."""
    names = list(dict.fromkeys(figure.name for figure in figures))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=True)
    for column in ("A report", *names):
        table.add_column(column)
    cells = {(item.unit, item.name): item.text or _number(item.value) for item in figures}
    # Sequences last: they take several lines
    for unit in dict.fromkeys(entry.unit for entry in sorted(figures, key=lambda element: element.text is not None)):
        table.add_row(unit, *(cells.get((unit, name), "") for name in names))
    return table


def table_of(figures: Sequence[Figure]) -> Table:
    """Return a table of figures, a line each."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, justify in (("", "left"), ("", "left"), ("Figure", "right"), ("Quartiles", "right"), ("Goal", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for figure in figures:
        spread = " to ".join(map(_number, figure.spread)) if figure.spread else ""
        goal = (
            "" if figure.goal is None else f"{_number(figure.goal)} [{'green]met' if figure.met else 'red]NOT MET'}[/]"
        )
        table.add_row(figure.benchmark, figure.name, f"{_number(figure.value)} {figure.unit}", spread, goal)
    return table


def _number(value: float) -> str:
    return (
        f"{value:,.0f}"
        if value == int(value) and abs(value) > 1
        else f"{value:,.3g}"
        if value < 100
        else f"{value:,.0f}"
    )


def machine() -> dict[str, Any]:
    """Return a description of the machine."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
    }


def missed(figures: Sequence[Figure]) -> list[str]:
    """Return the goals that are not met."""
    return [
        f"{figure.benchmark}: {figure.name}: {_number(figure.value)} {figure.unit}, at most {_number(figure.goal or 0)}"
        for figure in figures
        if not figure.met
    ]


if __name__ == "__main__":
    before = machine()
    measured = run_all(sys.argv[1:] or BENCHMARKS)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps(
            {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": before,
                "figures": [asdict(first) | {"met": first.met} for first in measured],
            },
            indent=1,
        ),
        encoding="utf-8",
    )
    output = Console(width=160)
    counted = [value_item for value_item in measured if value_item.benchmark in COUNTED and value_item.unit != "x"]
    compared = [figure for figure in measured if figure.benchmark == alternatives.NAME and figure.unit != "x"]
    if others := [figure for figure in measured if figure not in counted and figure not in compared]:
        output.print(table_of(others))
    if compared:
        output.print(comparison_table(compared))
    if counted:
        output.print(counts_table(counted))
    output.print(
        f"Load of the machine before: {before['load'][0]:.1f} on {before['cores']} cores. Figures are in {RESULT}."
    )
    for line in missed(measured):
        output.print(f"[red]Goal not met:[/] {line}")
    sys.exit(1 if missed(measured) else 0)
