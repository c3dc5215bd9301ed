"""Functions are killed at work, and the emulator is stopped under them: a replay ends as it had to all the same.

A killed function is what Lambda calls an exited runtime: a caller sends again, a stream's batch and a queue's messages
come again. On AWS a message comes again after six times its function's time-out; so that a test need not wait for
minutes, the queues of its cloud show it again after a few seconds.

What the emulator does not show: it keeps its state only when it is stopped in order, so it is ended by SIGTERM, which
leaves its functions no time to end; AWS has no such moment. Stopped, it forgets what it was about to hand over.
"""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from random import Random
from threading import Event, Thread
from typing import Any, Final
from uuid import uuid4

import pytest

from local.__main__ import start
from local.api_client import ApiClient
from local.cloud.emulator_process import EmulatorProcess
from local.cloud.stack import Stack, StateDir
from local.replay import runner as replays
from local.replay.plan import make_plan
from local.replay.runner import SAMPLE_TRACE, attached_queue, replay
from local.replay.trace import read_trace
from tasklatch.domain.overdue import OVERDUE_MS
from tests.e2e.left_behind import drive_on, left_behind_by
from tests.polling import poll

PROVES: Final = bool(os.environ.get("TASKLATCH_PROVE"))
SEEDS: Final = (1, 2, 3, 4) if PROVES else (1,)
VICTIMS: Final = (
    "report_status",
    "notifier",
    "retry_scheduler",
    "retry_dispatcher",
    "workflow_advancer",
    "executions",
)
VISIBLE_AGAIN_SECONDS: Final = 8
_BETWEEN_KILLS: Final = (0.2, 0.8)
# What is killed as fast as it starts can do nothing, on AWS neither
_LEFT_ALONE_SECONDS: Final = 6.0
_KILLS_A_FUNCTION: Final = 8 if PROVES else 2
_DOWN_SECONDS: Final = 240.0
_BETWEEN_RUNS: Final = 15.0
# Less than a function keeps to end in order
_TOO_SHORT_SECONDS: Final = 4


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replays wait longer for a change than anything here takes to be driven on."""
    monkeypatch.setattr(replays, "_STALL_SECONDS", _DOWN_SECONDS)


@pytest.fixture
def stack(stack: Stack) -> Iterator[Stack]:
    """The cloud, with queues that show a message again soon after its function was killed."""
    sqs = stack.aws("sqs")
    names = ("TimerQueue", "AdvanceQueue")
    before = {name: _visibility(sqs, stack.queues[name]) for name in names}
    for name in names:
        _let_be_visible(sqs, stack.queues[name], str(VISIBLE_AGAIN_SECONDS))
    yield stack
    for name, seconds in before.items():
        _let_be_visible(sqs, stack.queues[name], seconds)


def _visibility(sqs: Any, url: str) -> str:
    expected = "VisibilityTimeout"
    result: str = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[expected])["Attributes"][expected]
    return result


def _let_be_visible(sqs: Any, url: str, seconds: str) -> None:
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": seconds})


@dataclass
class Killer:
    """Kills the processes of functions, one after the other, at moments that a seed draws.

    Attributes
    ----------
    killed
        How many processes of each function.
    """

    cloud: EmulatorProcess
    names: dict[str, str]
    seed: int
    killed: Counter[str] = field(default_factory=Counter)
    _over: Event = field(default_factory=Event)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Kill until the block ends."""
        thread = Thread(target=self._run, name="killer")
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _run(self) -> None:
        draw = Random(self.seed)  # noqa: S311 - guards nothing
        left_alone_until = dict.fromkeys(VICTIMS, 0.0)
        while not self._over.wait(draw.uniform(*_BETWEEN_KILLS)):
            now = time.monotonic()
            running = [
                (pid, name)
                for pid, name in self._processes()
                if left_alone_until.get(name, inf) <= now and self.killed[name] < _KILLS_A_FUNCTION
            ]
            if running:
                # Whichever has been killed least often, so that each has its turn
                least = min(self.killed[name] for _, name in running)
                pid, name = draw.choice([future for future in running if self.killed[future[1]] == least])
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                self.killed[name] += 1
                left_alone_until[name] = now + _LEFT_ALONE_SECONDS

    def _processes(self) -> Iterator[tuple[int, str]]:
        """The emulator's own children that run functions, and which; dead ones that nobody has noticed left out."""
        shown = subprocess.run(
            ["ps", "-axww", "-o", "pid=,ppid=,stat=,command="],  # noqa: S607 - found on the PATH
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for line in shown.splitlines():
            pid, parent, status, command = line.split(maxsplit=3)
            for folder, name in self.names.items():
                is_ours = int(parent) == self.cloud.pid and f"ministack-lambda-{name}-" in command
                if is_ours and not status.startswith("Z"):
                    yield int(pid), folder


@pytest.mark.parametrize("seed", SEEDS)
def test_replay_ends_right_though_functions_are_killed(
    seed: int, stack: Stack, state_dir: StateDir, record_property: Callable[[str, object], None]
) -> None:
    # given
    cloud = EmulatorProcess.running(state_dir)
    assert cloud is not None
    killer = Killer(cloud, dict(stack.functions), seed)
    plan = make_plan(read_trace(SAMPLE_TRACE), chaos=0.6, seed=seed, ends="COMPLETED")
    logged = state_dir.log.stat().st_size

    # when
    execution_id = f"killed-{uuid4()}"
    with (
        ApiClient(stack, deadline_seconds=_DOWN_SECONDS) as api,
        attached_queue(stack, api, execution_id, _DOWN_SECONDS) as queue,
        killer.at_work(),
    ):
        outcome = replay(api, plan, queue, execution_id)
        left_behind = left_behind_by(stack, outcome, queue.url)

    # then
    assert left_behind is None, str(left_behind)
    assert outcome.differences == []
    assert set(killer.killed) == set(VICTIMS)
    with state_dir.log.open("rb") as log:
        log.seek(logged)
        messages = log.read()
    record_property("killed", dict(killer.killed))
    record_property(
        "invocations that broke off", messages.count(b"Worker process died") + messages.count(b"exited immediately")
    )
    record_property("deliveries", f"{len(outcome.results)} in {outcome.seconds:.0f} s")


def test_replay_ends_right_though_the_emulator_is_stopped_under_it(
    stack: Stack, state_dir: StateDir, record_property: Callable[[str, object], None]
) -> None:
    # given: the safety net has time to find what is overdue and to drive it on
    assert _DOWN_SECONDS * 1000 > OVERDUE_MS + _BETWEEN_RUNS * 1000 * 2
    plan = make_plan(read_trace(SAMPLE_TRACE), chaos=0.6, seed=5, ends="COMPLETED")
    under_way, over = Event(), Event()

    def look(counts: dict[str, int]) -> None:
        if counts.get("COMPLETED", 0) >= len(plan.tasks) // 4:
            under_way.set()

    # when
    execution_id = f"stopped-{uuid4()}"
    with (
        ApiClient(stack, deadline_seconds=_DOWN_SECONDS) as api,
        attached_queue(stack, api, execution_id, _DOWN_SECONDS) as queue,
        ThreadPoolExecutor(2) as pool,
    ):
        replaying = pool.submit(replay, api, plan, queue, execution_id, on_counts=look)
        assert under_way.wait(_DOWN_SECONDS)
        cloud = EmulatorProcess.running(state_dir)
        assert cloud is not None
        was_over = replaying.done()
        cloud.stop(state_dir)
        again = start(state_dir)
        driving = pool.submit(_drive_on, again, over)
        try:
            outcome = replaying.result()
        finally:
            over.set()
        left_behind = left_behind_by(again, outcome, queue.url)

    # then
    assert not was_over
    assert again.api_url == stack.api_url
    assert left_behind is None, str(left_behind)
    assert outcome.differences == []
    record_property("found by the safety net", driving.result())
    record_property("deliveries", f"{len(outcome.results)} in {outcome.seconds:.0f} s")


@contextmanager
def _without_time(function: str, stack: Stack) -> Iterator[None]:
    """Give a function so little time that it begins nothing: it reports its whole batch as failed, at once."""
    functions, name = stack.aws("lambda"), stack.functions[function]
    seconds = functions.get_function_configuration(FunctionName=name)["Timeout"]
    functions.update_function_configuration(FunctionName=name, Timeout=_TOO_SHORT_SECONDS)
    try:
        yield
    finally:
        functions.update_function_configuration(FunctionName=name, Timeout=seconds)


def _is_logged(stack: Stack, text: str, since: int) -> bool:
    """Return True if a function has logged a text since a time in milliseconds since the epoch."""
    logs = stack.aws("logs")
    [group] = logs.describe_log_groups(logGroupNamePrefix="/tasklatch/")["logGroups"]
    events = logs.filter_log_events(logGroupName=group["logGroupName"], startTime=since)["events"]
    return any(text in event["message"] for event in events)


def test_what_could_not_be_announced_is_announced_once_it_can_be(stack: Stack) -> None:
    # given
    execution_id = f"late-{uuid4()}"
    since = int(time.time() * 1000)
    with ApiClient(stack) as api, attached_queue(stack, api, execution_id) as queue:
        # when
        with _without_time("notifier", stack):
            body = {"executionId": execution_id, "tasks": [{"taskId": "fetch"}]}
            api.request("operator", "POST", "executions", body=body)
            assert poll(lambda: _is_logged(stack, "changes deferred", since))
            assert not list(queue.take())
        handed_out = poll(lambda: list(queue.take()))
        history = poll(lambda: list(api.paginate("reader", "executions", execution_id, "tasks", "fetch", "history")))

    # then
    assert {assignment.task_id for assignment in handed_out} == {"fetch"}
    assert history[0]["status"] == "PENDING"


def _drive_on(stack: Stack, over: Event) -> dict[str, int]:
    """Run the safety net now and then; count what it drove on."""
    result: Counter[str] = Counter()
    while not over.wait(_BETWEEN_RUNS):
        result.update(drive_on(stack))
    return dict(result)
