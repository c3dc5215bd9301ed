"""The real adapters, on an emulator's DynamoDB, against a short model of the promises.

Hypothesis draws the events: reports, batches, timers, publications, cancellations, retries, time; each also twice, late
and out of order. After each step the tasks must match the model, and at the end every change must be published. Every
call to the emulator is also made on the explorer's table, and both responses must be equal.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tasklatch.domain.changes import Change
from tasklatch.domain.conditional_write import ConditionalWrite
from tasklatch.domain.errors import AttemptNotOpenError, ConflictError, TasklatchError
from tasklatch.domain.report import Report, Verdict, make_report
from tasklatch.domain.results import ReportResult
from tasklatch.domain.status import COMPLETED_PRECEDENCE, REPORTABLE, ExecutionStatus, TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.domain.timer import Timer
from tasklatch.dynamodb import write_expression
from tasklatch.ledger.history import History
from tasklatch.ledger.payloads import Payloads
from tasklatch.notifications.event_bus import EventBus
from tasklatch.notifications.publisher import ChangePublisher
from tasklatch.notifications.stream import read_changes
from tests.factories import FakeTime, fresh_name
from tests.integration.emulators import Table, make_backoff
from tests.model_checking import simulated_cloud
from tests.model_checking.mirror import Mirror
from tests.model_checking.task_model import ATTEMPTS, ModelTask
from tests.workflow_helpers import SETTINGS, FakeClient, World, a_bus, sent_timers

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PROVES: Final = "TASKLATCH_PROVE" in os.environ
EXAMPLES: Final = 100 if PROVES else 12
STEPS: Final = 40 if PROVES else 25
TIMEOUT_SECONDS: Final = 60
TASKS: Final = ("first", "second", "after")


reports: Final = st.builds(
    make_report,
    st.sampled_from(TASKS),
    st.sampled_from(sorted(REPORTABLE)),
    attempt=st.none() | st.integers(1, 3),
    message=st.none() | st.just("why"),
    output=st.none() | st.just('{"rows": 3}'),
)


class Life(RuleBasedStateMachine):
    """Life of one execution."""

    emulator: "DynamoDBClient"
    totals: "dict[str, int]"

    def __init__(self) -> None:
        super().__init__()
        self.mirror = Mirror(self.emulator)
        self.world = World(Table(self.emulator, SETTINGS, tenant=fresh_name()), client=self.mirror.client)
        self.bus = a_bus()
        self.model: dict[str, ModelTask] = {}
        self.execution = ExecutionStatus.RUNNING
        self.failed_by: str | None = None
        self.stream: list[tuple[str, Change]] = []
        self.streamed: dict[str, Any] = {}
        self.published = 0
        self.followed = 0
        self.acknowledged: list[tuple[Report, ReportResult]] = []

    # ------------------------------------------------------------ events

    @initialize(continues=st.booleans(), timeout=st.none() | st.just(TIMEOUT_SECONDS))
    def an_execution_is_created(self, *, continues: bool, timeout: int | None) -> None:
        policy = RetryPolicy(max_attempts=ATTEMPTS, initial_seconds=5, jitter=0)
        self.model = {
            "first": ModelTask(continues=continues, status=TaskStatus.SCHEDULED, is_open=True),
            "second": ModelTask(status=TaskStatus.SCHEDULED, is_open=True),
            "after": ModelTask(waits_for=("first",)),
        }
        self.world.create(
            *(
                TaskDefinition(
                    name,
                    depends_on=task.waits_for,
                    retry_policy=policy,
                    timeout_seconds=timeout if name == "second" else None,
                    on_failure=OnFailure.CONTINUE if task.continues else OnFailure.ABORT,
                )
                for name, task in self.model.items()
            )
        )
        self._compare()

    @rule(report=reports)
    def a_worker_reports(self, report: Report) -> None:
        expected = self.model[report.task_id].takes(report)
        try:
            recorded = self.world.ledger.record(self.world.tenant, "nightly", report, fresh_name())
        except AttemptNotOpenError:
            assert expected is None
        else:
            self._acknowledged(report, recorded, expected)
        self._compare()

    @rule(batch=st.lists(reports, min_size=1, max_size=5))
    def a_batch_is_reported(self, batch: list[Report]) -> None:
        expected = [self.model[report.task_id].takes(report) for report in batch]
        results = self.world.ledger.record_all(self.world.tenant, "nightly", batch, fresh_name())
        for report, verdict, result in zip(batch, expected, results, strict=True):
            if isinstance(result, TasklatchError):
                assert isinstance(result, AttemptNotOpenError)
                assert verdict is None
            else:
                self._acknowledged(report, result, verdict)
        self._compare()

    @rule(name=st.sampled_from(TASKS), attempt=st.none() | st.integers(1, 3))
    def a_worker_sends_a_heartbeat(self, name: str, attempt: int | None) -> None:
        task = self.model[name]
        under_way = task.status in (TaskStatus.SCHEDULED, TaskStatus.IN_PROGRESS)
        if (attempt or task.attempt) > task.opened:
            with pytest.raises(AttemptNotOpenError):
                self.world.ledger.heartbeat(self.world.tenant, "nightly", name, attempt, None)
            self._compare()
            return
        pulse = self.world.ledger.heartbeat(self.world.tenant, "nightly", name, attempt, None)
        assert pulse.should_continue is (under_way and attempt in (None, task.attempt))
        self._compare()

    @rule(seconds=st.sampled_from([5, TIMEOUT_SECONDS]))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.now += seconds * 1000

    @rule(back=st.integers(0, 3))
    def the_stream_reaches_the_scheduler(self, back: int) -> None:
        """Deliver the new records, and some of those delivered before."""
        records = self.stream[max(self.followed - back, 0) :]
        self.followed = len(self.stream)
        self._close_exhausted(change for _, change in records)
        self.world.retry_planner.plan(change.task for _, change in records)
        self._compare()

    @rule(back=st.integers(0, 3))
    def the_stream_reaches_the_notifier(self, back: int) -> None:
        self._publish(self.stream[max(self.published - back, 0) :])
        self.published = len(self.stream)

    @precondition(lambda self: bool(sent_timers(self.world.queue)))
    @rule(data=st.data())
    def a_timer_fires(self, data: st.DataObject) -> None:
        """Let any timer fire that was ever scheduled, however often it fired before."""
        timer, _ = data.draw(st.sampled_from(sent_timers(self.world.queue)))
        note(f"{timer} at {self.world.clock.now}")
        stands, due = self.model[timer.task_id], self._due(timer)
        did = self.world.timer_handler.handle(timer)
        if did == "opened":
            assert due
            assert stands.will_retry
            assert self.execution is ExecutionStatus.RUNNING
            stands.opens_next()
        elif did == "timed out":
            assert due
            assert stands.status in (TaskStatus.SCHEDULED, TaskStatus.IN_PROGRESS)
            stands.status = TaskStatus.TIMED_OUT
        elif due and timer.attempt == stands.attempt:
            assert did != "rescheduled" or timer.kind == "deadline"
            assert not (timer.kind == "retry" and stands.will_retry and self.execution is ExecutionStatus.RUNNING)
        self._compare()

    @rule(name=st.sampled_from(TASKS))
    def the_advancer_receives_a_task_event(self, name: str) -> None:
        self.world.advance(name)
        task = self.model[name]
        if task.settled and self.execution is ExecutionStatus.RUNNING:
            if task.ends_execution:
                self._fail(name)
            else:
                self._schedule_what_waits(name)
                self._close()
        elif task.status is TaskStatus.COMPLETED and self.execution is ExecutionStatus.FAILED:
            self._resume()
        self._compare()

    @rule()
    def the_advancer_receives_the_end(self) -> None:
        self.world.closer.cancel_open_tasks(self.world.tenant, "nightly")
        if self.execution not in (ExecutionStatus.RUNNING, ExecutionStatus.COMPLETED):
            self._cancel_open()
        self._compare()

    @rule()
    def a_person_cancels(self) -> None:
        ended = self.execution not in (ExecutionStatus.RUNNING, ExecutionStatus.TERMINATED)
        try:
            self.world.control.cancel(self.world.tenant, "nightly", "enough")
        except ConflictError:
            assert ended
        else:
            assert not ended
            self.execution, self.failed_by = ExecutionStatus.TERMINATED, None
            self._cancel_open()
        self._compare()

    @rule()
    def a_person_retries(self) -> None:
        over = self.execution in (ExecutionStatus.FAILED, ExecutionStatus.TERMINATED)
        try:
            self.world.reopener.retry(self.world.tenant, "nightly")
        except ConflictError:
            assert not over
        else:
            assert over
            self._retry()
        self._compare()

    # ------------------------------------------------------------ the model's view

    def _schedule_what_waits(self, *settled: str) -> None:
        for task in self.model.values():
            waits = any(not self._is_done(name) for name in task.waits_for)
            if task.status is TaskStatus.PENDING and not waits and set(settled) & {*task.waits_for}:
                task.schedule()

    def _is_done(self, name: str) -> bool:
        return self.model[name].settled and not self.model[name].ends_execution

    def _close(self) -> None:
        tasks = self.model.values()
        if all(task.settled for task in tasks):
            failing = sorted(name for name, task in self.model.items() if task.ends_execution)
            failed = failing or any(task.status is TaskStatus.CANCELED for task in tasks)
            self.execution = ExecutionStatus.FAILED if failed else ExecutionStatus.COMPLETED
            self.failed_by = failing[0] if failing else None

    def _fail(self, name: str) -> None:
        self.execution, self.failed_by = ExecutionStatus.FAILED, name

    def _resume(self) -> None:
        """Let an execution run on whose failure was taken back: all that is cancelled was by that failure."""
        if self.failed_by is None or self.model[self.failed_by].status is not TaskStatus.COMPLETED:
            return
        self._cancel_open()
        if not any(task.ends_execution for task in self.model.values()):
            self._retry()

    def _cancel_open(self) -> None:
        for task in self.model.values():
            if not task.settled:
                task.status = TaskStatus.CANCELED

    def _retry(self) -> None:
        self._cancel_open()
        for task in self.model.values():
            if task.status is TaskStatus.CANCELED or task.ends_execution:
                task.attempt = task.opened + 1
                task.allowed = max(ATTEMPTS, task.attempt)
                task.status = TaskStatus.PENDING
                task.is_open = False
                task.final = task.message = None
        self.execution, self.failed_by = ExecutionStatus.RUNNING, None
        for task in self.model.values():
            if task.status is TaskStatus.PENDING and all(map(self._is_done, task.waits_for)):
                task.schedule()
        self._close()

    def _close_exhausted(self, changes: Iterable[Change]) -> None:
        for change in changes:
            task = self.model[change.task.task_id]
            if (
                task.continues
                and task.retries_exhausted
                and change.task.version == self._task(change.task.task_id).version
            ):
                task.status = TaskStatus.COMPLETED_WITH_ERRORS

    def _due(self, timer: Timer) -> bool:
        return self.world.clock.now >= timer.due

    # ------------------------------------------------------------ checks

    def _task(self, name: str) -> Any:
        return self.world.task(name)

    def _acknowledged(self, report: Report, recorded: ReportResult, expected: Verdict | None) -> None:
        assert recorded.verdict is expected
        self.acknowledged.append((report, recorded))
        self.totals["reports"] = self.totals.get("reports", 0) + 1

    def _compare(self) -> None:
        """Check that tasks and execution match the model, and that the stream has every change."""
        self._collect()
        tasks = self.world.tasks().items()
        stands = {
            name: (task.status, task.attempt, task.output.fingerprint if task.output else None) for name, task in tasks
        }
        assert stands == {name: (task.status, task.attempt, task.output) for name, task in self.model.items()}
        assert self.world.status() is self.execution
        for task in self.world.tasks().values():
            assert (task.status is TaskStatus.COMPLETED) == (task.precedence == COMPLETED_PRECEDENCE)

    def _collect(self) -> None:
        """Add the changes since then to the stream: from the table value on which every call was made as well."""
        for change in self.mirror.changes[len(self.streamed) :]:
            number = str(len(self.streamed) + 1)
            record = simulated_cloud.stream_record(change, number)
            self.streamed[number] = record
            read, unreadable = read_changes([record])
            assert not unreadable
            self.stream += [(number, item) for item in read.values() if isinstance(item, Change)]

    def _publish(self, records: Sequence[tuple[str, Change]]) -> None:
        client: Any = self.mirror.client
        bus: Any = self.bus
        world = self.world
        publisher = ChangePublisher(
            History(client, world.settings, make_backoff()),
            EventBus(bus, world.settings, make_backoff()),
            world.watchers(FakeClient()),
            Payloads(client, world.settings, make_backoff(FakeTime())),
        )
        publisher.publish([change for _, change in records])

    def teardown(self) -> None:
        """Check that after all deliveries the history has every change in order, and every acknowledged report."""
        if not self.model:
            return
        self._publish(self.stream[self.published :])
        for name in TASKS:
            entries, cursor = History(self.mirror.client, self.world.settings, make_backoff()).list_entries(
                self.world.tenant, "nightly", name, limit=1000, cursor=None
            )
            assert cursor is None
            applied = [entry.version for entry in entries if entry.verdict is Verdict.APPLIED]
            assert applied == list(range(1, self._task(name).version + 1))
            stored = {(entry.version, entry.verdict, entry.status) for entry in entries}
            for report, recorded in self.acknowledged:
                if report.task_id == name:
                    # An addition that does not move a task is a change of its current status.
                    made_a_change = recorded.verdict is Verdict.APPLIED
                    status = recorded.task.status if made_a_change else report.status
                    assert (recorded.task.version, recorded.verdict, status) in stored
            events = [
                (event["version"], event["status"])
                for request in self.bus.requests("put_events")
                for event in map(_detail, request["Entries"])
                if event.get("taskId") == name
            ]
            assert {version for version, _ in events} == set(applied)
        self.totals["lives"] = self.totals.get("lives", 0) + 1
        self.totals["calls compared"] = self.totals.get("calls compared", 0) + self.mirror.compared


def _detail(entry: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(entry["Detail"])
    return read


def live(ministack: "DynamoDBClient", totals: dict[str, int], **initial: Any) -> None:
    """Run executions. The draws are the same in each run, but where the promises are proved."""
    run_state_machine_as_test(
        type("AnyLife", (Life,), {"emulator": ministack, "totals": totals}),
        settings=settings(
            stateful_step_count=STEPS,
            derandomize=not PROVES,
            print_blob=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **initial,
        ),
    )


def test_tasks_match_the_model_after_any_events(
    ministack: "DynamoDBClient", record_property: Callable[[str, object], None]
) -> None:
    # given
    totals: dict[str, int] = {}

    # when
    live(ministack, totals, max_examples=EXAMPLES)

    # then
    for name, count in totals.items():
        record_property(name, count)
    assert totals["lives"] >= EXAMPLES


@pytest.mark.parametrize("dropped", ["<", ">="], ids=["upper end", "lower end"])
def test_condition_that_allows_too_much_is_detected(
    ministack: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch, dropped: str
) -> None:
    # given
    parts = write_expression._parts

    def fewer(write: ConditionalWrite, pk: str, expires_at: int | None) -> Any:
        assigned, removed, conditions = parts(write, pk, expires_at)
        return assigned, removed, [term for term in conditions if term[1] != dropped]

    monkeypatch.setattr(write_expression, "_parts", fewer)

    # then
    with pytest.raises((AssertionError, KeyError)):
        live(ministack, {}, max_examples=100, phases=[Phase.generate])
