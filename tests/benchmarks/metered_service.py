"""The whole service in one process, with all its usage counted: the real handlers, and deliveries as AWS makes them.

Handlers are called with the records and messages that the template's stream mappings, rules and queues would deliver,
each change and each message alone: that costs most, batches cost less. The table is an emulator's; bus, queue,
scheduler and WebSocket connections only record. Timers fire on request, on a clock that is set to their due time.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from moto.events.models import EventPattern

from local.handlers import load_handler
from tasklatch.dynamodb import keys
from tasklatch.runtime import services
from tasklatch.runtime.settings import get_settings
from tests.benchmarks.metering import Meter, Usage
from tests.factories import Context, Reply, api_event, call_api, fresh_name
from tests.template.template import resources, target
from tests.workflow_helpers import Clock, FakeClient, a_bus, a_queue

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

STATUS_ROUTE: Final = "POST /v1/executions/{executionId}/tasks/{taskId}/status"
HEARTBEAT_ROUTE: Final = "POST /v1/executions/{executionId}/tasks/{taskId}/heartbeat"
STATUSES_ROUTE: Final = "POST /v1/executions/{executionId}/statuses"
_ADVANCE_QUEUE: Final = "https://queue/advance"
_TIMER_QUEUE: Final = "https://queue/timers"
CLAIM_ROUTE: Final = "POST /v1/queues/{queue}/claim"
_FUNCTIONS: Final = (
    "claims",
    "executions",
    "report_status",
    "notifier",
    "retry_scheduler",
    "retry_dispatcher",
    "timer_sweeper",
    "reconciler",
    "workflow_advancer",
)
_QUEUE_REQUESTS_A_MESSAGE: Final = 2
"""Lambda receives a message and deletes it; a queue's owner pays for both."""


@cache
def _patterns(function: str) -> list[EventPattern]:
    """Return the patterns of a function's stream mapping."""
    logical_id = "".join(part.capitalize() for part in function.split("_")) + "Function"
    (mapping,) = (
        resource
        for resource in resources("AWS::Lambda::EventSourceMapping").values()
        if target(resource["FunctionName"]) == logical_id and "StartingPosition" in resource
    )
    return [EventPattern.load(item["Pattern"]) for item in mapping["FilterCriteria"]["Filters"]]


@dataclass
class Service:
    """Service over one table of an emulator; make it with `metered_service`."""

    meter: Meter
    bus: FakeClient = field(default_factory=a_bus)
    queue: FakeClient = field(default_factory=a_queue)
    watchers: FakeClient = field(default_factory=lambda: FakeClient(post_to_connection={}))
    clock: Clock = field(default_factory=Clock)
    claims: Mapping[str, str] = field(default_factory=dict)
    log_size: Callable[[], int] = lambda: 0
    advances_done: int = 0

    @contextlib.contextmanager
    def used(self) -> Iterator[Usage]:
        """Count the usage in the block, and nothing of before."""
        usage = self.meter.usage = Usage()
        for client in (self.bus, self.queue, self.watchers):
            client.calls.clear()
        self.advances_done = 0
        log_size = self.log_size()
        yield usage
        usage.log_bytes = self.log_size() - log_size
        usage.events = sum(len(request["Entries"]) for request in self.bus.requests("put_events"))
        usage.queue_requests += len(self.queue.requests("send_message_batch"))
        usage.live_messages = len(self.watchers.requests("post_to_connection"))
        self.meter.usage = Usage()

    def create(self, execution_id: str, *tasks: Any) -> Reply:
        """Create an execution, and deliver all that follows."""
        body = {"executionId": execution_id, "tasks": list(tasks)}
        reply = self._call("executions", "POST /v1/executions", {}, body)
        self.settle()
        return reply

    def report(self, execution_id: str, task_id: str, status: str, **fields: Any) -> Reply:
        """Report on a task, and deliver all that follows but the timers."""
        reply = self.report_only(execution_id, task_id, status, **fields)
        self.settle()
        return reply

    def report_only(self, execution_id: str, task_id: str, status: str, **fields: Any) -> Reply:
        """Report on a task; deliveries wait for `settle`."""
        path = {"executionId": execution_id, "taskId": task_id}
        return self._call("report_status", STATUS_ROUTE, path, {"status": status, **fields})

    def report_all(self, execution_id: str, reports: list[dict[str, Any]]) -> Reply:
        """Report on many tasks in one request; deliveries wait for `settle`."""
        return self._call("report_status", STATUSES_ROUTE, {"executionId": execution_id}, {"statuses": reports})

    def heartbeat(self, execution_id: str, task_id: str, **fields: Any) -> Reply:
        """Send a heartbeat, and deliver all that follows."""
        reply = self._call("report_status", HEARTBEAT_ROUTE, {"executionId": execution_id, "taskId": task_id}, fields)
        self.settle()
        return reply

    def claim(self, queue: str, **fields: Any) -> Any:
        """Claim tasks of a queue; deliveries wait for `settle`."""
        return self._call("claims", CLAIM_ROUTE, {"queue": queue}, fields).body["items"]

    def settle(self) -> None:
        """Deliver all that follows from the changes, but the timers."""
        while True:
            while self.meter.stream:
                record: Any = self.meter.stream.pop(0)
                for function in ("notifier", "retry_scheduler"):
                    if any(pattern.matches_event(record) for pattern in _patterns(function)):
                        self._invoke(function, {"Records": [record]})
            messages = self._sent_to(_ADVANCE_QUEUE)[self.advances_done :]
            if not messages:
                return
            self.advances_done += len(messages)
            for message in messages:
                self._take("workflow_advancer", message)

    def fire_timers(self) -> int:
        """Fire the scheduled timers, each at its due time, and deliver all that follows; return their number."""
        sent = self._sent_to(_TIMER_QUEUE)
        for message in sent:
            self.clock.now = max(self.clock.now, json.loads(message)["due"])
            self._take("retry_dispatcher", message)
        self.settle()
        return len(sent)

    def run_on_schedule(self, function: str) -> dict[str, int]:
        """Run a function as its schedule does, without what follows; return its summary."""
        self.meter.usage.invocations[function] += 1
        summary: dict[str, int] = load_handler(function).handler({}, Context(60_000))
        return summary

    def finish_update(self) -> None:
        """Mark that no executions of an older version are left to be found, as in any stack after its first hours."""
        item: Any = {keys.PK: {"S": "RECONCILER"}, keys.SK: {"S": "ENLISTING"}, "done": {"BOOL": True}}
        self.meter.client.put_item(TableName=self.meter.table, Item=item)

    def _sent_to(self, queue: str) -> list[str]:
        """Return the messages that were sent to a queue, delivered or not."""
        requests = [request for request in self.queue.requests("send_message_batch") if request["QueueUrl"] == queue]
        return [entry["MessageBody"] for request in requests for entry in request["Entries"]]

    def _take(self, function: str, message: str) -> None:
        self.meter.usage.queue_requests += _QUEUE_REQUESTS_A_MESSAGE
        self._invoke(function, {"Records": [{"messageId": fresh_name(), "body": message}]})

    def _call(self, function: str, route: str, path: Mapping[str, str], body: Any) -> Reply:
        self.meter.usage.requests += 1
        self.meter.usage.invocations[function] += 1
        claims = {"scope": "tasklatch/report tasklatch/read tasklatch/manage", **self.claims}
        event = api_event(route, path=path, body=body, claims=claims)
        reply = call_api(load_handler(function).handler, event, Context(60_000))
        if reply.status not in (200, 201):
            raise RuntimeError(f"{function} answered {reply.status}: {reply.text}")
        return reply

    def _invoke(self, function: str, event: dict[str, Any]) -> None:
        self.meter.usage.invocations[function] += 1
        answer = load_handler(function).handler(event, Context(60_000))
        if answer["batchItemFailures"]:
            raise RuntimeError(f"{function} did not serve {event}")


@contextlib.contextmanager
def metered_service(client: "DynamoDBClient", table: str) -> Iterator[Service]:
    """Give the handlers clients that count, until the block ends."""
    meter = Meter(client, table)
    service = Service(meter)
    initial = {
        "dynamodb": meter.metered,
        "events": lambda: service.bus,
        "sqs": lambda: service.queue,
        "live_callback": lambda _url: service.watchers,
        "system_clock": service.clock,
    }
    queues = {"ADVANCE_QUEUE_URL": _ADVANCE_QUEUE, "TIMER_QUEUE_URL": _TIMER_QUEUE}
    with contextlib.ExitStack() as replaced:
        replaced.enter_context(mock.patch.dict(os.environ, queues))
        get_settings.cache_clear()
        for module in (services, *map(load_handler, _FUNCTIONS)):
            for name, value in initial.items():
                if hasattr(module, name):
                    replaced.enter_context(mock.patch.object(module, name, value))
        yield service
