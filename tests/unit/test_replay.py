"""The plan of a replay, the replay, and above all its checker: it must find whatever a service could get wrong."""

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any, cast

import pytest

from local.api_client import ApiClient, ApiError, Reply
from local.replay.check import LedgerSnapshot, ReceivedAttempt, RequestResult, differences
from local.replay.plan import (
    FAULTY_STARTS,
    FAULTY_SUCCESSES,
    TERMINAL_REASONS,
    DeliveryFault,
    ExpectedOutcome,
    ReplayPlan,
    TaskFault,
    count_kinds,
    make_plan,
)
from local.replay.runner import SAMPLE_TRACE, ReplayResult, replay, run_replay
from local.replay.trace import Trace, read_trace
from local.worker import Assignment, WorkQueue
from tasklatch.api.v1.executions.translation import history_view
from tasklatch.api.v1.views import retry_view, task_view
from tasklatch.domain.attempt_id import decode_attempt
from tasklatch.domain.conditional_write import ConditionalWrite, next_attempt_write, system_write, write_for_report
from tasklatch.domain.dependencies import execution_outcome, fails_execution, is_terminal, retries_exhausted
from tasklatch.domain.errors import AttemptNotOpenError
from tasklatch.domain.failure import FAILURE_POLICY, FailureReason
from tasklatch.domain.history import change_entry, ignored_entry
from tasklatch.domain.report import Report, Verdict, make_report
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy, Task
from tasklatch.domain.timer import TimerKind, timer_for
from tasklatch.domain.verdict import decide_verdict
from tests.factories import NOW, a_task

SEEDS = range(4)
FAR_AWAY_MS = 10_000
TOGETHER_MS = 1_000
QUIET_SECONDS = 0.03
Entry = dict[str, Any]


def _wide_trace(folder: Path, width: int = 40) -> Trace:
    """One task, many after it side by side, one last: with enough of all for everything that can go wrong."""
    middle = [f"part {number}/%#\N{SNOWMAN}" for number in range(width)]
    tasks = [
        {"id": "split", "parents": [], "children": middle},
        *({"id": name, "parents": ["split"], "children": ["join"]} for name in middle),
        {"id": "join", "parents": middle, "children": []},
    ]
    executed = [{"id": task["id"], "runtimeInSeconds": 20 + 3 * index} for index, task in enumerate(tasks)]
    path = folder / "wide.json"
    document = {
        "name": "wide",
        "schemaVersion": "1.5",
        "workflow": {"specification": {"tasks": tasks}, "execution": {"tasks": executed}},
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return read_trace(path)


class Service:
    """The service and its queue in memory: its rules are the domain's own, its shapes the native contract's.

    Its clock stands still until nothing is said any more, and then goes on to the next timer that is not far away.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.parents: dict[str, list[str]] = {}
        self.outputs: dict[str, Any] = {}
        self.histories: dict[str, list[Entry]] = {}
        self.status = "RUNNING"
        self.queue: deque[Assignment] = deque()
        self.request_ids = count()
        self.now = NOW
        self.heard_at = 0.0
        self.lock = RLock()

    # ------------------------------------------------------------------ the API

    def request(
        self, client: str, method: str, *path: str, body: Any = None, query: dict[str, str] | None = None
    ) -> Reply:
        assert query is None
        with self.lock:
            return Reply(200, self.serve(client, method, path, body), {}, 1, 0.01)

    def paginate(self, client: str, *path: str) -> Iterator[dict[str, Any]]:
        assert client == "reader"
        with self.lock:
            of_task = path[-1] == "history"
            yield from list(self.histories[path[3]]) if of_task else [self.view(task) for task in self.tasks.values()]

    def serve(self, client: str, method: str, path: tuple[str, ...], body: Any) -> Any:
        if method == "GET":
            assert client == "reader"
            return self.execution() if len(path) == 2 else self.view(self.tasks[path[3]])
        if path in (("executions",), ("executions", path[1] if len(path) > 1 else "", "tasks")):
            assert client == "operator"
            return self.create(body.get("executionId", path[-2] if len(path) > 1 else ""), body["tasks"])
        assert client == "worker"
        self.heard_at = time.monotonic()
        if path[-1] == "statuses":
            return {"results": [self.one_of_batch(payload) for payload in body["statuses"]]}
        return self.heartbeat(path[3], body) if path[-1] == "heartbeat" else self.report(path[3], body)

    def create(self, execution_id: str, bodies: list[dict[str, Any]]) -> dict[str, Any]:
        for body in bodies:
            name, policy = body["taskId"], body["retryPolicy"]
            self.parents[name] = body["dependsOn"]
            self.tasks[name] = a_task(
                TaskStatus.PENDING,
                execution_id=execution_id,
                task_id=name,
                version=1,
                updated_at=self.now,
                retry_policy=RetryPolicy(
                    max_attempts=policy["maxAttempts"],
                    initial_seconds=policy["initialSeconds"],
                    multiplier=policy["multiplier"],
                    max_seconds=policy["maxSeconds"],
                    jitter=policy["jitter"],
                ),
                timeout_seconds=body.get("timeoutSeconds"),
                heartbeat_timeout_seconds=body.get("heartbeatTimeoutSeconds"),
                on_failure=OnFailure(body["onFailure"]),
            )
            self.histories[name] = []
            self.remember(name, self.shown(name, change_entry(self.tasks[name], None)))
        return {}

    def execution(self) -> dict[str, Any]:
        self.react()
        counts = Counter(str(task.status) for task in self.tasks.values())
        return {"status": self.status, "counts": counts, "taskCount": len(self.tasks)}

    def one_of_batch(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["taskId"]
        try:
            return {"status": 200, "taskId": name, **self.report(name, body)}
        except ApiError as error:
            return {"status": error.status, "problem": error.problem}

    def report(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        report = self.read(name, body)
        task = self.tasks[name]
        write = write_for_report(
            report, now=self.now, request_id=str(next(self.request_ids)), attempt=report.attempt or task.attempt
        )
        if write.allows(task):
            self.change(name, write)
            if report.output is not None:
                self.outputs[name] = json.loads(report.output)
            return self.answer(name, Verdict.APPLIED)
        verdict = decide_verdict(write, task)
        entry = self.shown(name, ignored_entry(report, verdict, task, now=self.now, request_id=""))
        if entry not in self.histories[name]:
            self.remember(name, entry)
        return self.answer(name, verdict)

    def answer(self, name: str, verdict: Verdict) -> dict[str, Any]:
        decision = decide_retry(self.tasks[name])
        answer = {"verdict": str(verdict), "task": self.view(self.tasks[name])}
        return answer | ({"retry": dict(retry_view(decision))} if decision else {})

    def heartbeat(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        attempt = self.attempt_in(name, body)
        task = self.tasks[name]
        goes_on = task.status in (TaskStatus.SCHEDULED, TaskStatus.IN_PROGRESS) and attempt == task.attempt
        return {"continue": goes_on, "task": self.view(task)}

    def view(self, task: Task) -> dict[str, Any]:
        return {**task_view(task), "output": self.outputs.get(task.task_id)}

    def shown(self, name: str, entry: Any) -> Entry:
        task = self.tasks[name]
        return dict(history_view(entry, task.tenant, task.execution_id, name))

    def remember(self, name: str, entry: Entry) -> None:
        self.histories[name].append(entry)

    def attempt_in(self, name: str, body: dict[str, Any]) -> int | None:
        task = self.tasks[name]
        attempt: int | None = body.get("attempt")
        if "taskExecutionId" in body:
            try:
                attempt = decode_attempt(body["taskExecutionId"], task.tenant, task.execution_id, name)
            except AttemptNotOpenError as error:
                raise ApiError("POST", 409, {"detail": str(error)}) from error
        if attempt is not None and attempt > task.attempt:
            raise ApiError("POST", 409, {"detail": "never opened"})
        return attempt

    def read(self, name: str, body: dict[str, Any]) -> Report:
        reason = body.get("failureReason")
        return make_report(
            name,
            TaskStatus(body["status"]),
            attempt=self.attempt_in(name, body),
            failure_reason=FailureReason(reason) if reason else None,
            message=body.get("message"),
            output=json.dumps(body["output"]) if "output" in body else None,
            retry_after_seconds=body.get("retryAfterSeconds"),
        )

    # ------------------------------------------------------------------ the queue

    def take(self, wait_seconds: int = 1, at_most: int = 1) -> Iterator[Assignment]:
        assert wait_seconds
        with self.lock:
            self.react()
            if not self.queue and time.monotonic() - self.heard_at > QUIET_SECONDS:
                self.fire()
            result = [self.queue.popleft() for _ in range(min(len(self.queue), at_most))]
        if not result:
            time.sleep(0.002)  # as the real one waits
        yield from result

    def delete(self, _: Assignment) -> None:
        self.heard_at = time.monotonic()

    # ------------------------------------------------------------------ what it does by itself

    def change(self, name: str, write: ConditionalWrite) -> None:
        before = self.tasks[name]
        fields = dict.fromkeys(write.clear_fields, None) | {"message_truncated": False} | dict(write.values)
        task = replace(
            before,
            status=write.status,
            precedence=write.precedence,
            version=before.version + 1,
            **cast("dict[str, Any]", fields),
        )
        self.tasks[name] = task
        self.remember(name, self.shown(name, change_entry(task, before)))
        if task.status is TaskStatus.SCHEDULED:
            self.hand_out(task)

    def hand_out(self, task: Task) -> None:
        self.heard_at = time.monotonic()
        names = (task.execution_id, task.task_id, task.attempt, task.task_execution_id)
        self.queue.append(Assignment(*names, input={}, receipt_handle=""))

    def react(self) -> None:
        for name, task in list(self.tasks.items()):
            if self.status != "RUNNING":
                if not is_terminal(task):
                    self.cancel(name)
            elif retries_exhausted(task) and task.on_failure is OnFailure.CONTINUE:
                self.change(name, system_write(task, TaskStatus.COMPLETED_WITH_ERRORS, now=self.now))
        if self.status == "RUNNING":
            for name, task in list(self.tasks.items()):
                if task.status is TaskStatus.PENDING and self.may_begin(name):
                    self.change(name, system_write(task, TaskStatus.SCHEDULED, now=self.now))
            self.end()

    def may_begin(self, name: str) -> bool:
        parents = [self.tasks[parent] for parent in self.parents[name]]
        return all(is_terminal(parent) and not fails_execution(parent) for parent in parents)

    def end(self) -> None:
        self.status = execution_outcome(self.tasks.values()) or self.status

    def cancel(self, name: str) -> None:
        self.change(name, system_write(self.tasks[name], TaskStatus.CANCELED, now=self.now))

    def fire(self) -> None:
        timers = [timer for task in self.tasks.values() if (timer := timer_for(task))]
        timers = [timer for timer in timers if timer.due - self.now < FAR_AWAY_MS and self.status == "RUNNING"]
        first = min((timer.due for timer in timers), default=0)
        for timer in sorted(timers, key=lambda timer: timer.due):
            if timer.due <= first + TOGETHER_MS:
                self.now = max(self.now, timer.due)
                do = self.open_next if timer.kind is TimerKind.RETRY else self.time_out
                do(self.tasks[timer.task_id])

    def open_next(self, task: Task) -> None:
        self.change(task.task_id, next_attempt_write(task, now=self.now))

    def time_out(self, task: Task) -> None:
        self.change(task.task_id, system_write(task, TaskStatus.TIMED_OUT, now=self.now))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.replay.runner._POLL_SECONDS", 0.005)
    monkeypatch.setattr("local.replay.runner._HISTORY_SECONDS", 0.0)
    monkeypatch.setattr("local.replay.runner._STALL_SECONDS", 2.0)


def _replayed(service: Service, plan: ReplayPlan) -> ReplayResult:
    return replay(cast("ApiClient", service), plan, cast("WorkQueue", service), "nightly")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_is_the_same_each_time_and_another_for_another_seed(seed: int) -> None:
    trace = read_trace(SAMPLE_TRACE)

    assert make_plan(trace, chaos=0.5, seed=seed) == make_plan(trace, chaos=0.5, seed=seed)
    assert make_plan(trace, chaos=0.5, seed=seed).tasks != make_plan(trace, chaos=0.5, seed=seed + 1).tasks


def test_without_chaos_each_task_starts_once_and_succeeds_once(tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path))

    reports = [delivery for delivery in plan.scripted_requests if not delivery.is_heartbeat]
    assert all(delivery.expected is ExpectedOutcome.APPLIED and delivery.delivery_fault is None for delivery in reports)
    body = Counter((delivery.task_id, delivery.body["status"]) for delivery in reports)
    assert body == Counter(
        {(task.task_id, name): 1 for task in plan.trace.tasks for name in ("IN_PROGRESS", "COMPLETED")}
    )
    assert not any(item.may_be_timed_out for item in plan.tasks)


@pytest.mark.parametrize(("chaos", "faulty_tasks"), [(0.0, 0), (0.25, 10), (0.5, 21), (1.0, 42)])
def test_chaos_is_the_share_of_tasks_that_get_into_trouble(chaos: float, faulty_tasks: int, tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path), chaos=chaos, seed=5, ends="COMPLETED")

    assert plan.faulty_tasks == faulty_tasks
    assert bool(plan.faulty_deliveries) is bool(chaos)


@pytest.mark.parametrize("chaos", [-0.01, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(chaos: float) -> None:
    with pytest.raises(ValueError, match="CHAOS"):
        make_plan(read_trace(SAMPLE_TRACE), chaos=chaos)


def test_an_end_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="EXPECT"):
        make_plan(read_trace(SAMPLE_TRACE), ends="SOMEHOW")


def test_one_seed_in_five_ends_in_failure_and_none_without_chaos() -> None:
    trace = read_trace(SAMPLE_TRACE)

    ends = Counter(make_plan(trace, chaos=0.1, seed=seed).ends for seed in range(200))

    assert 25 <= ends["FAILED"] <= 55
    assert {make_plan(trace, seed=seed).ends for seed in range(50)} == {"COMPLETED"}


@pytest.mark.parametrize("ends", ["COMPLETED", "FAILED"])
@pytest.mark.parametrize("chaos", [0.0, 0.5])
def test_the_end_can_be_asked_for(ends: str, chaos: float) -> None:
    assert {make_plan(read_trace(SAMPLE_TRACE), chaos=chaos, seed=seed, ends=ends).ends for seed in SEEDS} == {ends}


def test_everything_that_can_go_wrong_does(tmp_path: Path) -> None:
    trace = _wide_trace(tmp_path, width=120)
    kinds = count_kinds(make_plan(trace, chaos=0.7, seed=1, ends="FAILED"))

    # A start that is left out, or comes without a word on its attempt, makes no second one
    assert set(kinds) == {*TaskFault, *DeliveryFault}
    assert {*FAULTY_STARTS, *FAULTY_SUCCESSES} == set(DeliveryFault)


def test_terminal_reasons_are_those_that_the_service_does_not_retry() -> None:
    assert set(TERMINAL_REASONS) == {reason.value for reason, how in FAILURE_POLICY.items() if not how.retryable}


def test_a_lone_task_has_no_other_whose_id_it_could_be_given(tmp_path: Path) -> None:
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
        outcome = _replayed(Service(), make_plan(trace, chaos=1, seed=seed))
        assert outcome.differences == []


def test_some_is_sent_alone_and_some_in_batches_of_what_is_due_together(tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path), chaos=0.7, seed=2)

    requests = [request for task in plan.tasks for attempt in task.attempts for request in attempt.requests]
    assert {len(request) for request in requests} > {1}
    assert all(len({delivery.share for delivery in request}) == 1 for request in requests)
    assert all(len(request) == 1 for request in requests if any(delivery.is_heartbeat for delivery in request))


@pytest.mark.parametrize("ends", ["COMPLETED", "FAILED"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("chaos", [0.0, 0.5, 1.0])
def test_what_the_plan_expects_is_what_the_rules_say(seed: int, chaos: float, ends: str, tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path), chaos=chaos, seed=seed, ends=ends)

    outcome = _replayed(Service(), plan)

    assert outcome.differences == []
    assert outcome.ledger.execution["status"] == ends


def test_what_comes_out_of_the_queue_twice_is_done_once(tmp_path: Path) -> None:
    class DeliversTwice(Service):
        def hand_out(self, task: Task) -> None:
            super().hand_out(task)
            self.queue.append(self.queue[-1])

    plan = make_plan(_wide_trace(tmp_path), chaos=0.5, seed=3, ends="COMPLETED")

    outcome = _replayed(DeliversTwice(), plan)

    assert outcome.differences == []
    assert sum(item.is_repeated for item in outcome.received) == len(outcome.received) / 2


def test_an_honest_worker_that_was_given_up_for_slow_is_no_difference(tmp_path: Path) -> None:
    class Impatient(Service):
        def hand_out(self, task: Task) -> None:
            if task.attempt == 2 and task.timeout_seconds:
                self.time_out(self.tasks[task.task_id])  # before anybody could take it
            else:
                super().hand_out(task)

    plan = make_plan(_wide_trace(tmp_path), chaos=1, seed=1, ends="COMPLETED")
    assert any(item.task_fault is TaskFault.IS_KILLED_BEFORE_ITS_START for item in plan.tasks)

    outcome = _replayed(Impatient(), plan)

    assert outcome.differences == []


class OverwritesSuccess(Service):
    """What this project exists to prevent: a late failure becomes the task's status."""

    def report(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = super().report(name, body)
        if answer["verdict"] == "ignored_after_success" and body["status"] == "FAILED":
            task = self.tasks[name]
            self.tasks[name] = replace(task, status=TaskStatus.FAILED_WITH_TERMINAL_ERROR, version=task.version + 1)
            self.histories[name][-1] |= {"verdict": "applied", "version": task.version + 1}
        return answer


class LosesIgnoredReports(Service):
    def remember(self, name: str, entry: Entry) -> None:
        if entry["verdict"] != "ignored_after_success":
            super().remember(name, entry)


class LosesStaleReports(Service):
    def remember(self, name: str, entry: Entry) -> None:
        if entry["verdict"] != "stale_attempt":
            super().remember(name, entry)


class SkipsAVersion(Service):
    def change(self, name: str, write: ConditionalWrite) -> None:
        super().change(name, write)
        if write.status is TaskStatus.COMPLETED:
            task = self.tasks[name]
            self.tasks[name] = replace(task, version=task.version + 1)
            self.histories[name][-1]["version"] += 1


class InventsAChange(Service):
    def create(self, execution_id: str, bodies: list[dict[str, Any]]) -> dict[str, Any]:
        answer = super().create(execution_id, bodies)
        first = bodies[0]["taskId"]
        self.histories[first].append({"version": 2, "verdict": "stale_attempt", "status": "FAILED", "attempt": 1})
        return answer


class AppliesARepeat(Service):
    def report(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = super().report(name, body)
        return answer | {"verdict": "applied"} if answer["verdict"] == "duplicate" else answer


class ForgetsOutputs(Service):
    def report(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        return super().report(name, {field: value for field, value in body.items() if field != "output"})


class TakesUnknownAttempts(Service):
    def attempt_in(self, name: str, body: dict[str, Any]) -> int | None:
        try:
            return super().attempt_in(name, body)
        except ApiError:
            return self.tasks[name].attempt


class NeverStopsAWorker(Service):
    def heartbeat(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        return super().heartbeat(name, body) | {"continue": True}


class LosesATask(Service):
    def paginate(self, client: str, *path: str) -> Iterator[dict[str, Any]]:
        pages = super().paginate(client, *path)
        yield from (
            item for item in pages if path[-1] != "tasks" or self.status == "RUNNING" or item["taskId"] != "join"
        )


class MiscountsTasks(Service):
    def execution(self) -> dict[str, Any]:
        return super().execution() | {"taskCount": 1}


class KeepsAFailuresReason(Service):
    def view(self, task: Task) -> dict[str, Any]:
        return super().view(task) | {"failureReason": "RATE_LIMITED"}


class IgnoresDependencies(Service):
    def may_begin(self, name: str) -> bool:
        return name == "join" or super().may_begin(name)


class OpensARetryTwice(Service):
    def open_next(self, task: Task) -> None:
        super().open_next(task)
        opened = self.tasks[task.task_id]
        self.tasks[task.task_id] = replace(opened, version=opened.version + 1)
        self.histories[task.task_id].append(self.histories[task.task_id][-1] | {"version": opened.version + 1})


class OpensARetryTooEarly(Service):
    def open_next(self, task: Task) -> None:
        super().open_next(replace(task, updated_at=self.now))
        entry = self.histories[task.task_id][-1]
        entry["at"] = self.histories[task.task_id][-2]["at"]


class RetriesWhatSucceeded(Service):
    def change(self, name: str, write: ConditionalWrite) -> None:
        was_failed = self.tasks[name].status is TaskStatus.FAILED
        super().change(name, write)
        if was_failed and write.status is TaskStatus.COMPLETED:
            task = self.tasks[name]
            self.tasks[name] = replace(task, version=task.version + 1)
            again = {"version": task.version + 1, "verdict": "applied", "status": "SCHEDULED", "attempt": 2}
            self.histories[name].append({**self.histories[name][-1], **again})


class SaysThatNothingFollows(Service):
    def answer(self, name: str, verdict: Verdict) -> dict[str, Any]:
        answer = super().answer(name, verdict)
        return answer | {"retry": {**answer["retry"], "willRetry": False}} if "retry" in answer else answer


class NeverRetries(Service):
    def open_next(self, task: Task) -> None:
        pass


class MissesTheDead(Service):
    def time_out(self, task: Task) -> None:
        pass


class FailsInTheEnd(Service):
    def end(self) -> None:
        super().end()
        self.status = "FAILED" if self.status == "COMPLETED" else self.status


@pytest.mark.parametrize(
    ("service", "words"),
    [
        (OverwritesSuccess, "was COMPLETED at version"),
        (LosesIgnoredReports, "is not in its history"),
        (LosesStaleReports, "is not in its history"),
        (SkipsAVersion, "and its history has the changes"),
        (InventsAChange, "which nobody sent"),
        (AppliesARepeat, "ended in applied, not in duplicate"),
        (ForgetsOutputs, "has the output None"),
        (TakesUnknownAttempts, "not in refused"),
        (NeverStopsAWorker, "a heartbeat (a heartbeat after the success) ended in go_on, not in stop"),
        (LosesATask, "task join is missing"),
        (MiscountsTasks, "the execution counts 1 tasks"),
        (KeepsAFailuresReason, "still shows the failureReason"),
        (IgnoresDependencies, "task join: was scheduled at"),
        (IgnoresDependencies, "task join: was handed out before the last word on"),
        (OpensARetryTwice, "its attempts were opened as [1, 2, 2"),
        (OpensARetryTooEarly, "was opened at"),
        (RetriesWhatSucceeded, "then became SCHEDULED"),
        (SaysThatNothingFollows, "was told willRetry False, not True"),
        (NeverRetries, "the execution is RUNNING, not COMPLETED"),
        (MissesTheDead, "the execution is RUNNING, not COMPLETED"),
        (FailsInTheEnd, "the execution is FAILED, not COMPLETED"),
    ],
)
def test_the_checker_finds_what_a_service_gets_wrong(
    service: Callable[[], Service], words: str, tmp_path: Path
) -> None:
    plan = make_plan(_wide_trace(tmp_path), chaos=1, seed=1, ends="COMPLETED")

    result = _replayed(service(), plan).differences

    assert any(words in difference for difference in result), result


class GoesOnAfterAFailure(Service):
    def end(self) -> None:
        tasks = (
            replace(task, on_failure=OnFailure.CONTINUE) if fails_execution(task) else task
            for task in self.tasks.values()
        )
        self.status = "COMPLETED" if all(retries_exhausted(task) or is_terminal(task) for task in tasks) else "RUNNING"

    def may_begin(self, name: str) -> bool:
        return all(is_terminal(self.tasks[parent]) for parent in self.parents[name])


class LeavesTasksOpen(Service):
    def cancel(self, name: str) -> None:
        pass


@pytest.mark.parametrize(
    ("service", "words"),
    [
        (GoesOnAfterAFailure, "the execution is COMPLETED, not FAILED"),
        (LeavesTasksOpen, "task join: is PENDING, not"),
    ],
)
def test_the_checker_finds_what_a_service_gets_wrong_after_a_fatal_failure(
    service: Callable[[], Service], words: str, tmp_path: Path
) -> None:
    plan = make_plan(_wide_trace(tmp_path), chaos=0.2, seed=4, ends="FAILED")

    result = _replayed(service(), plan).differences

    assert any(words in difference for difference in result), result


def test_the_checker_finds_a_delivery_that_was_never_answered(tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path), chaos=0.5, seed=1, ends="COMPLETED")
    outcome = _replayed(Service(), plan)

    result = differences(plan, outcome.answers[1:], outcome.received, outcome.ledger)

    assert any("1 of its deliveries were never answered" in difference for difference in result)


def test_a_report_that_may_have_been_taken_twice_may_be_called_a_duplicate(tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path))
    outcome = _replayed(Service(), plan)
    first, *others = outcome.answers
    name = first.delivery.task_id
    repeated = replace(first, outcome=ExpectedOutcome.DUPLICATE, may_be_processed_twice=True)
    entry = {"version": first.version, "verdict": "duplicate", "status": "IN_PROGRESS", "attempt": 1}
    histories = dict(outcome.ledger.histories)
    histories[name] = [*histories[name], entry]
    ledger = LedgerSnapshot(outcome.ledger.execution, outcome.ledger.tasks, histories)

    assert differences(plan, [repeated, *others], outcome.received, ledger) == []
    strict: list[RequestResult] = [replace(repeated, may_be_processed_twice=False), *others]
    assert differences(plan, strict, outcome.received, ledger) != []


def test_a_task_that_was_handed_out_too_early_is_found_on_the_queue(tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path))
    outcome = _replayed(Service(), plan)
    taken = [ReceivedAttempt("join", 1, 0.0), *outcome.received]

    result = differences(plan, outcome.answers, taken, outcome.ledger)

    assert any("task join: was handed out before the last word on" in difference for difference in result)


def test_what_the_service_was_too_busy_for_is_sent_again(tmp_path: Path) -> None:
    class Busy(Service):
        turns = 0

        def one_of_batch(self, body: dict[str, Any]) -> dict[str, Any]:
            self.turns += 1
            if self.turns % 3 == 0:
                return {"status": 503, "problem": {"detail": "busy"}}
            return super().one_of_batch(body)

    # Of several reports on one task a busy service takes none before the others: here all are of different kinds
    plan = make_plan(_wide_trace(tmp_path), seed=4)

    assert _replayed(Busy(), plan).differences == []


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
def test_wrong_use_is_told_in_one_line_and_ends_with_2(
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
