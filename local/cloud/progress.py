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
def step(title: str) -> Iterator[None]:
    """Show a running step, then its result and its duration in seconds."""
    started = time.monotonic()
    if not console.is_terminal:
        console.print(f"... {title}")
    with console.status(title):
        try:
            yield
        except BaseException:
            console.print(f"[red]failed[/red] {title} ({time.monotonic() - started:.1f} s)")
            raise
    console.print(f"[green]ok[/green] {title} ({time.monotonic() - started:.1f} s)")


def show_tail(path: Path, lines: int = 40) -> None:
    """Show the last lines of a log after a failure."""
    if not path.exists():
        return
    console.print(f"[bold]Last lines of {path}:[/bold]")
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]:
        console.print(line, markup=False)
