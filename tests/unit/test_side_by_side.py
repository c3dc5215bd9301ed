"""`make test` runs two parts side by side: the status and the output of both count."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.__main__ import ROOT, exit_status, run
from tests.polling import poll

OK, FAILED, INTERRUPTED, NONE = (
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.INTERRUPTED,
    pytest.ExitCode.NO_TESTS_COLLECTED,
)
PASSES: Final = "def test_good(): print('seen in the first')\n"
FAILS: Final = "def test_bad(): assert not 'seen in the second'\n"
WAITS: Final = """
import time
import pytest

@pytest.fixture(scope="session")
def cloud(request):
    yield
    open(__file__ + ".stopped", "w").close()

def test_long(cloud):
    open(__file__ + ".started", "w").close()
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("statuses", "whole"),
    [
        ((OK, OK), OK),
        ((OK, NONE), OK),
        ((NONE, OK), OK),
        ((NONE, NONE), NONE),
        ((FAILED, OK), FAILED),
        ((OK, FAILED), FAILED),
        ((NONE, FAILED), FAILED),
        ((INTERRUPTED, NONE), INTERRUPTED),
    ],
)
def test_no_part_that_fails_is_hidden_by_another(statuses: tuple[int, int], whole: int) -> None:
    assert exit_status(statuses) == whole


def test_both_parts_are_shown_and_arguments_reach_both(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # given
    first, second = tmp_path / "test_first.py", tmp_path / "test_second.py"
    first.write_text(PASSES, encoding="utf-8")
    second.write_text(FAILS, encoding="utf-8")

    # when
    statuses = {
        name: run(["-rP", "-p", "no:cacheprovider", "-k", name], [str(first)], [str(second)])
        for name in ("good", "neither", "good or bad")
    }
    shown = capfd.readouterr().out

    # then
    assert statuses == {"good": OK, "neither": NONE, "good or bad": FAILED}
    assert "seen in the first" in shown
    assert "seen in the second" in shown


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_what_a_part_has_started_is_stopped_when_all_is_interrupted(tmp_path: Path, sent: signal.Signals) -> None:
    # given
    parts = [tmp_path / "test_first.py", tmp_path / "test_second.py"]
    for part in parts:
        part.write_text(WAITS, encoding="utf-8")
    code = f"from tests.__main__ import main; main([], [{str(parts[0])!r}], [{str(parts[1])!r}])"
    process = subprocess.Popen(  # noqa: S603 - our own
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL
    )
    poll(lambda: all(part.with_name(f"{part.name}.started").exists() for part in parts))

    # when
    process.send_signal(sent)

    # then
    assert process.wait(60) == INTERRUPTED
    assert all(part.with_name(f"{part.name}.stopped").exists() for part in parts)
