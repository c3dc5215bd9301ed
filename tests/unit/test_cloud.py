"""The local cloud's process is told from all others."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.cloud import _is_emulator


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[int]:
    """A process whose command is long before it says what it is, as it is in a deep folder."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", str(tmp_path / ("deep" * 40)), "ministack"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # noqa: S603 - the arguments are ours
        yield process.pid
        process.terminate()


def test_emulator_in_a_deep_folder_is_known_also_in_a_narrow_terminal(
    emulator: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    assert _is_emulator(emulator)
