"""The plan of a replay: which faults it has, and that it is reproducible."""

from collections import Counter
from pathlib import Path

import pytest

from local.replay.delivery_faults import FAULTY_STARTS, FAULTY_SUCCESSES
from local.replay.plan import count_faults, make_plan
from local.replay.runner import SAMPLE_TRACE
from local.replay.scripts import TERMINAL_REASONS, DeliveryFault, ExpectedOutcome, TaskFault
from local.replay.trace import read_trace
from tasklatch.domain.failure import FAILURE_POLICY
from tests.fake_replay_service import wide_trace

SEEDS = range(4)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_is_the_same_each_time_and_another_for_another_seed(seed: int) -> None:
    trace = read_trace(SAMPLE_TRACE)

    assert make_plan(trace, chaos=0.5, seed=seed) == make_plan(trace, chaos=0.5, seed=seed)
    assert make_plan(trace, chaos=0.5, seed=seed).tasks != make_plan(trace, chaos=0.5, seed=seed + 1).tasks


def test_without_chaos_each_task_starts_once_and_succeeds_once(tmp_path: Path) -> None:
    plan = make_plan(wide_trace(tmp_path))

    reports = [delivery for delivery in plan.scripted_requests if not delivery.is_heartbeat]
    assert all(delivery.expected is ExpectedOutcome.APPLIED and delivery.delivery_fault is None for delivery in reports)
    body = Counter((delivery.task_id, delivery.body["status"]) for delivery in reports)
    assert body == Counter(
        {(task.task_id, name): 1 for task in plan.trace.tasks for name in ("IN_PROGRESS", "COMPLETED")}
    )
    assert not any(item.may_be_timed_out for item in plan.tasks)


@pytest.mark.parametrize(("chaos", "faulty_tasks"), [(0.0, 0), (0.25, 10), (0.5, 21), (1.0, 42)])
def test_chaos_is_the_share_of_tasks_with_a_fault(chaos: float, faulty_tasks: int, tmp_path: Path) -> None:
    plan = make_plan(wide_trace(tmp_path), chaos=chaos, seed=5, ends="COMPLETED")

    assert plan.faulty_tasks == faulty_tasks
    assert bool(plan.faulty_deliveries) is bool(chaos)


@pytest.mark.parametrize("chaos", [-0.01, 1.01, float("nan")])
def test_chaos_out_of_range_is_refused(chaos: float) -> None:
    with pytest.raises(ValueError, match="CHAOS"):
        make_plan(read_trace(SAMPLE_TRACE), chaos=chaos)


def test_unknown_final_status_is_refused() -> None:
    with pytest.raises(ValueError, match="EXPECT"):
        make_plan(read_trace(SAMPLE_TRACE), ends="SOMEHOW")


def test_one_seed_in_five_ends_in_failure_and_none_without_chaos() -> None:
    trace = read_trace(SAMPLE_TRACE)

    ends = Counter(make_plan(trace, chaos=0.1, seed=seed).ends for seed in range(200))

    assert 25 <= ends["FAILED"] <= 55
    assert {make_plan(trace, seed=seed).ends for seed in range(50)} == {"COMPLETED"}


@pytest.mark.parametrize("ends", ["COMPLETED", "FAILED"])
@pytest.mark.parametrize("chaos", [0.0, 0.5])
def test_final_status_can_be_chosen(ends: str, chaos: float) -> None:
    assert {make_plan(read_trace(SAMPLE_TRACE), chaos=chaos, seed=seed, ends=ends).ends for seed in SEEDS} == {ends}


def test_every_kind_of_fault_occurs(tmp_path: Path) -> None:
    trace = wide_trace(tmp_path, width=120)
    kinds = count_faults(make_plan(trace, chaos=0.7, seed=1, ends="FAILED"))

    # A start that is left out, or comes without a word on its attempt, makes no second one
    assert set(kinds) == {*TaskFault, *DeliveryFault}
    assert {*FAULTY_STARTS, *FAULTY_SUCCESSES} == set(DeliveryFault)


def test_terminal_reasons_are_those_that_the_service_does_not_retry() -> None:
    assert set(TERMINAL_REASONS) == {reason.value for reason, how in FAILURE_POLICY.items() if not how.retryable}


def test_requests_that_are_due_together_are_partly_sent_in_batches(tmp_path: Path) -> None:
    plan = make_plan(wide_trace(tmp_path), chaos=0.7, seed=2)

    requests = [request for task in plan.tasks for attempt in task.attempts for request in attempt.requests]
    assert {len(request) for request in requests} > {1}
    assert all(len({delivery.share for delivery in request}) == 1 for request in requests)
    assert all(len(request) == 1 for request in requests if any(delivery.is_heartbeat for delivery in request))
