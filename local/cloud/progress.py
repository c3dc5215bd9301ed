"""Progress of steps on the terminal, kept apart from output that is piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

# Progress goes to standard error: standard output is only for a command's result
console = Console(file=sys.stderr, highlight=False, soft_wrap=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Show a running step, then its result and its duration in seconds."""
    began = time.monotonic()
    if not console.is_terminal:
        console.print(f"... {what}")
    with console.status(what):
        try:
            yield
        except BaseException:
            console.print(f"[red]failed[/red] {what} ({time.monotonic() - began:.1f} s)")
            raise
    console.print(f"[green]ok[/green] {what} ({time.monotonic() - began:.1f} s)")


def show_tail(path: Path, lines: int = 40) -> None:
    """Show the last lines of a log after a failure."""
    if not path.exists():
        return
    console.print(f"[bold]The end of {path}:[/bold]")
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]:
        console.print(line, markup=False)
