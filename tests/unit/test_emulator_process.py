"""The local cloud's process is distinguished from those of other programs and of other state folders."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.cloud.emulator_process import EmulatorProcess, _is_emulator
from local.cloud.stack import LocalCloudError, StateDir

ENDED = 2**22 + 1  # more than any process number
"""The number of a process that does not run."""


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[int]:
    """A process whose command is long before it says what it is, as it is in a deep folder."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", str(tmp_path / ("deep" * 40)), "ministack"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # noqa: S603 - the arguments are ours
        yield process.pid
        process.terminate()


def note_start(state_dir: StateDir, pid: int, started_for: Path) -> None:
    fields = {"pid": pid, "port": 4566, "state_dir": str(started_for)}
    state_dir.path.mkdir(parents=True, exist_ok=True)
    (state_dir.path / "ministack.pid").write_text(json.dumps(fields), encoding="utf-8")


def test_emulator_in_a_deep_folder_is_known_also_in_a_narrow_terminal(
    emulator: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    assert _is_emulator(emulator)


def test_emulator_of_this_folder_is_found(emulator: int, tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path / "project")
    note_start(state_dir, emulator, state_dir.path)

    assert EmulatorProcess.running(state_dir) == EmulatorProcess(emulator, 4566, str(state_dir.path))
    assert not EmulatorProcess.ended_unexpectedly(state_dir)


def test_copy_of_a_folder_does_not_take_the_originals_emulator_for_its_own(emulator: int, tmp_path: Path) -> None:
    original, copy = StateDir(tmp_path / "original"), StateDir(tmp_path / "copy")
    for state_dir in (original, copy):
        note_start(state_dir, emulator, original.path)

    assert EmulatorProcess.running(copy) is None
    assert not EmulatorProcess.ended_unexpectedly(copy)


def test_error_for_a_moved_folder_names_the_remedy(emulator: int, tmp_path: Path) -> None:
    moved = StateDir(tmp_path / "moved")
    note_start(moved, emulator, tmp_path / "gone")

    with pytest.raises(LocalCloudError, match=f"kill {emulator}"):
        EmulatorProcess.running(moved)


def test_emulator_that_ended_without_being_stopped_ended_unexpectedly(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    note_start(state_dir, ENDED, state_dir.path)

    assert EmulatorProcess.running(state_dir) is None
    assert EmulatorProcess.ended_unexpectedly(state_dir)


def test_folder_in_which_nothing_was_started_was_not_cut_short(tmp_path: Path) -> None:
    assert not EmulatorProcess.ended_unexpectedly(StateDir(tmp_path))
