"""The whole service in one process: every function, called as AWS calls it, and called again as AWS does.

An API's caller repeats a request that got 503 or no response. A stream's records are delivered again from the first
that was reported failed; a queue's messages each on its own. Filters, rules and tries are the template's.
"""

import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from threading import Lock
from typing import Any, Final, TypeVar

import pytest

from local.cloud.emulator_schedules import SCHEDULED_TIME
from local.handlers import load_handler
from tasklatch.domain.overdue import OVERDUE_MS
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item
from tasklatch.executions import execution_tasks
from tasklatch.retries.timer_sweep import AHEAD_MS
from tasklatch.runtime import clients, services
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.settings import get_settings
from tests.factories import Reply, api_event, call_api
from tests.fault_injection.deployment import (
    ENVIRONMENT,
    FUNCTIONS,
    is_delivered,
    max_deliveries,
    timeout_seconds,
)
from tests.fault_injection.emulated_aws import TABLE, EmulatedAws, emulated_aws
from tests.fault_injection.faults import KilledError
from tests.fault_injection.records import AcknowledgedReport, Invocation, PromiseBrokenError, RecordedResponse
from tests.fault_injection.stream_failures import redrive, stored_batch
from tests.workflow_helpers import Clock, OnePageBackoff

_STREAM_BATCH: Final = 100
_QUEUE_BATCH: Final = 10
_TASKS_A_PAGE: Final = 2
"""Few, so that sweeps over the tasks of small executions take several invocations too."""

T = TypeVar("T")
Handler = Callable[[dict[str, Any], Any], Any]


@dataclass
class WholeService:
    """Functions over one emulated AWS, and the responses to their callers.

    Attributes
    ----------
    invocation
        Current invocation.
    redelivered
        Number of repeated calls of each function.
    most_sends
        Number of times that a caller sends a request before it gives up.
    """

    aws: EmulatedAws
    clock: Clock
    invocation: Invocation = field(default_factory=lambda: Invocation(0))
    acknowledged: list[AcknowledgedReport] = field(default_factory=list)
    redelivered: Counter[str] = field(default_factory=Counter)
    resent: set[str] = field(default_factory=set)
    most_sends: int = 6
    _advance_queue: list["_Message"] = field(default_factory=list)
    _timer_queue: list["_Message"] = field(default_factory=list)
    _trigger_queue: list["_Message"] = field(default_factory=list)
    _read: Counter[str] = field(default_factory=Counter)
    _deliveries: Counter[tuple[str, str]] = field(default_factory=Counter)
    answers: list["RecordedResponse"] = field(default_factory=list)
    _due: dict[tuple[str, str], int] = field(default_factory=dict)
    _listed_to: int = 0
    _lock: Lock = field(default_factory=Lock)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    # ------------------------------------------------------------ actions of callers

    def call(self, function: str, route: str, *path: str, again: Iterable[int] = (), **request: Any) -> Reply:
        """Send a request until it is answered, and record the response.

        Parameters
        ----------
        again
            Further statuses that are right if it was sent before, and that response was lost.

        Raises
        ------
        PromiseBrokenError
            If the response is anything but 2xx, or a 503 with Retry-After.
        """
        reply, sends = self._send(function, route, path, again, request)
        self.answers.append(RecordedResponse(route, reply.status, tuple(_verdicts(reply)), was_resent=sends > 1))
        return reply

    def report(self, execution_id: str, task_id: str, **body: Any) -> Reply:
        """Report on a task; an acknowledged report is recorded."""
        route = "POST /v1/executions/{executionId}/tasks/{taskId}/status"
        reply = self.call("report_status", route, execution_id, task_id, body=body)
        self._record_acknowledgement(execution_id, body["status"], reply.body)
        return reply

    def report_all(self, execution_id: str, statuses: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Report in one batch, and repeat the part that the service was too busy for; return the responses in order."""
        route = "POST /v1/executions/{executionId}/statuses"
        answers: dict[int, dict[str, Any]] = {}
        sent = 0
        waiting = list(range(len(statuses)))
        while waiting:
            _check(sent < self.most_sends, "a batch was not accepted")
            body = {"statuses": [statuses[index] for index in waiting]}
            reply, sends = self._send("report_status", route, (execution_id,), (), {"body": body}, was_sent=sent > 0)
            sent += sends
            for index, result in zip(waiting, reply.body["results"], strict=True):
                _check("verdict" in result or result["status"] == 503, f"a report in a batch was answered {result}")
                if "verdict" in result:
                    answers[index] = result
                    self._record_acknowledgement(execution_id, statuses[index]["status"], result)
            waiting = [index for index in waiting if index not in answers]
        messages = [answers[index] for index in range(len(statuses))]
        verdicts = tuple(message["verdict"] for message in messages)
        self.answers.append(RecordedResponse(route, 200, verdicts, was_resent=sent > 1))
        return messages

    def watch(self, execution_id: str) -> str:
        """Connect a watcher: with a new ticket each time that it is refused."""
        for number in range(self.most_sends):
            answer = self.call("execution_control", "POST /v1/executions/{executionId}/watch", execution_id)
            connection_id = f"watcher-{number}"
            messages = {"routeKey": "$connect", "connectionId": connection_id}
            event = {"requestContext": messages, "queryStringParameters": {"ticket": answer.body["ticket"]}}
            self.aws.connected.add(connection_id)
            try:
                status = self._invoke("live_connection", "$connect", partial(_connect, event))
            except KilledError:
                status = 502
            if status == 200:
                return connection_id
            self.aws.connected.discard(connection_id)
        raise PromiseBrokenError("no watcher could connect")

    def ping(self) -> None:
        """Let each watcher say that it is there, until it is answered or finds its connection closed."""
        for connection_id in sorted(self.aws.connected):
            event = {"requestContext": {"routeKey": "ping", "connectionId": connection_id}}
            for _ in range(self.most_sends):
                if connection_id not in self.aws.connected:
                    break
                with suppress(KilledError):
                    self._invoke("live_connection", "ping", partial(_connect, event))

    # ------------------------------------------------------------ actions of AWS

    def settle(self, *, time_passes: bool = True) -> None:
        """Deliver everything that is pending, and let time pass up to each timer, until nothing more follows.

        Parameters
        ----------
        time_passes
            False to leave the timers waiting.
        """
        while True:
            moved = [
                self._deliver_stream("notifier"),
                self._deliver_stream("retry_scheduler"),
                self._deliver_queue("workflow_advancer", self._receive_advances()),
                self._deliver_queue("schedule_runner", self._trigger_queue),
            ]
            if not any(moved) and not self._deliver_queue("retry_dispatcher", self._timer_queue):
                if not time_passes:
                    return
                if self.aws.timers or self.aws.checks:
                    self._advance_to_next_timer()
                elif not self._sweep():
                    return

    def fire(self, at: str) -> None:
        """Let the time of every enabled schedule come, deliver it twice, as AWS may, and what follows.

        Parameters
        ----------
        at
            The scheduled time, as EventBridge Scheduler writes it.
        """
        for name, schedule in self.aws.schedules().items():
            if schedule["State"] == "ENABLED":
                text = schedule["Target"]["Input"].replace(SCHEDULED_TIME, at)
                self._trigger_queue += [_Message(f"{name}-{at}-{number}", text) for number in range(2)]
        self.settle()

    def reconcile(self, *, time_passes: bool = True, after_ms: int = OVERDUE_MS + 1_000) -> None:
        """Run the reconciler until it ends well, a while after all else is at rest, and deliver its consequences.

        A run that fails moves past what it failed at, so two runs must end well after it: one to the end of the list,
        and one through all of it.
        """
        self.clock.now += after_ms
        left = 1
        for _ in range(2 * self.most_sends):
            left = left - 1 if self._run_on_schedule("reconciler") else 2
            if not left:
                self.settle(time_passes=time_passes)
                return
        raise PromiseBrokenError("the reconciler never succeeded")

    def lose_changes(self) -> None:
        """Publish all changes up to the first task that is scheduled, and drop the notifier's records from there on."""
        scheduled = (
            number
            for number, record in enumerate(self.aws.stream)
            if record["dynamodb"].get("NewImage", {}).get("status") == {"S": "SCHEDULED"}
            and number >= self._read["notifier"]
        )
        end = next(scheduled)
        while self._deliver_stream("notifier", end):
            pass
        self._read["notifier"] = len(self.aws.stream)
        self.settle(time_passes=False)

    def lose_timers(self) -> None:
        """Deliver everything that is pending, and drop every timer, as never in the field."""
        self.settle(time_passes=False)
        self.aws.timers.clear()

    def lose_follow_ups(self) -> None:
        """Publish all changes, and drop the advancer's messages and the retry scheduler's records."""
        while self._deliver_stream("notifier"):
            pass
        self.aws.advances.clear()
        self._advance_queue.clear()
        self._read["retry_scheduler"] = len(self.aws.stream)

    def outlive_age(self, function: str) -> None:
        """Let all records that a function has not processed grow too old: Lambda stores them and skips them."""
        batch = [record for record in self.aws.stream[self._read[function] :] if is_delivered(record, function)]
        self._read[function] = len(self.aws.stream)
        self.aws.objects[f"aws/lambda/mapping/shard/{next(self._numbers)}"] = stored_batch(function, batch)

    def redrive(self) -> None:
        """Send the records in the bucket to their functions, as `make redrive` does, and deliver what follows."""

        def invoke(function: str, event: dict[str, Any]) -> Any:
            return self._invoke(function, "redrive", lambda handler, context: handler(event, context))

        redrive(self.aws.objects, invoke, self.most_sends)
        self.settle()

    # ------------------------------------------------------------ state

    def items(self) -> list[Item]:
        """Return all items of the table."""
        pages = clients.dynamodb().get_paginator("scan").paginate(TableName=TABLE)
        return [item for page in pages for item in page["Items"]]

    # ------------------------------------------------------------

    def _send(
        self,
        function: str,
        route: str,
        path: Iterable[str],
        again: Iterable[int],
        request: Mapping[str, Any],
        *,
        was_sent: bool = False,
    ) -> tuple[Reply, int]:
        """Send a request until the response is not 503; return it with the number of sends."""
        number = next(self._numbers)
        names = [part[1:-1] for part in route.split("/") if part.startswith("{")]
        for sends in range(1, self.most_sends + 1):
            request_id = f"request-{number}-{sends}"
            if was_sent or sends > 1:
                self._count_redelivery(function)
                self.resent.add(request_id)
            event = api_event(route, path=dict(zip(names, path, strict=True)), request_id=request_id, **request)
            try:
                reply = self._invoke(function, route, partial(_answer, event))
            except KilledError:
                continue
            if reply.status == 503:
                _check(reply.headers.get("retry-after"), f"{route} is busy without a Retry-After")
                continue
            right = {*range(200, 300), *(again if sends > 1 else ())}
            _check(reply.status in right, f"{route} answered {reply.status}: {reply.text}")
            return reply, sends
        raise PromiseBrokenError(f"{route} was not answered in {self.most_sends} attempts")

    def _invoke(self, function: str, trigger: str, call: Callable[[Handler, Invocation], T]) -> T:
        before = self.invocation
        self.invocation = Invocation(timeout_seconds()[function] * 1000, function=function, trigger=trigger)
        try:
            return call(load_handler(function).handler, self.invocation)
        finally:
            self.invocation = before

    def _record_acknowledgement(self, execution_id: str, status: str, answer: Mapping[str, Any]) -> None:
        task = answer["task"]
        self.acknowledged.append(
            AcknowledgedReport(execution_id, task["taskId"], status, answer["verdict"], task["version"])
        )

    def _deliver_stream(self, function: str, end: int | None = None) -> bool:
        records = self.aws.stream
        start = self._read[function]
        end = len(records) if end is None else end
        if start == end:
            return False
        fits = (index for index in range(start, end) if is_delivered(records[index], function))
        fitting = [(position, records[position]) for position in islice(fits, _STREAM_BATCH)]
        if not fitting:
            self._read[function] = end
            return False
        batch = [record for _, record in fitting]
        failed = self._deliver(function, "stream", batch)
        numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
        first = min((numbers.index(number) for number in failed), default=None)
        if first is None:
            self._read[function] = fitting[-1][0] + 1
        else:
            # A stream is checkpointed at the first that failed
            self._read[function] = fitting[first][0]
            self._count_attempt(function, numbers[first])
        return True

    def _deliver_queue(self, function: str, queue: list["_Message"]) -> bool:
        batch, queue[:] = queue[:_QUEUE_BATCH], queue[_QUEUE_BATCH:]
        if not batch:
            return False
        failed = self._deliver(function, "queue", [{"messageId": item.name, "body": item.text} for item in batch])
        for message in batch:
            if message.name in failed:
                queue.append(message)
                self._count_attempt(function, message.name)
        return True

    def _deliver(self, function: str, trigger: str, records: list[dict[str, Any]]) -> set[str]:
        names = [
            record["messageId"] if "messageId" in record else record["dynamodb"]["SequenceNumber"] for record in records
        ]
        try:
            answer = self._invoke(function, trigger, lambda handler, context: handler({"Records": records}, context))
        except (KilledError, Exception) as failed:  # noqa: BLE001 - AWS delivers again, whatever it was
            self._count_failure(function, failed)
            return set(names)
        failures = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        _check(failures <= set(names), f"{function} reported unknown records as failed: {failures}")
        if failures:
            self._count_redelivery(function)
        return failures

    def _count_failure(self, function: str, failed: BaseException) -> None:
        self._count_redelivery(function)
        if not isinstance(failed, KilledError):
            self._count_redelivery(f"{function} raised {type(failed).__name__}")

    def _count_redelivery(self, name: str) -> None:
        with self._lock:
            self.redelivered[name] += 1

    def _count_attempt(self, function: str, name: str) -> None:
        self._deliveries[function, name] += 1
        maximum = max_deliveries()[function]
        if self._deliveries[function, name] > maximum:
            raise PromiseBrokenError(f"{function}: {name} went to the dead-letter queue after {maximum} deliveries")

    def _receive_advances(self) -> list["_Message"]:
        messages, self.aws.advances[:] = list(self.aws.advances), []
        self._advance_queue += [_Message(f"advance-{next(self._numbers)}", text) for text in messages]
        return self._advance_queue

    def _run_on_schedule(self, function: str) -> bool:
        """Run a function as its schedule does; return False if it failed, or says that something did."""
        try:
            summary = self._invoke(function, "rate", lambda handler, context: handler({}, context))
        except (KilledError, Exception) as failed:  # noqa: BLE001 - a run that fails is followed by the next
            self._count_failure(function, failed)
            return False
        return not summary["faults"] and not summary.get("left")

    def _sweep(self) -> bool:
        """Let time pass up to the next timer on the list, and sweep it; return False if there is none."""
        for record in self.aws.stream[self._listed_to :]:
            messages = record["dynamodb"]
            key = messages["Keys"][keys.PK]["S"], messages["Keys"][keys.SK]["S"]
            image = messages.get("NewImage", {})
            self._due.pop(key, None)
            if image.get(keys.DUE_KEY, {}).get("S", "").startswith("DUE#"):
                self._due[key] = int(image[keys.DUE_SORT]["S"])
        self._listed_to = len(self.aws.stream)
        if not self._due:
            return False
        self.clock.now = max(self.clock.now, min(self._due.values()) - AHEAD_MS)
        for _ in range(self.most_sends):
            if self._run_on_schedule("timer_sweeper"):
                return True
        raise PromiseBrokenError("the sweep never succeeded")

    def _advance_to_next_timer(self) -> None:
        waiting = (self.aws.timers, self._timer_queue), (self.aws.checks, self._trigger_queue)
        self.clock.now = max(self.clock.now, min(message.visible_at for delayed, _ in waiting for message in delayed))
        for delayed, queue in waiting:
            for message in [message for message in delayed if message.visible_at <= self.clock.now]:
                delayed.remove(message)
                queue.append(_Message(f"timer-{next(self._numbers)}", message.text))


@dataclass(frozen=True)
class _Message:
    name: str
    text: str


@contextmanager
def whole_service() -> Iterator[WholeService]:
    """Yield the service over empty services of AWS, until the block ends."""
    clock = Clock()
    with emulated_aws(clock) as aws, pytest.MonkeyPatch.context() as patch:
        for name, value in _environment(aws).items():
            patch.setenv(name, value)
        patch.setattr(execution_tasks, "TASKS_A_PAGE", _TASKS_A_PAGE)
        get_settings.cache_clear()
        # A line for each invocation of thousands, that nobody would read
        logging.disable(logging.CRITICAL)
        for function in FUNCTIONS:
            module = load_handler(function)
            if hasattr(module, "system_clock"):
                patch.setattr(module, "system_clock", clock)
        patch.setattr(services, "system_clock", clock)
        patch.setattr(services, "Backoff", _backoff)
        # Compared with a run without faults, in which a schedule may be made at another attempt
        patch.setattr(secrets, "token_hex", lambda _: "generation")
        try:
            yield WholeService(aws, clock)
        finally:
            logging.disable(logging.NOTSET)
            get_settings.cache_clear()


def _environment(aws: EmulatedAws) -> dict[str, str]:
    urls = {"TIMER_QUEUE_URL": aws.queue_url, "ADVANCE_QUEUE_URL": aws.advance_queue_url}
    return {**ENVIRONMENT, **urls, "TRIGGER_QUEUE_URL": aws.trigger_queue_url}


def _answer(event: dict[str, Any], handler: Handler, context: Invocation) -> Reply:
    try:
        return call_api(handler, event, context)
    except Exception as error:
        raise PromiseBrokenError(f"{event['routeKey']} answered 500: {error!r}") from error


def _connect(event: dict[str, Any], handler: Handler, context: Invocation) -> int:
    status: int = handler(event, context)["statusCode"]
    return status


def _verdicts(reply: Reply) -> Iterator[str]:
    if reply.text.startswith("{"):
        for item in reply.body.get("results", [reply.body]):
            if "verdict" in item:
                yield item["verdict"]


def _backoff(remaining_ms: Any) -> Backoff:
    """Return the shipped backoff on the invocation's own clock: tests do not sleep. A sweep has time for one page."""
    return OnePageBackoff(remaining_ms, remaining_ms.__self__.sleep)


def _check(holds: object, sentence: str) -> None:
    if not holds:
        raise PromiseBrokenError(sentence)
