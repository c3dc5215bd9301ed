"""Run every test: those against the local cloud one by one, and beside them all others, which yield the processors.

The local cloud's tests share one cloud and wait often; what they leave idle is used by the others. Their output comes
as they run, the others' when both are done. Arguments are passed to pytest, for both: `python -m tests -k name`.
"""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
E2E: Final = ("tests/e2e",)
# The scan of the template is part of `make check`
OTHERS: Final = (
    "-n",
    "auto",
    "--maxprocesses",
    "4",
    "--ignore=tests/e2e",
    "--ignore=tests/template/test_scanner.py",
)
_YIELDS: Final = 5
"""Niceness of the others: the cloud's tests have deadlines."""


def exit_status(statuses: Iterable[int]) -> int:
    """Return the status of both runs: no tests collected counts only if it is so in all of them."""
    ran = [status for status in statuses if status != pytest.ExitCode.NO_TESTS_COLLECTED]
    return next((status for status in ran if status), 0) if ran else pytest.ExitCode.NO_TESTS_COLLECTED


@contextmanager
def _running(
    arguments: Sequence[str], output: IO[bytes] | None = None, *, niceness: int = 0
) -> Iterator[subprocess.Popen[bytes]]:
    """Run pytest; if the block ends early, interrupt it once, so that it stops what it has started."""
    process = subprocess.Popen(  # noqa: S603 - our own
        ["nice", "-n", str(niceness), sys.executable, "-m", "pytest", *arguments],  # noqa: S607 - found on the PATH
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        # Ctrl-C reaches this process alone: a second interrupt would break off the end of the first
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()


def run(arguments: Sequence[str], e2e: Sequence[str] = E2E, others: Sequence[str] = OTHERS) -> int:
    """Run both parts side by side; return the exit status of the whole."""
    with tempfile.TemporaryFile() as output:
        try:
            with (
                _running([*others, *arguments], output, niceness=_YIELDS) as second,
                _running([*e2e, *arguments]) as first,
            ):
                return exit_status([first.wait(), second.wait()])
        finally:
            output.seek(0)
            with suppress(BrokenPipeError):
                sys.stdout.write(output.read().decode(errors="replace"))
                sys.stdout.flush()


def main(arguments: Sequence[str], e2e: Sequence[str] = E2E, others: Sequence[str] = OTHERS) -> None:
    """Run both parts and exit with their status; SIGTERM ends them as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        sys.exit(run(arguments, e2e, others))
    except KeyboardInterrupt:
        sys.exit(pytest.ExitCode.INTERRUPTED)


if __name__ == "__main__":
    main(sys.argv[1:])
