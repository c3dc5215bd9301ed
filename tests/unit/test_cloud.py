"""The local cloud's process is told from all others: those of other programs, and those of other folders."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.cloud import Cloud, _is_emulator
from local.stack import Home, LocalCloudError

ENDED = 2**22 + 1  # more than any process number
"""The number of a process that does not run."""


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[int]:
    """A process whose command is long before it says what it is, as it is in a deep folder."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", str(tmp_path / ("deep" * 40)), "ministack"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # noqa: S603 - the arguments are ours
        yield process.pid
        process.terminate()


def note_start(home: Home, pid: int, started_for: Path) -> None:
    noted = {"pid": pid, "port": 4566, "home": str(started_for)}
    home.path.mkdir(parents=True, exist_ok=True)
    (home.path / "ministack.pid").write_text(json.dumps(noted), encoding="utf-8")


def test_emulator_in_a_deep_folder_is_known_also_in_a_narrow_terminal(
    emulator: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    assert _is_emulator(emulator)


def test_emulator_of_this_folder_is_found(emulator: int, tmp_path: Path) -> None:
    home = Home(tmp_path / "project")
    note_start(home, emulator, home.path)

    assert Cloud.running(home) == Cloud(emulator, 4566, str(home.path))
    assert not Cloud.was_cut_short(home)


def test_copy_of_a_folder_does_not_take_the_originals_emulator_for_its_own(emulator: int, tmp_path: Path) -> None:
    original, copy = Home(tmp_path / "original"), Home(tmp_path / "copy")
    for home in (original, copy):
        note_start(home, emulator, original.path)

    assert Cloud.running(copy) is None
    assert not Cloud.was_cut_short(copy)


def test_folder_that_was_moved_under_its_emulator_says_how_to_go_on(emulator: int, tmp_path: Path) -> None:
    moved = Home(tmp_path / "moved")
    note_start(moved, emulator, tmp_path / "gone")

    with pytest.raises(LocalCloudError, match=f"kill {emulator}"):
        Cloud.running(moved)


def test_emulator_that_ended_without_being_stopped_was_cut_short(tmp_path: Path) -> None:
    home = Home(tmp_path)
    note_start(home, ENDED, home.path)

    assert Cloud.running(home) is None
    assert Cloud.was_cut_short(home)


def test_folder_in_which_nothing_was_started_was_not_cut_short(tmp_path: Path) -> None:
    assert not Cloud.was_cut_short(Home(tmp_path))
