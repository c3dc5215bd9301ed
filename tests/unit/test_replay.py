"""Replays against a fake of the service, and the arguments of the command."""

import json
from pathlib import Path
from typing import Any

import pytest

from local.replay.plan import make_plan
from local.replay.runner import run_replay
from local.replay.scripts import TaskFault
from local.replay.trace import read_trace
from tasklatch.domain.task import Task
from tests.fake_replay_service import Service, replayed, wide_trace

SEEDS = range(4)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.replay.runner._POLL_SECONDS", 0.005)
    monkeypatch.setattr("local.replay.sending._POLL_SECONDS", 0.005)
    monkeypatch.setattr("local.replay.runner._HISTORY_SECONDS", 0.0)
    monkeypatch.setattr("local.replay.runner._STALL_SECONDS", 2.0)


def test_single_task_gets_no_id_of_another_task(tmp_path: Path) -> None:
    document = {
        "name": "lone",
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {"tasks": [{"id": "a", "parents": [], "children": []}]},
            "execution": {"tasks": [{"id": "a", "runtimeInSeconds": 1}]},
        },
    }
    (tmp_path / "lone.json").write_text(json.dumps(document), encoding="utf-8")
    trace = read_trace(tmp_path / "lone.json")

    for seed in SEEDS:
        outcome = replayed(Service(), make_plan(trace, chaos=1, seed=seed))
        assert outcome.differences == []


@pytest.mark.parametrize("ends", ["COMPLETED", "FAILED"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("chaos", [0.0, 0.5, 1.0])
def test_expected_outcomes_match_the_domain_rules(seed: int, chaos: float, ends: str, tmp_path: Path) -> None:
    plan = make_plan(wide_trace(tmp_path), chaos=chaos, seed=seed, ends=ends)

    outcome = replayed(Service(), plan)

    assert outcome.differences == []
    assert outcome.ledger.execution["status"] == ends


def test_attempt_that_is_delivered_twice_is_processed_once(tmp_path: Path) -> None:
    class DeliversTwice(Service):
        def hand_out(self, task: Task) -> None:
            super().hand_out(task)
            self.queue.append(self.queue[-1])

    plan = make_plan(wide_trace(tmp_path), chaos=0.5, seed=3, ends="COMPLETED")

    outcome = replayed(DeliversTwice(), plan)

    assert outcome.differences == []
    assert sum(item.is_repeated for item in outcome.received) == len(outcome.received) / 2


def test_normal_worker_that_was_timed_out_is_no_difference(tmp_path: Path) -> None:
    class Impatient(Service):
        def hand_out(self, task: Task) -> None:
            if task.attempt == 2 and task.timeout_seconds:
                self.time_out(self.tasks[task.task_id])  # before anybody could take it
            else:
                super().hand_out(task)

    plan = make_plan(wide_trace(tmp_path), chaos=1, seed=1, ends="COMPLETED")
    assert any(item.task_fault is TaskFault.IS_KILLED_BEFORE_START for item in plan.tasks)

    outcome = replayed(Impatient(), plan)

    assert outcome.differences == []


def test_reports_that_met_a_busy_service_are_sent_again(tmp_path: Path) -> None:
    class Busy(Service):
        turns = 0

        def one_of_batch(self, body: dict[str, Any]) -> dict[str, Any]:
            self.turns += 1
            if self.turns % 3 == 0:
                return {"status": 503, "problem": {"detail": "busy"}}
            return super().one_of_batch(body)

    # Of several reports on one task a busy service takes none before the others: here all are of different kinds
    plan = make_plan(wide_trace(tmp_path), seed=4)

    assert replayed(Busy(), plan).differences == []


@pytest.mark.parametrize(
    ("trace", "speed", "chaos", "words"),
    [
        ("nowhere.json", None, 0.0, "file not found"),
        (None, None, 1.5, "CHAOS"),
        (None, 0.0, 0.0, "SPEED"),
        (None, -1.0, 0.0, "SPEED"),
        (None, float("nan"), 0.0, "SPEED"),
        (None, None, 0.0, "make up"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_status_2(
    trace: str | None,
    speed: float | None,
    chaos: float,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = run_replay(tmp_path / "stack.json", tmp_path / trace if trace else None, speed, chaos, seed=0)

    messages = capsys.readouterr()
    assert (status, messages.out) == (2, "")
    assert words in messages.err
    assert messages.err.count("\n") == 1
