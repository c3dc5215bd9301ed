"""The plan of a replay, the replay, and above all its checker: it must find whatever a service could get wrong."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from local.api import Api, ApiError, Reply
from local.delivery_plan import DISTURBANCES, Disturbance, End, Plan, count_kinds, make_plan
from local.outcome_check import Answered, Ledger, differences
from local.replay import SAMPLE_TRACE, Outcome, replay, run_replay
from local.trace import Moment, Trace, read_trace
from tasklatch.domain.attempt import attempt_of
from tasklatch.domain.errors import AttemptNeverOpenedError
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.latch import judge, latch_of
from tasklatch.domain.report import Report, make_report
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tests.factories import NOW, a_task

SEEDS = range(8)
Entry = dict[str, Any]


def _wide_trace(folder: Path, width: int = 40) -> Trace:
    """One task, many after it side by side, one last: with enough of all for every disturbance."""
    middle = [f"part {number}/%#\N{SNOWMAN}" for number in range(width)]
    tasks = [
        {"id": "split", "parents": [], "children": middle},
        *({"id": name, "parents": ["split"], "children": ["join"]} for name in middle),
        {"id": "join", "parents": middle, "children": []},
    ]
    executed = [{"id": task["id"], "runtimeInSeconds": 20 + 3 * place} for place, task in enumerate(tasks)]
    path = folder / "wide.json"
    document = {
        "name": "wide",
        "schemaVersion": "1.5",
        "workflow": {"specification": {"tasks": tasks}, "execution": {"tasks": executed}},
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return read_trace(path)


class Service:
    """The service in memory: its rules are the domain's own, its shapes the native contract's."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.histories: dict[str, list[Entry]] = {}
        self.receipts = count()

    def call(
        self, client: str, method: str, *path: str, body: Any = None, query: dict[str, str] | None = None
    ) -> Reply:
        assert query is None
        answer = self._serve(client, method, path, body)
        return Reply(200, answer, {}, 1, 0.01)

    def pages(self, client: str, *path: str) -> Iterator[dict[str, Any]]:
        assert client == "reader"
        if path[-1] == "history":
            yield from self.histories[path[3]]
        else:
            yield from (self.view(task) for task in self.tasks.values())

    def create(self, execution_id: str, bodies: list[dict[str, Any]]) -> dict[str, Any]:
        for body in bodies:
            name = body["taskId"]
            self.inputs[name] = body["input"]
            self.tasks[name] = a_task(TaskStatus.SCHEDULED, execution_id=execution_id, task_id=name, version=2)
            self.histories[name] = [
                {"version": 1, "verdict": "applied", "status": "PENDING", "attempt": 1},
                {"version": 2, "verdict": "applied", "status": "SCHEDULED", "attempt": 1},
            ]
        return {}

    def report(self, name: str, said: dict[str, Any]) -> dict[str, Any]:
        report = self._read(name, said)
        task = self.tasks[name]
        latch = latch_of(report, now=NOW, receipt=str(next(self.receipts)), attempt=report.attempt or task.attempt)
        if not latch.lets_through(task):
            verdict = judge(latch, task)
            self.remember(name, self.entry(report, task.version, verdict))
            return {"verdict": verdict, "task": self.view(task)}
        fields = dict.fromkeys(latch.clears, None) | {"message_truncated": False} | dict(latch.values)
        changed = replace(
            task,
            status=latch.status,
            precedence=latch.precedence,
            version=task.version + 1,
            **cast("dict[str, Any]", fields),
        )
        self.tasks[name] = changed
        if report.output is not None:
            self.outputs[name] = json.loads(report.output)
        self.remember(name, self.entry(report, changed.version, "applied"))
        return {"verdict": "applied", "task": self.view(changed)}

    def entry(self, report: Report, version: int, verdict: str) -> Entry:
        said = {
            "attempt": report.attempt,
            "failureReason": report.failure_reason,
            "message": report.message,
        }
        return {
            "version": version,
            "verdict": str(verdict),
            "status": str(report.status),
            **{field: value for field, value in said.items() if value is not None},
        }

    def remember(self, name: str, entry: Entry) -> None:
        self.histories[name].append(entry)

    def view(self, task: Task) -> dict[str, Any]:
        return {
            "taskId": task.task_id,
            "taskExecutionId": task.task_execution_id,
            "status": str(task.status),
            "attempt": task.attempt,
            "version": task.version,
            **({"failureReason": task.failure_reason} if task.failure_reason else {}),
        }

    def _serve(self, client: str, method: str, path: tuple[str, ...], body: Any) -> Any:
        match (client, method, *path):
            case ("operator", "POST", *_):
                return self.create(body["executionId"], body["tasks"])
            case ("worker", "POST", _, _, "statuses"):
                return {"results": [self._one_of_batch(report) for report in body["statuses"]]}
            case ("worker", "POST", _, _, _, name, "status"):
                return self.report(name, body)
            case ("worker", "POST", _, _, _, name, "heartbeat"):
                task = self.tasks[name]
                return {"continue": task.status is not TaskStatus.COMPLETED, "task": self.view(task)}
            case ("reader", "GET", _, _):
                counts = Counter(str(task.status) for task in self.tasks.values())
                return {"counts": dict(counts), "taskCount": len(self.tasks)}
            case ("reader", "GET", _, _, _, name):
                return self.view(self.tasks[name]) | {"output": self.outputs.get(name)}
        raise AssertionError(f"no route {client} {method} {path}")

    def _one_of_batch(self, said: dict[str, Any]) -> dict[str, Any]:
        name = said.pop("taskId")
        try:
            return {"status": 200, "taskId": name, **self.report(name, said)}
        except ApiError as error:
            return {"status": error.status, "problem": error.problem}

    def _read(self, name: str, said: dict[str, Any]) -> Report:
        task = self.tasks[name]
        attempt = said.get("attempt")
        if "taskExecutionId" in said:
            try:
                attempt = attempt_of(said["taskExecutionId"], task.tenant, task.execution_id, name)
            except AttemptNeverOpenedError as error:
                raise ApiError("POST", 409, {"detail": str(error)}) from error
        if attempt is not None and attempt > task.attempt:
            raise ApiError("POST", 409, {"detail": "never opened"})
        reason = said.get("failureReason")
        return make_report(
            name,
            TaskStatus(said["status"]),
            attempt=attempt,
            failure_reason=FailureReason(reason) if reason else None,
            message=said.get("message"),
            output=json.dumps(said["output"]) if "output" in said else None,
        )


def _replayed(service: Service, plan: Plan) -> Outcome:
    return replay(cast("Api", service), plan)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_is_the_same_each_time_and_another_for_another_seed(seed: int) -> None:
    trace = read_trace(SAMPLE_TRACE)

    assert make_plan(trace, chaos=0.5, seed=seed) == make_plan(trace, chaos=0.5, seed=seed)
    assert make_plan(trace, chaos=0.5, seed=seed).sendings != make_plan(trace, chaos=0.5, seed=seed + 1).sendings


def test_without_chaos_each_task_starts_once_and_succeeds_once(tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path))

    reports = [delivery for delivery in plan.deliveries if not delivery.is_heartbeat]
    assert all(delivery.end is End.APPLIED and delivery.disturbance is None for delivery in reports)
    said = Counter((delivery.task_id, delivery.said["status"]) for delivery in reports)
    assert said == Counter(
        {(task.task_id, name): 1 for task in plan.trace.tasks for name in ("IN_PROGRESS", "COMPLETED")}
    )


@pytest.mark.parametrize(("chaos", "disturbed"), [(0.0, 0), (0.25, 21), (0.5, 42), (1.0, 84)])
def test_chaos_is_the_share_of_deliveries_that_are_disturbed(chaos: float, disturbed: int, tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path), chaos=chaos, seed=5)

    assert plan.disturbed == disturbed


@pytest.mark.parametrize("chaos", [-0.01, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(chaos: float) -> None:
    with pytest.raises(ValueError, match="CHAOS"):
        make_plan(read_trace(SAMPLE_TRACE), chaos=chaos)


def test_every_kind_of_disturbance_is_there(tmp_path: Path) -> None:
    kinds = count_kinds(make_plan(_wide_trace(tmp_path), chaos=0.5, seed=1))

    assert set(kinds) | {Disturbance.START_WITHOUT_ATTEMPT} == set(Disturbance)
    assert set(DISTURBANCES[Moment.START]) | set(DISTURBANCES[Moment.FINISH]) == set(Disturbance)


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


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_sent_before_what_it_must_follow(seed: int, tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path), chaos=0.7, seed=seed)

    parents = {task.task_id: set(task.parents) for task in plan.trace.tasks}
    last: dict[str, int] = {}
    for sending in plan.sendings:
        names = {delivery.task_id for delivery in sending.deliveries}
        needed = {last[name] for task in names for name in ({task} | parents[task]) & set(last)}
        assert needed <= sending.after
        assert all(number < sending.number for number in sending.after)
        assert not any(parents[name] & names for name in names)
        last.update(dict.fromkeys(names, sending.number))


def test_some_is_sent_alone_and_some_in_batches_of_at_most_100(tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path, width=300), chaos=0.5, seed=2)

    sizes = {len(sending.deliveries) for sending in plan.sendings}
    assert {1} < sizes
    assert max(sizes) <= 100
    assert all(
        len(sending.deliveries) == 1
        for sending in plan.sendings
        if any(delivery.is_heartbeat for delivery in sending.deliveries)
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("chaos", [0.0, 0.5, 1.0])
def test_what_the_plan_expects_is_what_the_rules_say(seed: int, chaos: float, tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path), chaos=chaos, seed=seed)

    outcome = _replayed(Service(), plan)

    assert outcome.differences == []
    assert len(outcome.answers) == sum(1 for _ in plan.deliveries)


class OverwritesSuccess(Service):
    """What this project exists to prevent: a late failure becomes the task's status."""

    def report(self, name: str, said: dict[str, Any]) -> dict[str, Any]:
        answer = super().report(name, said)
        if answer["verdict"] == "ignored_after_success" and said["status"] == "FAILED":
            task = self.tasks[name]
            self.tasks[name] = replace(task, status=TaskStatus.FAILED, version=task.version + 1)
            self.histories[name][-1] |= {"verdict": "applied", "version": task.version + 1}
        return answer


class LosesIgnoredReports(Service):
    def remember(self, name: str, entry: Entry) -> None:
        if entry["verdict"] != "ignored_after_success":
            super().remember(name, entry)


class SkipsAVersion(Service):
    def remember(self, name: str, entry: Entry) -> None:
        if entry["status"] == "COMPLETED" and entry["verdict"] == "applied":
            entry["version"] += 1
            self.tasks[name] = replace(self.tasks[name], version=entry["version"])
        super().remember(name, entry)


class InventsAChange(Service):
    def create(self, execution_id: str, bodies: list[dict[str, Any]]) -> dict[str, Any]:
        answer = super().create(execution_id, bodies)
        first = bodies[0]["taskId"]
        self.histories[first].append({"version": 2, "verdict": "stale_attempt", "status": "FAILED", "attempt": 1})
        return answer


class AppliesARepeat(Service):
    def report(self, name: str, said: dict[str, Any]) -> dict[str, Any]:
        answer = super().report(name, said)
        return answer | {"verdict": "applied"} if answer["verdict"] == "duplicate" else answer


class ForgetsOutputs(Service):
    def report(self, name: str, said: dict[str, Any]) -> dict[str, Any]:
        return super().report(name, {field: value for field, value in said.items() if field != "output"})


class TakesUnknownAttempts(Service):
    def _read(self, name: str, said: dict[str, Any]) -> Report:
        return super()._read(name, {"status": said["status"], **({"attempt": 1} if "attempt" in said else {})})


class NeverStopsAWorker(Service):
    def _serve(self, client: str, method: str, path: tuple[str, ...], body: Any) -> Any:
        answer = super()._serve(client, method, path, body)
        return answer | {"continue": True} if path[-1] == "heartbeat" else answer


class LosesATask(Service):
    def pages(self, client: str, *path: str) -> Iterator[dict[str, Any]]:
        pages = super().pages(client, *path)
        finished = any(task.status is TaskStatus.COMPLETED for task in self.tasks.values())
        yield from (item for item in pages if path[-1] != "tasks" or not finished or item["taskId"] != "join")


class MiscountsTasks(Service):
    def _serve(self, client: str, method: str, path: tuple[str, ...], body: Any) -> Any:
        answer = super()._serve(client, method, path, body)
        return answer | {"taskCount": 1} if "taskCount" in answer else answer


class KeepsAFailuresReason(Service):
    def view(self, task: Task) -> dict[str, Any]:
        return super().view(task) | {"failureReason": "RATE_LIMITED"}


@pytest.mark.parametrize(
    ("service", "words"),
    [
        (OverwritesSuccess, "was COMPLETED at version"),
        (OverwritesSuccess, "is FAILED, not COMPLETED"),
        (LosesIgnoredReports, "is not in its history"),
        (SkipsAVersion, "and its history has the changes"),
        (InventsAChange, "which nobody sent"),
        (AppliesARepeat, "ended in applied, not in duplicate"),
        (ForgetsOutputs, "has the output None"),
        (TakesUnknownAttempts, "not in refused"),
        (NeverStopsAWorker, "a heartbeat (a heartbeat after the success) ended in go_on, not in stop"),
        (LosesATask, "task join is missing"),
        (MiscountsTasks, "the execution counts 1 tasks"),
        (KeepsAFailuresReason, "still shows the failureReason"),
    ],
)
def test_the_checker_finds_what_a_service_gets_wrong(
    service: Callable[[], Service], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.replay._HISTORY_SECONDS", 0.0)
    plan = make_plan(_wide_trace(tmp_path), chaos=1, seed=1)

    found = _replayed(service(), plan).differences

    assert any(words in difference for difference in found), found


def test_the_checker_finds_a_delivery_that_was_never_answered(tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path), chaos=0.5, seed=1)
    outcome = _replayed(Service(), plan)

    found = differences(plan, outcome.answers[1:], outcome.ledger)

    assert "1 deliveries were never answered" in found


def test_a_report_that_may_have_been_taken_twice_may_be_called_a_duplicate(tmp_path: Path) -> None:
    plan = make_plan(_wide_trace(tmp_path))
    outcome = _replayed(Service(), plan)
    first = outcome.answers[0]
    name = first.delivery.task_id
    repeated = replace(first, end=End.DUPLICATE, may_have_been_taken_twice=True)
    entry = {"version": first.version, "verdict": "duplicate", "status": "IN_PROGRESS", "attempt": 1}
    histories = dict(outcome.ledger.histories)
    histories[name] = [*histories[name], entry]
    ledger = Ledger(outcome.ledger.execution, outcome.ledger.tasks, histories)

    assert differences(plan, [repeated, *outcome.answers[1:]], ledger) == []
    strict: list[Answered] = [replace(repeated, may_have_been_taken_twice=False), *outcome.answers[1:]]
    assert differences(plan, strict, ledger) != []


def test_what_the_service_was_too_busy_for_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy(Service):
        def _one_of_batch(self, said: dict[str, Any]) -> dict[str, Any]:
            self.turn = getattr(self, "turn", 0) + 1
            if self.turn % 3 == 0:
                return {"status": 503, "problem": {"detail": "busy"}}
            return super()._one_of_batch(said)

    monkeypatch.setattr("local.replay._POLL_SECONDS", 0.0)
    plan = make_plan(_wide_trace(tmp_path), seed=4)

    assert _replayed(Busy(), plan).differences == []


@pytest.mark.parametrize(
    ("trace", "speed", "chaos", "words"),
    [
        ("nowhere.json", None, 0.0, "there is no such file"),
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

    told = capsys.readouterr()
    assert (status, told.out) == (2, "")
    assert words in told.err
    assert told.err.count("\n") == 1
