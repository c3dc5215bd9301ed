"""Checks of an exploration: the interface of the promises, and the values that they get."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.model_checking.case import Case, Request, View, at_once
from tests.model_checking.invocations import Invocations
from tests.model_checking.memory_table import Key, Table
from tests.model_checking.simulated_cloud import Change, Cloud, Event


class BrokenPromiseError(AssertionError):
    """Broken promise, named by its predicate."""

    def __init__(self, promise: str, result: str) -> None:
        super().__init__(f"{promise}: {result}")
        self.promise = promise


@dataclass(frozen=True)
class ClientResponse:
    """Response that a client received."""

    request: Request
    request_id: str
    status: int
    body: Mapping[str, Any]

    @property
    def was_conditional(self) -> bool:
        """Return True if the client waited for a condition before its request."""
        return self.request.when is not at_once


class Promises:
    """Checks of an exploration. Each gets the data that it needs, and raises `BrokenPromiseError`."""

    def changed(self, key: Key, change: Change, table: Table) -> None:
        """Check a change of a task or an execution."""

    def published(self, event: Event, before: Sequence[Event]) -> None:
        """Check a publication of a change."""

    def answered(self, response: ClientResponse, view: View, changes: Mapping[Key, Sequence[Change]]) -> None:
        """Check a response to a client."""

    def at_rest(self, view: View, changes: Mapping[Key, Sequence[Change]]) -> None:
        """Check a state in which nothing more happens by itself."""


class Checker:
    """Checks of the promises in an exploration; each combination of values is checked once.

    Every check depends on these values alone.
    """

    def __init__(self, case: Case, promises: Promises, cloud: Cloud, runs: Invocations) -> None:
        self._case = case
        self._promises = promises
        self._cloud = cloud
        self._runs = runs
        self._clients = tuple(case.clients)
        self._views: dict[int, View] = {}
        self._checked: set[tuple[Any, ...]] = set()
        self._ends: dict[int, str] = {}

    def view(self, moment: int) -> View:
        """Return the visible part of a moment."""
        if moment not in self._views:
            events = [self._cloud.events[number] for number in sorted(self._cloud.moments[moment].announced)]
            messages = [
                json.loads(self._cloud.texts[number]) for number in sorted(self._cloud.moments[moment].messages)
            ]
            self._views[moment] = View(self._cloud.table(moment), events, messages)
        return self._views[moment]

    def check_published(self, before: int, after: int) -> None:
        """Check the events that were published between two moments."""
        if (before, after) in self._checked:
            return
        existing = self.view(before).events
        for event in self.view(after).events:
            if event not in existing:
                self._promises.published(event, existing)
                existing = [*existing, event]
        self._checked.add((before, after))

    def check_answered(self, moment: int, source: tuple[Any, ...], node: int) -> None:
        """Check the response to a client."""
        if (moment, source, node) not in self._checked:
            _, client, step, attempt = source
            result, request = self._runs.nodes[node].result, self._case.clients[self._clients[client]][step]
            messages = ClientResponse(
                request, self.request_id(client, step, attempt), result["statusCode"], json.loads(result["body"])
            )
            self._promises.answered(messages, self.view(moment), self.changes(moment))
            self._checked.add((moment, source, node))

    def check_rest(self, moment: int) -> str:
        """Check a moment at which nothing more happens by itself; return it as text."""
        if moment not in self._ends:
            view = self.view(moment)
            self._promises.at_rest(view, self.changes(moment))
            tasks = ", ".join(f"{name} {task.status} in attempt {task.attempt}" for name, task in view.tasks.items())
            self._ends[moment] = f"{tasks}; execution {view.execution_status}"
        return self._ends[moment]

    def changes(self, moment: int) -> Mapping[Key, Sequence[Change]]:
        """Return the changes of each task and of the execution up to a moment, in order."""
        return {
            key: [self._cloud.changes[number] for number in self._cloud.applied_changes(moment, index)]
            for index, key in enumerate(self._cloud.followed)
        }

    def request_id(self, client: int, step: int, attempt: int) -> str:
        """Return the id of a client's request."""
        return f"{self._clients[client]}-{step + 1}-{attempt + 1}"
