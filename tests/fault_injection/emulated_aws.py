"""AWS in this process: an emulator's own code serves the requests of the shipped clients, with no socket in between.

The SDK builds, signs and parses as it does against AWS; only the connection is replaced, at botocore's `before-send`.
So a fault can occur exactly where one occurs in the field: before a call takes effect, after it, or in its response.
"""

import io
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ReadTimeoutError
from ministack.services import dynamodb, eventbridge, scheduler, sqs

from local.cloud.emulator_partiql import PartiqlStreamRecords
from tasklatch.runtime import clients
from tests.integration.emulators import create_table

TABLE: Final = "ledger"
BUS: Final = "tasklatch"
TIMERS: Final = "timers"
ADVANCES: Final = "advances"
BUCKET: Final = "failures"
TRIGGERS: Final = "triggers"
TRIGGER_GROUP: Final = "schedules"
LIVE: Final = "https://live.invalid/live"

_SERVICES: Final[Mapping[str, Callable[..., Coroutine[Any, Any, Any]]]] = {
    "dynamodb": dynamodb.handle_request,
    "eventbridge": eventbridge.handle_request,
    "scheduler": scheduler.handle_request,
    "sqs": sqs.handle_request,
}
_PATCHED: Final = ("_partiql_insert", "_partiql_update", "_partiql_delete", "_set_item", "_remove_item")


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One request as it goes over the wire."""

    service: str
    operation: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def request(self) -> Any:
        """Return the parsed JSON body."""
        return json.loads(self.body)

    def with_request(self, request: Any) -> "WireRequest":
        """Return the same call with another body."""
        return replace(self, body=json.dumps(request).encode())


@dataclass(frozen=True, slots=True)
class WireResponse:
    """One response as it comes over the wire."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def parsed(self) -> Any:
        """Return the parsed JSON body."""
        return json.loads(self.body)

    def with_body(self, body: Any) -> "WireResponse":
        """Return the same response with another body, without the checksum of the original."""
        stored = {name: value for name, value in self.headers.items() if "crc32" not in name and "length" not in name}
        return WireResponse(self.status, json.dumps(body).encode(), stored)


Around = Callable[[WireRequest, Callable[[WireRequest], WireResponse]], WireResponse]


def without_faults(call: WireRequest, serve: Callable[[WireRequest], WireResponse]) -> WireResponse:
    return serve(call)


@dataclass(frozen=True, slots=True)
class Delayed:
    """Message that becomes visible later; milliseconds since the epoch."""

    visible_at: int
    text: str


@dataclass
class EmulatedAws:
    """The services, and a record of their input.

    Attributes
    ----------
    around
        Hook between the clients and the services.
    timers
        Contents of the timer queue.
    advances
        Contents of the advance queue.
    events
        Events on the bus, in order.
    checks
        Delayed messages of the queue of schedules.
    connected, messages
        The WebSocket connections, and the messages to each, in order.
    silent
        Connections that take no message: each runs into the client's time-out.
    objects
        Objects of the bucket for records that failed, by key.
    """

    clock: Callable[[], int]
    around: Around = without_faults
    timers: list[Delayed] = field(default_factory=list)
    advances: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    connected: set[str] = field(default_factory=set)
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    queue_url: str = ""
    silent: set[str] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)
    trigger_queue_url: str = ""
    checks: list[Delayed] = field(default_factory=list)
    advance_queue_url: str = ""
    _lock: Lock = field(default_factory=Lock)

    def on_send(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse:
        """Answer a request that botocore is about to send."""
        service, operation = event_name.split(".")[1:]
        sent: Any = request
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in sent.headers.items()
        }
        body = sent.body.read() if hasattr(sent.body, "read") else sent.body or b""
        body = body if isinstance(body, bytes) else body.encode()
        url = urlsplit(sent.url)
        call = WireRequest(service, operation, sent.method, url.path, headers, body, parse_qs(url.query))
        served = self.around(call, self.serve)
        messages: Any = served.headers
        return AWSResponse(sent.url, served.status, messages, _Raw(served.body))

    def serve(self, call: WireRequest) -> WireResponse:
        """Let a call take effect."""
        if call.service == "apigatewaymanagementapi":
            return self._serve_connection(call)
        if call.service == "s3":
            key = unquote(call.path).removeprefix("/").removeprefix(f"{BUCKET}/")
            # In one chunk, behind its length in hexadecimal digits, with a checksum after it
            length, _, rest = call.body.partition(b"\r\n")
            self.objects[key] = rest[: int(length, 16)]
            return WireResponse(200, b"")
        # The emulator serves one call after the other also where it is a program of its own
        with self._lock:
            run = _SERVICES[call.service](call.method, call.path, dict(call.headers), call.body, dict(call.query))
            status, headers, body = _result_of(run)
            served = WireResponse(status, body if isinstance(body, bytes) else body.encode(), headers)
            if call.operation in _TAKEN:
                _TAKEN[call.operation](self, call, served)
        return served

    @property
    def stream(self) -> list[dict[str, Any]]:
        """Return every record of the table's stream, in order."""
        records: list[dict[str, Any]] = dynamodb._stream_records.get(TABLE) or []
        return records

    def _serve_connection(self, call: WireRequest) -> WireResponse:
        connection_id = unquote(call.path.rpartition("/")[2])
        if connection_id not in self.connected:
            return WireResponse(410, b"{}", {"x-amzn-errortype": "GoneException"})
        if call.operation == "DeleteConnection":
            self.connected.discard(connection_id)
        elif connection_id in self.silent:
            raise ReadTimeoutError(endpoint_url=LIVE)
        else:
            self.messages.append((connection_id, call.request))
        return WireResponse(200, b"")

    def _take_messages(self, call: WireRequest, served: WireResponse) -> None:
        taken = {item["Id"] for item in served.parsed.get("Successful", [])}
        entries = [entry for entry in call.request["Entries"] if entry["Id"] in taken]
        if call.request["QueueUrl"] == self.advance_queue_url:
            self.advances += [entry["MessageBody"] for entry in entries]
        else:
            self.timers += [
                Delayed(self.clock() + entry["DelaySeconds"] * 1000, entry["MessageBody"]) for entry in entries
            ]

    def _take_check(self, call: WireRequest, _: WireResponse) -> None:
        if call.request["QueueUrl"] == self.trigger_queue_url:
            visible_at = self.clock() + call.request["DelaySeconds"] * 1000
            self.checks.append(Delayed(visible_at, call.request["MessageBody"]))

    def schedules(self) -> dict[str, dict[str, Any]]:
        """Return the recurring schedules, by name."""
        stored: list[dict[str, Any]] = [item for _, item in scheduler._schedules._data.items()]
        return {item["Name"]: item for item in stored if item["GroupName"] == TRIGGER_GROUP}

    def _take_events(self, call: WireRequest, served: WireResponse) -> None:
        self.events += [
            {"source": entry["Source"], "detail-type": entry["DetailType"], "detail": json.loads(entry["Detail"])}
            for entry, result in zip(call.request["Entries"], served.parsed["Entries"], strict=True)
            if "ErrorCode" not in result
        ]


_TAKEN: Final[Mapping[str, Callable[[EmulatedAws, WireRequest, WireResponse], None]]] = {
    "SendMessage": EmulatedAws._take_check,
    "SendMessageBatch": EmulatedAws._take_messages,
    "PutEvents": EmulatedAws._take_events,
}


@contextmanager
def emulated_aws(clock: Callable[[], int]) -> Iterator[EmulatedAws]:
    """Put empty services behind the shipped clients until the block ends: a table, a bus, queues, a schedule group."""
    aws = EmulatedAws(clock)
    used: list[Any] = [
        clients.dynamodb(),
        clients.sqs(),
        clients.events(),
        clients.s3(),
        clients.scheduler(),
        clients.live_callback(LIVE),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name in _PATCHED:
            # Restored afterwards: the next user patches the emulator once more
            patch.setattr(dynamodb, name, getattr(dynamodb, name))
        PartiqlStreamRecords().install()
        for client in used:
            client.meta.events.register_last("before-send", aws.on_send)
        try:
            for service in (dynamodb, eventbridge, scheduler, sqs):
                service.reset()
            create_table(clients.dynamodb(), TABLE)
            clients.events().create_event_bus(Name=BUS)
            clients.scheduler().create_schedule_group(Name=TRIGGER_GROUP)
            aws.queue_url = clients.sqs().create_queue(QueueName=TIMERS)["QueueUrl"]
            aws.trigger_queue_url = clients.sqs().create_queue(QueueName=TRIGGERS)["QueueUrl"]
            aws.advance_queue_url = clients.sqs().create_queue(QueueName=ADVANCES)["QueueUrl"]
            yield aws
        finally:
            for client in used:
                client.meta.events.unregister("before-send", aws.on_send)


class _Raw(io.BytesIO):
    """Body in the form of urllib3."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


def _result_of(run: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        run.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("the emulator waited for something")
