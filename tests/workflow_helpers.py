"""Helpers of tests of the consumers: AWS clients that record, a clock that can be set, whole workflows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from tasklatch.domain.advance import Advance, AdvanceMessage
from tasklatch.domain.dependencies import is_terminal
from tasklatch.domain.execution import Execution
from tasklatch.domain.new_execution import NewExecution
from tasklatch.domain.results import ReportResult
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import RetryPolicy, Task
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.domain.timer import Timer
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.batch_write import batched
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.executions.concurrency_slots import ConcurrencySlots
from tasklatch.executions.control import ExecutionControl
from tasklatch.executions.creation import ExecutionCreator
from tasklatch.executions.execution_table import ExecutionTable
from tasklatch.executions.reader import ExecutionReader
from tasklatch.ledger.history import History
from tasklatch.ledger.ledger import Ledger
from tasklatch.ledger.payloads import Payloads
from tasklatch.notifications.broadcast import WatcherBroadcast
from tasklatch.notifications.event_bus import EventBus
from tasklatch.notifications.publisher import ChangePublisher
from tasklatch.notifications.websockets import WebSocketConnections
from tasklatch.platforms.child_definitions import TRANSLATORS
from tasklatch.retries.due_list import DueList
from tasklatch.retries.execution_repair import ExecutionRepair, RepairServices
from tasklatch.retries.lost_changes import LostChanges
from tasklatch.retries.planner import RetryPlanner
from tasklatch.retries.reconciler import Reconciler
from tasklatch.retries.timer_handler import TimerHandler
from tasklatch.retries.timer_scheduler import TimerScheduler, timer_from_message
from tasklatch.retries.timer_sweep import TimerSweep
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.settings import Settings
from tasklatch.workflow.advance_queue import AdvanceQueue, from_body
from tasklatch.workflow.advancer import WorkflowAdvancer
from tasklatch.workflow.child_tasks import ChildTasks
from tasklatch.workflow.closer import ExecutionCloser
from tasklatch.workflow.follow_ups import FollowUps
from tasklatch.workflow.message_handler import AdvanceHandler
from tasklatch.workflow.reopener import ExecutionReopener
from tasklatch.workflow.slot_assigner import SlotAssigner
from tests.factories import NOW, FakeTime, a_report, fresh_name
from tests.integration.emulators import Table, make_backoff

SETTINGS = Settings(
    table_name="ledger",
    tenant_claim="",
    retention_days=90,
    event_bus_name="bus",
    timer_queue_url="https://queue/timers",
    advance_queue_url="https://queue/advances",
    live_url="wss://live",
    live_callback_url="https://live",
)
AT_ONCE = RetryPolicy(max_attempts=2, initial_seconds=0, jitter=0)
ONCE = RetryPolicy(max_attempts=1)


def refusal(code: str, operation: str = "Any") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


class FakeClient:
    """AWS client that records its requests, and responds as set: with a value, an error, or a function's result."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            self.calls.append((operation, request))
            answer = self.answers[operation]
            result = answer(**request) if callable(answer) else answer
            if isinstance(result, Exception):
                raise result
            return result

        return call

    def requests(self, operation: str) -> list[dict[str, Any]]:
        return [request for name, request in self.calls if name == operation]


def in_turn(*answers: Any) -> Callable[..., Any]:
    """Return a function that responds with one value after the other."""
    left = list(answers)
    return lambda **_request: left.pop(0)


def a_bus() -> FakeClient:
    """Return an event bus that accepts everything."""
    return FakeClient(
        put_events=lambda Entries, **_: {  # noqa: N803 - AWS's own name
            "FailedEntryCount": 0,
            "Entries": [{"EventId": "event"} for _ in Entries],
        }
    )


def a_queue() -> FakeClient:
    """Return a queue that accepts everything."""
    return FakeClient(send_message_batch={"Successful": []})


def sent_timers(queue: FakeClient) -> list[tuple[Timer, int]]:
    """Return the timers that were sent to a queue, with their delay in seconds."""
    return [
        (timer_from_message(entry["MessageBody"]), entry["DelaySeconds"])
        for request in queue.requests("send_message_batch")
        for entry in request["Entries"]
    ]


@dataclass
class Clock:
    """Clock that shows the time that is set."""

    now: int = NOW

    def __call__(self) -> int:
        return self.now


class OnePageBackoff(Backoff):
    """Backoff of an invocation that has time for one page of a sweep over all tasks."""

    _pages: int = 1

    def has_time(self, _milliseconds: int) -> bool:
        self._pages -= 1
        return self._pages >= 0


@dataclass
class World:
    """The service's parts over one emulated table, with a clock of their own and timers that are only recorded."""

    table: Table
    clock: Clock = field(default_factory=Clock)
    queue: FakeClient = field(default_factory=a_queue)
    bus: FakeClient = field(default_factory=a_bus)
    client: Any = None
    time_left: FakeTime = field(default_factory=lambda: FakeTime(60_000))
    advances: FakeClient = field(default_factory=a_queue)

    @property
    def tenant(self) -> str:
        return self.table.tenant

    @property
    def settings(self) -> Settings:
        return SETTINGS._replace(table_name=self.table.settings.table_name)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self._client, self.settings, self.clock, make_backoff(self.time_left))

    @property
    def execution_table(self) -> ExecutionTable:
        return ExecutionTable(self._client, self.settings, self.clock, make_backoff(self.time_left))

    @property
    def creator(self) -> ExecutionCreator:
        return ExecutionCreator(self._client, self.settings, self.clock, make_backoff(self.time_left))

    @property
    def reader(self) -> ExecutionReader:
        return ExecutionReader(self._client, self.settings, self.clock, make_backoff(self.time_left))

    @property
    def control(self) -> ExecutionControl:
        return ExecutionControl(self._client, self.settings, self.clock, make_backoff(self.time_left))

    @property
    def advancer(self) -> WorkflowAdvancer:
        return WorkflowAdvancer(self._client, self.settings, self.clock, make_backoff(self.time_left))

    @property
    def closer(self) -> ExecutionCloser:
        backoff = make_backoff(self.time_left)
        return ExecutionCloser(self._client, self.settings, self.clock, backoff, self.advance_queue)

    @property
    def follow_ups(self) -> FollowUps:
        return FollowUps(self._client, self.settings, make_backoff(self.time_left), self.advance_queue)

    @property
    def advance_queue(self) -> AdvanceQueue:
        client: Any = self.advances
        return AdvanceQueue(lambda: client, self.settings, make_backoff(self.time_left))

    def sent_messages(self) -> list[AdvanceMessage]:
        """Return the messages that were sent to the advance queue."""
        requests = self.advances.requests("send_message_batch")
        return [from_body(entry["MessageBody"]) for request in requests for entry in request["Entries"]]

    def handle(self, message: AdvanceMessage) -> None:
        """Handle a message of the advance queue."""
        handler = AdvanceHandler(self.advancer, self.closer, self.reopener, self.slot_assigner, self.child_tasks)
        handler.handle(message)

    @property
    def child_tasks(self) -> ChildTasks:
        backoff = make_backoff(self.time_left)
        return ChildTasks(self._client, self.settings, self.clock, backoff, self.closer, TRANSLATORS)

    @property
    def slot_assigner(self) -> SlotAssigner:
        backoff = make_backoff(self.time_left)
        return SlotAssigner(self._client, self.settings, self.clock, backoff, self.advance_queue)

    @property
    def slots(self) -> ConcurrencySlots:
        return ConcurrencySlots(self._client, self.settings, self.clock, make_backoff(self.time_left))

    @property
    def reopener(self) -> ExecutionReopener:
        backoff = make_backoff(self.time_left)
        return ExecutionReopener(self._client, self.settings, self.clock, backoff, self.advance_queue)

    @property
    def timers(self) -> TimerScheduler:
        queue: Any = self.queue
        return TimerScheduler(queue, self.due_list, self.settings, self.clock, make_backoff(self.time_left))

    @property
    def due_list(self) -> DueList:
        return DueList(self._client, self.settings, make_backoff(self.time_left))

    @property
    def timer_sweep(self) -> TimerSweep:
        backoff = make_backoff(self.time_left)
        return TimerSweep(self._client, self.settings, self.due_list, self.timers, self.clock, backoff)

    @property
    def timer_handler(self) -> TimerHandler:
        return TimerHandler(self.ledger, self.execution_table, self.timers, self.clock)

    @property
    def retry_planner(self) -> RetryPlanner:
        return RetryPlanner(self.ledger, self.timers, self.clock)

    @property
    def reconciler(self) -> Reconciler:
        backoff = make_backoff(self.time_left)
        bus: Any = self.bus
        publisher = ChangePublisher(
            History(self._client, self.settings, backoff),
            EventBus(bus, self.settings, backoff),
            self.watchers(FakeClient(post_to_connection={})),
            Payloads(self._client, self.settings, backoff),
        )
        services = RepairServices(
            self.retry_planner,
            self.advancer,
            self.closer,
            self.reopener,
            self.slot_assigner,
            LostChanges(self._client, self.settings, publisher, self.clock, backoff),
            self.advance_queue,
        )
        repair = ExecutionRepair(self._client, self.settings, services, self.clock, backoff)
        return Reconciler(self._client, self.settings, repair, backoff)

    @property
    def connections(self) -> WebSocketConnections:
        return WebSocketConnections(self._client, self.settings, self.clock, make_backoff(self.time_left))

    def watchers(self, callback: FakeClient) -> WatcherBroadcast:
        initial: Any = callback
        return WatcherBroadcast(self.connections, lambda: initial, make_backoff(self.time_left))

    @property
    def _client(self) -> Any:
        return self.client or self.table.client

    def through(self, client: Any, time_left: FakeTime | None = None) -> "World":
        """Return the same parts with another client."""
        left = time_left or FakeTime(60_000)
        return World(self.table, self.clock, self.queue, self.bus, client, left, self.advances)

    def create(self, *definitions: TaskDefinition, execution_id: str = "nightly") -> Execution:
        return self.creator.create(NewExecution(self.tenant, execution_id, definitions))[0]

    def tasks(self, execution_id: str = "nightly") -> dict[str, Task]:
        items = self.table.items(keys.execution_pk(self.tenant, execution_id))
        result = [task_from_item(item) for item in items if str(item["sk"]["S"]).startswith(keys.TASK_PREFIX)]
        return {task.task_id: task for task in result}

    def task(self, task_id: str, execution_id: str = "nightly") -> Task:
        return self.ledger.read(self.tenant, execution_id, task_id)

    def statuses(self, execution_id: str = "nightly") -> dict[str, TaskStatus]:
        return {task_id: task.status for task_id, task in self.tasks(execution_id).items()}

    def execution(self, execution_id: str = "nightly") -> Execution:
        return self.reader.get(self.tenant, execution_id)

    def status(self, execution_id: str = "nightly") -> ExecutionStatus:
        return self.execution(execution_id).status

    def report(
        self,
        task_id: str,
        status: TaskStatus = TaskStatus.COMPLETED,
        execution_id: str = "nightly",
        **fields: Any,
    ) -> ReportResult:
        return self.ledger.record(self.tenant, execution_id, a_report(status, task_id, **fields), fresh_name())

    def report_all(self, task_ids: Sequence[str], execution_id: str = "nightly") -> None:
        """Report successes of many tasks, without their consequences yet."""
        for some in batched(task_ids, 100):
            reports = [a_report(TaskStatus.COMPLETED, task_id) for task_id in some]
            self.ledger.record_all(self.tenant, execution_id, reports, fresh_name())

    def advance(self, *task_ids: str, execution_id: str = "nightly") -> None:
        """Handle events as the advancer does: the end of the execution is checked once."""
        advancer = self.advancer
        moved = [advancer.schedule_dependents(self.tenant, execution_id, task_id) for task_id in task_ids]
        if any(moved) and self.closer.complete_if_finished(self.tenant, execution_id):
            self.reopener.resume_if_rescued(self.tenant, execution_id)

    def complete(self, *task_ids: str) -> None:
        """Report successes of tasks, with all their consequences."""
        for task_id in task_ids:
            self.report(task_id)
            self.advance(task_id)

    def settle(self, execution_id: str = "nightly") -> None:
        """Let all follow from the tasks as they are, until nothing more changes."""
        before: Mapping[str, Task] = {}
        while before != (tasks := self.tasks(execution_id)):
            before = tasks
            for task in tasks.values():
                if task.has_children and task.status is TaskStatus.IN_PROGRESS:
                    self.handle(AdvanceMessage(Advance.CHILDREN, self.tenant, execution_id, task.task_id))
                elif is_terminal(task):
                    self.advance(task.task_id, execution_id=execution_id)

    def run_to_end(self, outputs: Mapping[str, str] | None = None) -> Sequence[str]:
        """Complete every scheduled task until none is left; return the order in which tasks could start."""
        order: list[str] = []
        while True:
            ready = [task_id for task_id, status in self.statuses().items() if status is TaskStatus.SCHEDULED]
            if not ready:
                return order
            for task_id in ready:
                order.append(task_id)
                self.report(task_id, output=(outputs or {}).get(task_id))
                self.advance(task_id)


def diamond() -> list[TaskDefinition]:
    """Return one task, two that depend on it, and one that depends on both."""
    return [
        TaskDefinition("top"),
        TaskDefinition("left", depends_on=("top",)),
        TaskDefinition("right", depends_on=("top",)),
        TaskDefinition("bottom", depends_on=("left", "right")),
    ]
