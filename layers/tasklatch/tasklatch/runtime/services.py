"""Composition of the services of one invocation, in one place.

Each is made when it is first used, and its module is loaded only then: a cold start loads what its function uses. This
module stands above all others but the handlers, although they are in one package.
"""

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING

from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clients import dynamodb, events, live_callback, scheduler, sqs
from tasklatch.runtime.clock import system_clock
from tasklatch.runtime.settings import Settings, get_settings

if TYPE_CHECKING:
    from tasklatch.executions.attempt_index import AttemptIndex
    from tasklatch.executions.control import ExecutionControl
    from tasklatch.executions.creation import ExecutionCreator
    from tasklatch.executions.reader import ExecutionReader
    from tasklatch.ledger.history import History
    from tasklatch.ledger.ledger import Ledger
    from tasklatch.ledger.payloads import Payloads
    from tasklatch.notifications.publisher import ChangePublisher
    from tasklatch.notifications.websockets import WebSocketConnections
    from tasklatch.retries.planner import RetryPlanner
    from tasklatch.retries.reconciler import Reconciler
    from tasklatch.retries.timer_handler import TimerHandler
    from tasklatch.retries.timer_scheduler import TimerScheduler
    from tasklatch.runtime.queue_records import DeadLetters
    from tasklatch.workflow.advancer import WorkflowAdvancer
    from tasklatch.workflow.closer import ExecutionCloser
    from tasklatch.workflow.definitions import WorkflowDefinitions


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

        callback = partial(live_callback, self.settings.live_callback_url)
        return WebSocketConnections(dynamodb(), callback, self.settings, system_clock, self.backoff)


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
    def attempt_index(self) -> "AttemptIndex":
        from tasklatch.executions.attempt_index import AttemptIndex

        return AttemptIndex(dynamodb(), self.settings, self.backoff)

    @cached_property
    def workflow_definitions(self) -> "WorkflowDefinitions":
        from tasklatch.workflow.definitions import WorkflowDefinitions

        return WorkflowDefinitions(dynamodb(), self.settings, system_clock, self.backoff)


class EventServices(Services):
    """Services of functions that react to changes, messages and schedules."""

    @cached_property
    def change_publisher(self) -> "ChangePublisher":
        from tasklatch.notifications.event_bus import EventBus
        from tasklatch.notifications.publisher import ChangePublisher

        self.settings.check_set("event_bus_name", "live_callback_url")
        bus = EventBus(events(), self.settings, self.backoff)
        return ChangePublisher(self.history, bus, self.websocket_connections, self.payloads)

    @cached_property
    def timer_scheduler(self) -> "TimerScheduler":
        from tasklatch.retries.timer_scheduler import TimerScheduler

        self.settings.check_set("timer_queue_url")
        return TimerScheduler(sqs(), scheduler(), self.settings, system_clock, self.backoff)

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

    @cached_property
    def workflow_advancer(self) -> "WorkflowAdvancer":
        from tasklatch.workflow.advancer import WorkflowAdvancer

        return WorkflowAdvancer(dynamodb(), self.settings, system_clock, self.backoff)

    @cached_property
    def execution_closer(self) -> "ExecutionCloser":
        from tasklatch.workflow.closer import ExecutionCloser

        return ExecutionCloser(dynamodb(), self.settings, system_clock, self.backoff)

    @cached_property
    def reconciler(self) -> "Reconciler":
        from tasklatch.retries.reconciler import Reconciler

        return Reconciler(
            dynamodb(),
            self.settings,
            self.retry_planner,
            self.workflow_advancer,
            self.execution_closer,
            system_clock,
            self.backoff,
        )

    @cached_property
    def dead_letters(self) -> "DeadLetters":
        from tasklatch.runtime.queue_records import DeadLetters

        self.settings.check_set("dead_letter_queue_url")
        return DeadLetters(sqs, self.settings.dead_letter_queue_url, self.backoff)
