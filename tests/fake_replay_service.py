"""Fake of the service and its queue for replays: its rules are the domain's, its responses those of the API."""

import json
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any, cast

from local.api_client import ApiClient, ApiError, Reply
from local.replay.runner import replay
from local.replay.scripts import ReplayPlan
from local.replay.summary import ReplayResult
from local.replay.trace import Trace, read_trace
from local.worker import Assignment, WorkQueue
from tasklatch.api.v1.executions.translation import history_view
from tasklatch.api.v1.views import retry_view, task_view
from tasklatch.domain.attempt_id import decode_attempt
from tasklatch.domain.conditional_write import (
    ConditionalWrite,
    next_attempt_write,
    system_write,
    write_for_report,
)
from tasklatch.domain.dependencies import execution_outcome, fails_execution, is_terminal, retries_exhausted
from tasklatch.domain.errors import AttemptNotOpenError
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.history import change_entry, ignored_entry
from tasklatch.domain.report import Report, Verdict, make_report
from tasklatch.domain.retry import decide_retry
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy, Task
from tasklatch.domain.timer import TimerKind, timer_for
from tasklatch.domain.verdict import decide_verdict
from tasklatch.runtime.attempt_ids import current_attempt_id
from tests.factories import NOW, a_task

FAR_AWAY_MS = 10_000
TOGETHER_MS = 1_000
QUIET_SECONDS = 0.03
Entry = dict[str, Any]


def wide_trace(folder: Path, width: int = 40) -> Trace:
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
    """The service and its queue in memory.

    Its clock stands still while requests arrive, and then moves to the next timer that is not far away.
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
        names = (task.execution_id, task.task_id, task.attempt, current_attempt_id(task))
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


def replayed(service: Service, plan: ReplayPlan) -> ReplayResult:
    return replay(cast("ApiClient", service), plan, cast("WorkQueue", service), "nightly")
