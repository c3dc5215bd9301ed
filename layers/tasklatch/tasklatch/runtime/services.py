"""Composition of the services of one invocation, in one place.

Each is made when it is first used, and its module is loaded only then: a cold start loads what its function uses. This
module stands above all others but the handlers, although they are in one package.
"""

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING

from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clients import dynamodb, events, live_callback, s3, scheduler, sqs
from tasklatch.runtime.clock import system_clock
from tasklatch.runtime.settings import Settings, get_settings

if TYPE_CHECKING:
    from tasklatch.claims.claims import Claims
    from tasklatch.claims.releases import Releases
    from tasklatch.executions.attempt_index import AttemptIndex
    from tasklatch.executions.concurrency_slots import ConcurrencySlots
    from tasklatch.executions.control import ExecutionControl
    from tasklatch.executions.creation import ExecutionCreator
    from tasklatch.executions.reader import ExecutionReader
    from tasklatch.executions.running_executions import RunningExecutions
    from tasklatch.ledger.history import History
    from tasklatch.ledger.ledger import Ledger
    from tasklatch.ledger.payloads import Payloads
    from tasklatch.notifications.publisher import ChangePublisher
    from tasklatch.notifications.set_aside import SetAsideRecords
    from tasklatch.notifications.websockets import WebSocketConnections
    from tasklatch.retries.due_list import DueList
    from tasklatch.retries.enlisting import Enlisting
    from tasklatch.retries.planner import RetryPlanner
    from tasklatch.retries.reconciler import Reconciler
    from tasklatch.retries.timer_handler import TimerHandler
    from tasklatch.retries.timer_scheduler import TimerScheduler
    from tasklatch.retries.timer_sweep import TimerSweep
    from tasklatch.runtime.queue_records import DeadLetters
    from tasklatch.schedules.firing import ScheduleFiring
    from tasklatch.schedules.schedule_history import ScheduleHistory
    from tasklatch.schedules.scheduler_sync import SchedulerSync
    from tasklatch.schedules.schedules import Schedules
    from tasklatch.workflow.advance_queue import AdvanceQueue
    from tasklatch.workflow.advancer import WorkflowAdvancer
    from tasklatch.workflow.closer import ExecutionCloser
    from tasklatch.workflow.definitions import WorkflowDefinitions
    from tasklatch.workflow.follow_ups import FollowUps
    from tasklatch.workflow.message_handler import AdvanceHandler
    from tasklatch.workflow.reopener import ExecutionReopener
    from tasklatch.workflow.slot_assigner import SlotAssigner


class Services:
    """Services that functions of all kinds use.

    Parameters
    ----------
    remaining_ms
        Returns the function's remaining time in milliseconds.
    """

    def __init__(self, remaining_ms: Callable[[], int]) -> None:
        self.backoff = Backoff(remaining_ms)

    @cached_property
    def settings(self) -> Settings:
        return get_settings()

    @cached_property
    def ledger(self) -> "Ledger":
        from tasklatch.ledger.ledger import Ledger

        return Ledger(dynamodb(), self.settings, system_clock, self.backoff)

    @cached_property
    def history(self) -> "History":
        from tasklatch.ledger.history import History

        return History(dynamodb(), self.settings, self.backoff)

    @cached_property
    def payloads(self) -> "Payloads":
        from tasklatch.ledger.payloads import Payloads

        return Payloads(dynamodb(), self.settings, self.backoff)

    @cached_property
    def websocket_connections(self) -> "WebSocketConnections":
        from tasklatch.notifications.websockets import WebSocketConnections

        return WebSocketConnections(dynamodb(), self.settings, system_clock, self.backoff)

    @cached_property
    def workflow_definitions(self) -> "WorkflowDefinitions":
        from tasklatch.workflow.definitions import WorkflowDefinitions

        return WorkflowDefinitions(dynamodb(), self.settings, system_clock, self.backoff)

    @cached_property
    def schedule_history(self) -> "ScheduleHistory":
        from tasklatch.schedules.schedule_history import ScheduleHistory

        return ScheduleHistory(dynamodb(), self.settings, self.backoff)

    @cached_property
    def scheduler_sync(self) -> "SchedulerSync":
        from tasklatch.schedules.scheduler_sync import SchedulerSync

        names = ("trigger_queue_url", "trigger_queue_arn", "trigger_failures_arn", "trigger_group", "trigger_role_arn")
        self.settings.check_set(*names)
        return SchedulerSync(scheduler(), sqs(), self.settings, self.backoff)

    @cached_property
    def advance_queue(self) -> "AdvanceQueue":
        from tasklatch.workflow.advance_queue import AdvanceQueue

        self.settings.check_set("advance_queue_url")
        return AdvanceQueue(sqs, self.settings, self.backoff)

    @cached_property
    def execution_reopener(self) -> "ExecutionReopener":
        from tasklatch.workflow.reopener import ExecutionReopener

        return ExecutionReopener(dynamodb(), self.settings, system_clock, self.backoff, self.advance_queue)


class RequestServices(Services):
    """Services of functions that respond to requests of the API."""

    @cached_property
    def execution_creator(self) -> "ExecutionCreator":
        from tasklatch.executions.creation import ExecutionCreator

        return ExecutionCreator(dynamodb(), self.settings, system_clock, self.backoff)

    @cached_property
    def execution_reader(self) -> "ExecutionReader":
        from tasklatch.executions.reader import ExecutionReader

        return ExecutionReader(dynamodb(), self.settings, system_clock, self.backoff)

    @cached_property
    def execution_control(self) -> "ExecutionControl":
        from tasklatch.executions.control import ExecutionControl

        return ExecutionControl(dynamodb(), self.settings, system_clock, self.backoff)

    @cached_property
    def claims(self) -> "Claims":
        from tasklatch.claims.claims import Claims

        return Claims(dynamodb(), self.settings, system_clock, self.backoff)

    @cached_property
    def releases(self) -> "Releases":
        from tasklatch.claims.releases import Releases

        return Releases(self.ledger, system_clock, self.backoff)

    @cached_property
    def attempt_index(self) -> "AttemptIndex":
        from tasklatch.executions.attempt_index import AttemptIndex

        return AttemptIndex(dynamodb(), self.settings, self.backoff)

    @cached_property
    def concurrency_slots(self) -> "ConcurrencySlots":
        from tasklatch.executions.concurrency_slots import ConcurrencySlots

        return ConcurrencySlots(dynamodb(), self.settings, system_clock, self.backoff)

    @cached_property
    def running_executions(self) -> "RunningExecutions":
        from tasklatch.executions.running_executions import RunningExecutions

        return RunningExecutions(dynamodb(), self.settings, self.backoff)

    @cached_property
    def schedules(self) -> "Schedules":
        from tasklatch.executions.idempotency_keys import IdempotencyKeys
        from tasklatch.schedules.schedule_table import ScheduleTable
        from tasklatch.schedules.schedules import Schedules

        keys = IdempotencyKeys(dynamodb(), self.settings, system_clock, self.backoff)
        table = ScheduleTable(dynamodb(), self.settings, self.backoff)
        return Schedules(table, self.scheduler_sync, keys, system_clock)


class TimerServices(Services):
    """Services of functions that schedule timers and handle them."""

    @cached_property
    def timer_scheduler(self) -> "TimerScheduler":
        from tasklatch.retries.timer_scheduler import TimerScheduler

        self.settings.check_set("timer_queue_url")
        return TimerScheduler(sqs(), self.due_list, self.settings, system_clock, self.backoff)

    @cached_property
    def due_list(self) -> "DueList":
        from tasklatch.retries.due_list import DueList

        return DueList(dynamodb(), self.settings, self.backoff)

    @cached_property
    def timer_sweep(self) -> "TimerSweep":
        from tasklatch.retries.timer_sweep import TimerSweep

        return TimerSweep(dynamodb(), self.settings, self.due_list, self.timer_scheduler, system_clock, self.backoff)

    @cached_property
    def retry_planner(self) -> "RetryPlanner":
        from tasklatch.retries.planner import RetryPlanner

        return RetryPlanner(self.ledger, self.timer_scheduler, system_clock)

    @cached_property
    def timer_handler(self) -> "TimerHandler":
        from tasklatch.executions.execution_table import ExecutionTable
        from tasklatch.retries.timer_handler import TimerHandler

        executions = ExecutionTable(dynamodb(), self.settings, system_clock, self.backoff)
        return TimerHandler(self.ledger, executions, self.timer_scheduler, system_clock)


class EventServices(TimerServices):
    """Services of functions that react to changes, messages and schedules."""

    @cached_property
    def change_publisher(self) -> "ChangePublisher":
        from tasklatch.notifications.broadcast import WatcherBroadcast
        from tasklatch.notifications.event_bus import EventBus
        from tasklatch.notifications.publisher import ChangePublisher

        self.settings.check_set("event_bus_name", "live_callback_url")
        bus = EventBus(events(), self.settings, self.backoff)
        callback = partial(live_callback, self.settings.live_callback_url)
        watchers = WatcherBroadcast(self.websocket_connections, callback, self.backoff)
        return ChangePublisher(self.history, bus, watchers, self.payloads)

    def close_connection(self, connection_id: str) -> None:
        """Close a WebSocket connection, if it can be reached."""
        from tasklatch.notifications.broadcast import close_connection

        self.settings.check_set("live_callback_url")
        close_connection(live_callback(self.settings.live_callback_url), connection_id)

    def set_aside_records(self, function: str) -> "SetAsideRecords":
        """Return the store of the stream's records that a function cannot process."""
        from tasklatch.notifications.set_aside import SetAsideRecords

        self.settings.check_set("stream_failures_bucket")
        return SetAsideRecords(s3, self.settings.stream_failures_bucket, function, self.backoff)

    @cached_property
    def workflow_advancer(self) -> "WorkflowAdvancer":
        from tasklatch.workflow.advancer import WorkflowAdvancer

        return WorkflowAdvancer(dynamodb(), self.settings, system_clock, self.backoff)

    @cached_property
    def execution_closer(self) -> "ExecutionCloser":
        from tasklatch.workflow.closer import ExecutionCloser

        return ExecutionCloser(dynamodb(), self.settings, system_clock, self.backoff, self.advance_queue)

    @cached_property
    def advance_handler(self) -> "AdvanceHandler":
        from tasklatch.platforms.child_definitions import TRANSLATORS
        from tasklatch.workflow.child_tasks import ChildTasks
        from tasklatch.workflow.message_handler import AdvanceHandler

        child_tasks = ChildTasks(
            dynamodb(), self.settings, system_clock, self.backoff, self.execution_closer, TRANSLATORS
        )
        return AdvanceHandler(
            self.workflow_advancer, self.execution_closer, self.execution_reopener, self.slot_assigner, child_tasks
        )

    @cached_property
    def slot_assigner(self) -> "SlotAssigner":
        from tasklatch.workflow.slot_assigner import SlotAssigner

        return SlotAssigner(dynamodb(), self.settings, system_clock, self.backoff, self.advance_queue)

    @cached_property
    def follow_ups(self) -> "FollowUps":
        from tasklatch.workflow.follow_ups import FollowUps

        return FollowUps(dynamodb(), self.settings, self.backoff, self.advance_queue)

    @cached_property
    def reconciler(self) -> "Reconciler":
        from tasklatch.retries.execution_repair import ExecutionRepair, RepairServices
        from tasklatch.retries.lost_changes import LostChanges
        from tasklatch.retries.reconciler import Reconciler

        services = RepairServices(
            self.retry_planner,
            self.workflow_advancer,
            self.execution_closer,
            self.execution_reopener,
            self.slot_assigner,
            LostChanges(dynamodb(), self.settings, self.change_publisher, system_clock, self.backoff),
            self.advance_queue,
        )
        repair = ExecutionRepair(dynamodb(), self.settings, services, system_clock, self.backoff)
        return Reconciler(dynamodb(), self.settings, repair, self.backoff)

    @cached_property
    def enlisting(self) -> "Enlisting":
        from tasklatch.retries.enlisting import Enlisting

        return Enlisting(dynamodb(), self.settings, system_clock, self.backoff)

    @cached_property
    def schedule_firing(self) -> "ScheduleFiring":
        from tasklatch.executions.creation import ExecutionCreator
        from tasklatch.executions.execution_table import ExecutionTable
        from tasklatch.schedules.firing import ScheduleFiring
        from tasklatch.schedules.schedule_table import ScheduleTable

        table = ScheduleTable(dynamodb(), self.settings, self.backoff)
        creator = ExecutionCreator(dynamodb(), self.settings, system_clock, self.backoff)
        executions = ExecutionTable(dynamodb(), self.settings, system_clock, self.backoff)
        return ScheduleFiring(table, self.scheduler_sync, self.schedule_history, creator, executions, system_clock)

    @cached_property
    def dead_letters(self) -> "DeadLetters":
        from tasklatch.runtime.queue_records import DeadLetters

        self.settings.check_set("dead_letter_queue_url")
        return DeadLetters(sqs, self.settings.dead_letter_queue_url, self.backoff)
