"""Runs of the shipped handlers, stopped before each call to AWS and continued from any of these points.

A handler is a function of its event, the time and the responses that it gets, so the responses so far are its
position. To continue from there, the handler runs again from its beginning with the same responses, and stops at its
next call. The result of each sequence of responses is computed once.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from typing import Any, Final
from unittest.mock import patch

from botocore.exceptions import ClientError, ConnectionClosedError

from local.handlers import load_handler
from tasklatch.dynamodb import keys
from tasklatch.executions import execution_tasks
from tasklatch.runtime import services
from tasklatch.runtime.backoff import Backoff
from tests.factories import Context
from tests.model_checking.simulated_cloud import LOST, Cloud, Interned, a_call, as_text
from tests.workflow_helpers import OnePageBackoff

FUNCTIONS: Final = (
    "claims",
    "executions",
    "execution_control",
    "forge_contract",
    "notifier",
    "reconciler",
    "report_status",
    "retry_dispatcher",
    "retry_scheduler",
    "superai_contract",
    "timer_sweeper",
    "workflow_advancer",
)
_CLIENTS: Final[Mapping[str, str]] = {
    "dynamodb": "dynamodb",
    "events": "events",
    "sqs": "sqs",
    "live_callback": "live",
    "s3": "s3",
}


_TIME_LEFT_MS: Final = 60_000


class _Paused(BaseException):
    """Stop of a handler at a call; a BaseException, so that the handler does not catch it."""


@dataclass(frozen=True)
class Program:
    """Function and its event."""

    function: str
    event: str


@dataclass(frozen=True)
class Node:
    """Position of a run: stopped before a call, or at its end."""

    program: int
    answered: tuple[tuple[int, int], ...]
    began: int
    pending: int | None
    result: Any = None


class Invocations:
    """Runs of one exploration, by number."""

    def __init__(self, cloud: Cloud, *, one_page: bool = False) -> None:
        self._cloud = cloud
        self._backoff = partial(OnePageBackoff if one_page else Backoff, sleep=lambda _seconds: None)
        self._tasks_a_page = 1 if one_page else execution_tasks.TASKS_A_PAGE
        self.programs: Interned[Program] = Interned()
        self.nodes: list[Node] = []
        self._known: dict[tuple[int, int, tuple[tuple[int, int], ...]], int] = {}
        self._next: dict[tuple[int, int, int], int] = {}
        self._call: Callable[..., Any] = lambda *_: None
        self._clock: Callable[[], int] = lambda: 0
        self.runs = 0

    @contextmanager
    def deployed(self) -> Iterator[None]:
        """Give the handlers these clients, this clock, and a backoff that does not wait."""
        initial: dict[str, Any] = {
            name: lambda *_, service=service: _Client(service, self._called) for name, service in _CLIENTS.items()
        }
        initial["system_clock"] = self._now
        initial["Backoff"] = self._backoff
        with ExitStack() as stack:
            stack.enter_context(patch.object(execution_tasks, "TASKS_A_PAGE", self._tasks_a_page))
            # Logs and metrics are not checked, and there are thousands of runs.
            stack.enter_context(redirect_stdout(StringIO()))
            # One list instead of sixteen: that all are swept is tested elsewhere, and each would multiply the states
            stack.enter_context(patch.object(keys, "SHARDS", 1))
            stack.enter_context(patch.object(keys, "WORK_SHARDS", 1))
            stack.callback(logging.disable, logging.root.manager.disable)
            logging.disable(logging.CRITICAL)
            replaced = set()
            for module in (services, *map(load_handler, FUNCTIONS)):
                for name in initial.keys() & vars(module).keys():
                    stack.enter_context(patch.object(module, name, initial[name]))
                    replaced.add(name)
            assert replaced == initial.keys(), "a handler imports something under another name"
            yield

    def begin(self, function: str, event: Any, now: int) -> int:
        """Return a run at its beginning."""
        program = self.programs.number(Program(function, as_text(event)))
        return self.begin_program(program, now)

    def begin_program(self, program: int, now: int) -> int:
        return self._node(program, now, ())

    def resume(self, node: int, answer: int, now: int) -> int:
        """Return a run after a response."""
        existing = (node, answer, now)
        result = self._next.get(existing)
        if result is None:
            stands = self.nodes[node]
            result = self._node(stands.program, stands.began, (*stands.answered, (answer, now)))
            self._next[existing] = result
        return result

    def straight(self, function: str, event: Any, now: int, serve: Callable[[int], int]) -> Any:
        """Run a function to its end; its calls take effect at once."""
        self._clock = lambda: now

        def call(service: str, operation: str, arguments: Mapping[str, Any]) -> Any:
            return self._response(serve(self._cloud.call_number(a_call(service, operation, arguments))), operation)

        self._call = call
        return load_handler(function).handler(event, Context(_TIME_LEFT_MS))

    def _node(self, program: int, began: int, answered: tuple[tuple[int, int], ...]) -> int:
        existing = (program, began, answered)
        if existing not in self._known:
            pending, result = self._run(program, began, answered)
            self._known[existing] = len(self.nodes)
            self.nodes.append(Node(program, answered, began, pending, result))
        return self._known[existing]

    def _run(self, program: int, began: int, answered: tuple[tuple[int, int], ...]) -> tuple[int | None, Any]:
        self.runs += 1
        created: list[int] = []
        self._clock = lambda: answered[len(created) - 1][1] if created else began

        def call(service: str, operation: str, arguments: Mapping[str, Any]) -> Any:
            created.append(self._cloud.call_number(a_call(service, operation, arguments)))
            if len(created) > len(answered):
                raise _Paused
            return self._response(answered[len(created) - 1][0], operation)

        self._call = call
        run = self.programs[program]
        try:
            return None, load_handler(run.function).handler(json.loads(run.event), Context(_TIME_LEFT_MS))
        except _Paused:
            return created[-1], None

    def _now(self) -> int:
        return self._clock()

    def _called(self, service: str, operation: str, arguments: Mapping[str, Any]) -> Any:
        return self._call(service, operation, arguments)

    def _response(self, answer: int, operation: str) -> Any:
        text = self._cloud.answers[answer]
        if text == LOST:
            raise ConnectionClosedError(endpoint_url="https://dynamodb")
        read = json.loads(text)
        if read["error"] is not None:
            response: Any = {"Error": {"Code": read["error"], "Message": "no"}, **read["answer"]}
            raise ClientError(response, operation)
        return read["answer"]


class _Client:
    """AWS client that passes every call to the current run."""

    def __init__(self, service: str, called: Callable[[str, str, Mapping[str, Any]], Any]) -> None:
        self._service = service
        self._called = called

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return lambda **arguments: self._called(self._service, operation, arguments)
