"""A small case to explore: its tasks, the requests of its clients, the faults, and what clients can see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from tasklatch.domain.execution import Execution
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_from_item
from tasklatch.dynamodb.task_item import task_from_item
from tests.model_checking.memory_table import Table
from tests.model_checking.simulated_cloud import Event

EXECUTION: Final = "nightly"
TENANT: Final = "default"
KEY: Final = "key:k"
LIMIT: Final = 1
"""The concurrency key of limited executions, as it is stored, and the number of them that may run at once."""

ADDED: Final = "added"
"""Id of a task that a client adds: it comes before the others, so before the pages that are done by then."""


@dataclass(frozen=True)
class View:
    """Part of a state that is visible from outside."""

    table: Table
    events: Sequence[Event]
    messages: Sequence[Mapping[str, Any]]

    @cached_property
    def tasks(self) -> Mapping[str, Task]:
        result = [task_from_item(item) for key, item in self.table.items() if key[1].startswith(keys.TASK_PREFIX)]
        return {task.task_id: task for task in sorted(result, key=lambda task: task.task_id)}

    @cached_property
    def execution(self) -> Execution:
        return execution_from_item(self.table[keys.execution_pk(TENANT, EXECUTION), keys.EXECUTION_SK])

    @property
    def execution_status(self) -> str:
        return str(self.execution.status)

    @cached_property
    def handed_out(self) -> frozenset[tuple[str, int]]:
        """Return the attempts whose events have been published to workers."""
        return frozenset(
            (event.detail["taskId"], event.detail["attempt"])
            for event in self.events
            if event.detail_type == "Task Scheduled"
        )


def at_once(_view: View) -> bool:
    return True


@dataclass(frozen=True)
class Request:
    """Request of a client, which is repeated until it is answered.

    Attributes
    ----------
    when
        Condition from which on it is sent.
    wait_ms
        If set, nothing is sent: the client lets this much time pass, in milliseconds.
    at_last
        True if it waits only when nothing more happens by itself; calls still under way then never land.
    """

    function: str
    route: str = ""
    path: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    when: Callable[[View], bool] = at_once
    wait_ms: int = 0
    at_last: bool = False

    @property
    def summary(self) -> str:
        messages = ", ".join(str(value) for value in (self.body or {}).values())
        return " ".join(
            filter(None, (self.route.rpartition("/")[2] or self.function, self.path.get("taskId"), messages))
        )


class Faults(NamedTuple):
    """Number of times that each fault may occur in one schedule."""

    crashes: int = 0
    """A function dies between two calls; the call under way may still take effect, at any later time, or never."""
    lost_answers: int = 0
    """A call's response is lost and the call is repeated; the first may still take effect at any later time."""
    twice: int = 0
    """A queue delivers a message twice, also to two runs at once."""
    redelivered: int = 0
    """The stream goes back to an earlier record of an item and delivers from there."""
    lost_messages: int = 0
    """A message goes undelivered to the dead-letter queue, before the reconciler runs."""
    lost_records: int = 0
    """The stream's record of a task that was scheduled never reaches the notifier, before the reconciler runs."""


@dataclass(frozen=True)
class Case:
    """Small case: tasks, the requests of their clients, and the faults.

    Attributes
    ----------
    tasks
        Task bodies of the API.
    clients
        Requests of each client, in sequence, by the client's name.
    index_lags
        True if the index may respond as if it had no entry yet, or had missed every end.
    one_attempt
        True if all reports are on one attempt, so that every order must end the same.
    watched
        True if a WebSocket client watches the execution.
    adds
        True if a client adds a task.
    children
        Ids of the tasks that others bring.
    stays_open
        True if the execution does not end with its tasks.
    one_page
        True if a page has one task, and an invocation has time for one page of a sweep.
    limited
        Ids of executions of one concurrency key, of which `LIMIT` may run at once: each has the task of the same
        position. The first of several has started; the creation of a single one has been delivered.
    fails_first
        True if the first of them has failed, and of what follows the message about its slot is left to be handled.
    """

    name: str
    tasks: Sequence[Mapping[str, Any]]
    clients: Mapping[str, Sequence[Request]]
    faults: Faults = field(default_factory=Faults)
    index_lags: bool = False
    one_attempt: bool = False
    watched: bool = False
    one_page: bool = False
    adds: bool = False
    children: Sequence[str] = ()
    limited: Sequence[str] = ()
    fails_first: bool = False
    stays_open: bool = False
