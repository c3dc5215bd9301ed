"""Runs every benchmark, each in a process of its own; shows and keeps the figures, and says which goals are not met."""

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
BENCHMARKS: Final = ("report_overhead", "alternatives", "batch_time", "cold_start", "cost", "scale")
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
    kept = {
        variable: os.environ[variable] for variable in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if variable in os.environ
    }
    with tempfile.TemporaryDirectory() as folder:
        told, log = Path(folder) / "figures.json", Path(folder) / "log"
        with log.open("wb") as output:
            done = subprocess.run(  # noqa: S603 - a module of this package
                [sys.executable, "-m", f"tests.benchmarks.{name}", str(told)],
                cwd=ROOT,
                # Without the SDK's native parts: this machine may have them, the layer has not
                env=kept | ENVIRONMENT | {"PYTHONPATH": "layers/tasklatch", "BOTO_DISABLE_CRT": "true"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                timeout=_LONGEST_SECONDS,
                check=False,
            )
        if done.returncode:
            raise SystemExit(f"{name} did not end well")
        return [Figure(**one) for one in json.loads(told.read_text(encoding="utf-8"))]


def counts_table(figures: Sequence[Figure]) -> Table:
    """What was counted: a line for each case, a column for each thing."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Counted, for each; $ for a million, and less bus and live", no_wrap=True)
    for unit in dict.fromkeys(one.unit for one in figures):
        table.add_column(unit, justify="right")
    for case in dict.fromkeys(one.name for one in figures):
        table.add_row(case, *(_number(one.value) for one in figures if one.name == case))
    return table


def comparison_table(figures: Sequence[Figure]) -> Table:
    """The alternatives side by side: a line for each figure, a column for each handler."""
    names = list(dict.fromkeys(one.name for one in figures))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=True)
    for column in ("A report", *names):
        table.add_column(column)
    cells = {(one.unit, one.name): one.text or _number(one.value) for one in figures}
    # Sequences last: they take several lines
    for unit in dict.fromkeys(one.unit for one in sorted(figures, key=lambda one: one.text is not None)):
        table.add_row(unit, *(cells.get((unit, name), "") for name in names))
    return table


def table_of(figures: Sequence[Figure]) -> Table:
    """The figures, a line each."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, justify in (("", "left"), ("", "left"), ("Figure", "right"), ("Quartiles", "right"), ("Goal", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for one in figures:
        spread = " to ".join(map(_number, one.spread)) if one.spread else ""
        goal = "" if one.goal is None else f"{_number(one.goal)} [{'green]met' if one.met else 'red]NOT MET'}[/]"
        table.add_row(one.benchmark, one.name, f"{_number(one.value)} {one.unit}", spread, goal)
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
    """What the figures were taken on."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
    }


def missed(figures: Sequence[Figure]) -> list[str]:
    """Say which goals are not met."""
    return [
        f"{one.benchmark}: {one.name}: {_number(one.value)} {one.unit}, at most {_number(one.goal or 0)}"
        for one in figures
        if not one.met
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
                "figures": [asdict(one) | {"met": one.met} for one in measured],
            },
            indent=1,
        ),
        encoding="utf-8",
    )
    output = Console(width=160)
    counted = [one for one in measured if one.benchmark in COUNTED and one.unit != "x"]
    compared = [one for one in measured if one.benchmark == alternatives.NAME and one.unit != "x"]
    if others := [one for one in measured if one not in counted and one not in compared]:
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
