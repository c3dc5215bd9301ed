"""Recorded runs against the local cloud: whatever happens to workers and deliveries, all ends as it had to."""

import json
from pathlib import Path

import pytest

from local.cloud.stack import ROOT, Stack, StateDir
from local.demo import run_demo
from local.replay.runner import SAMPLE_TRACE, run_replay

INSTANCES = ROOT.parent / "shared" / "data" / "wfinstances"
RECORDED = (
    ("helloworld-forkjoin-10-chameleon.json", "COMPLETED"),
    ("scrnaseq-dirt02-001.json", "FAILED"),
    ("1000genome-chameleon-2ch-100k-001.json", "COMPLETED"),
)


@pytest.mark.parametrize(("chaos", "ends"), [(0.0, "COMPLETED"), (1.0, "COMPLETED"), (0.5, "FAILED")])
def test_the_sample_trace_ends_as_planned(
    chaos: float, ends: str, stack: Stack, state_dir: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stack.work_queue_url

    status = run_replay(state_dir.stack_file, None, None, chaos, seed=11, expected_status=ends)

    shown = capsys.readouterr().out
    assert status == 0, shown
    assert f"must end {ends}" in " ".join(shown.split())


@pytest.mark.parametrize(("name", "ends"), RECORDED)
def test_a_recorded_run_ends_as_planned(
    name: str, ends: str, stack: Stack, state_dir: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (INSTANCES / name).exists():
        pytest.skip(f"{INSTANCES / name} is not on this machine")
    assert stack.work_queue_url

    status = run_replay(state_dir.stack_file, INSTANCES / name, None, 0.6, seed=3, expected_status=ends)

    assert status == 0, capsys.readouterr().out


def test_a_replay_keeps_the_requested_pace(
    stack: Stack, state_dir: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stack.work_queue_url

    status = run_replay(state_dir.stack_file, SAMPLE_TRACE, 40.0, 0.0, seed=1)

    shown = " ".join(capsys.readouterr().out.split())
    assert status == 0, shown
    assert float(shown.partition(" requests in ")[2].partition(" s")[0]) >= round(195.5 / 40, 1)


def test_the_demonstration_ends_as_its_text_promises(
    stack: Stack, state_dir: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stack.work_queue_url

    status = run_demo(state_dir.stack_file)

    shown = capsys.readouterr().out
    assert status == 0, shown
    assert "ignored_after_success" in shown
    assert "\x1b" not in shown


def test_a_service_that_is_not_where_it_was_is_an_error_in_one_line(
    stack: Stack, state_dir: StateDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = StateDir(tmp_path)
    existing = json.loads(state_dir.stack_file.read_text(encoding="utf-8"))
    lost.stack_file.write_text(json.dumps(existing | {"api_url": f"{stack.api_url}-gone"}), encoding="utf-8")

    status = run_replay(lost.stack_file, None, None, 0.0, seed=1)

    assert status == 1
    assert capsys.readouterr().err.count("\n") == 1
