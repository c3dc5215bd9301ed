"""The check of a replay detects each bug that a service could have."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.api_client import ApiError
from local.replay.check import LedgerSnapshot, ReceivedAttempt, RequestResult, differences
from local.replay.plan import make_plan
from local.replay.scripts import ExpectedOutcome
from tasklatch.domain.conditional_write import ConditionalWrite
from tasklatch.domain.dependencies import fails_execution, is_terminal, retries_exhausted
from tasklatch.domain.report import Verdict
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import OnFailure, Task
from tests.fake_replay_service import Entry, Service, replayed, wide_trace


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.replay.runner._POLL_SECONDS", 0.005)
    monkeypatch.setattr("local.replay.sending._POLL_SECONDS", 0.005)
    monkeypatch.setattr("local.replay.runner._HISTORY_SECONDS", 0.0)
    monkeypatch.setattr("local.replay.runner._STALL_SECONDS", 2.0)


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
        (SkipsAVersion, "but its history has the versions"),
        (InventsAChange, "which no worker sent"),
        (AppliesARepeat, "got applied, expected duplicate"),
        (ForgetsOutputs, "has the output None"),
        (TakesUnknownAttempts, "expected refused"),
        (NeverStopsAWorker, "a heartbeat (a heartbeat after the success) got continue, expected stop"),
        (LosesATask, "task join is missing"),
        (MiscountsTasks, "the execution counts 1 tasks"),
        (KeepsAFailuresReason, "still shows the failureReason"),
        (IgnoresDependencies, "task join: was scheduled at"),
        (IgnoresDependencies, "task join: was sent to a worker before the last report on"),
        (OpensARetryTwice, "its attempts were opened as [1, 2, 2"),
        (OpensARetryTooEarly, "was opened at"),
        (RetriesWhatSucceeded, "then became SCHEDULED"),
        (SaysThatNothingFollows, "got willRetry False, expected True"),
        (NeverRetries, "the execution is RUNNING, not COMPLETED"),
        (MissesTheDead, "the execution is RUNNING, not COMPLETED"),
        (FailsInTheEnd, "the execution is FAILED, not COMPLETED"),
    ],
)
def test_check_detects_each_bug_of_a_service(service: Callable[[], Service], words: str, tmp_path: Path) -> None:
    plan = make_plan(wide_trace(tmp_path), chaos=1, seed=1, ends="COMPLETED")

    result = replayed(service(), plan).differences

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
def test_check_detects_each_bug_after_a_fatal_failure(
    service: Callable[[], Service], words: str, tmp_path: Path
) -> None:
    plan = make_plan(wide_trace(tmp_path), chaos=0.2, seed=4, ends="FAILED")

    result = replayed(service(), plan).differences

    assert any(words in difference for difference in result), result


def test_check_detects_a_request_without_response(tmp_path: Path) -> None:
    plan = make_plan(wide_trace(tmp_path), chaos=0.5, seed=1, ends="COMPLETED")
    outcome = replayed(Service(), plan)

    result = differences(plan, outcome.results[1:], outcome.received, outcome.ledger)

    assert any("1 of its requests got no response" in difference for difference in result)


def test_report_that_may_be_processed_twice_may_be_a_duplicate(tmp_path: Path) -> None:
    plan = make_plan(wide_trace(tmp_path))
    outcome = replayed(Service(), plan)
    first, *others = outcome.results
    name = first.request.task_id
    repeated = replace(first, outcome=ExpectedOutcome.DUPLICATE, may_be_processed_twice=True)
    entry = {"version": first.version, "verdict": "duplicate", "status": "IN_PROGRESS", "attempt": 1}
    histories = dict(outcome.ledger.histories)
    histories[name] = [*histories[name], entry]
    ledger = LedgerSnapshot(outcome.ledger.execution, outcome.ledger.tasks, histories)

    assert differences(plan, [repeated, *others], outcome.received, ledger) == []
    strict: list[RequestResult] = [replace(repeated, may_be_processed_twice=False), *others]
    assert differences(plan, strict, outcome.received, ledger) != []


def test_task_that_was_sent_to_a_worker_too_early_is_detected(tmp_path: Path) -> None:
    plan = make_plan(wide_trace(tmp_path))
    outcome = replayed(Service(), plan)
    taken = [ReceivedAttempt("join", 1, 0.0), *outcome.received]

    result = differences(plan, outcome.results, taken, outcome.ledger)

    assert any("task join: was sent to a worker before the last report on" in difference for difference in result)
