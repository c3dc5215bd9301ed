"""Explorer of every order in which a small case can proceed, one state after another.

A state is everything that outlives the functions, and the position of each function that runs. From a state, a step
leads on: one call to AWS by one run takes effect (of a batch, one part of it), and the run continues to its next call;
or a run dies and its call may still land; or a response is lost; or a queue or the stream delivers again; or time
passes. Equal states are explored once, so all orders are covered though they are far too many to be walked one by one.

Two reductions keep the number of states small, and neither leaves anything out. A run dies only with a write under
way: to die before a read is the same as to die after the write before it. And a call that touches only data which no
other run's calls read or write (an entry of a history, a publication, a message to a queue, an input) is made at once:
at any other point of the order it would do the same.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.task_item import task_from_item
from tests.factories import NOW, api_event
from tests.model_checking.invocations import Invocations
from tests.model_checking.memory_table import Key, Table
from tests.model_checking.simulated_cloud import (
    ADVANCE,
    LOST,
    TIMERS,
    Change,
    Cloud,
    Event,
    Message,
    a_call,
    stream_record,
)

EXECUTION: Final = "nightly"
TENANT: Final = "default"
_CONSUMERS: Final = ("notifier", "retry_scheduler")
_QUEUES: Final[Mapping[str, str]] = {TIMERS: "retry_dispatcher", ADVANCE: "workflow_advancer"}
_PRIVATE_SERVICES: Final = frozenset({"events", "sqs", "live"})
_SERVER_ERROR: Final = 500
_LEAVE_AT_REST: Final = frozenset({"lands", "delivers again"})
"""Steps that may follow or not: a state that has no other steps must fulfil the promises as it is."""


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
    def execution_status(self) -> str:
        return str(self.table[keys.execution_pk(TENANT, EXECUTION), keys.EXECUTION_SK]["status"]["S"])

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
    def says(self) -> str:
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
    """

    name: str
    tasks: Sequence[Mapping[str, Any]]
    clients: Mapping[str, Sequence[Request]]
    faults: Faults = field(default_factory=Faults)
    index_lags: bool = False
    one_attempt: bool = False
    watched: bool = False


class Run(NamedTuple):
    """Function at work: its source, its position, and the parts of its call that are done."""

    source: tuple[Any, ...]
    node: int
    done: tuple[tuple[int, int], ...]


class State(NamedTuple):
    """One state. Runs, messages and late calls are sorted, so that equal states are equal values."""

    moment: int
    now: int
    cursors: tuple[int, ...]
    queued: tuple[Message, ...]
    runs: tuple[Run, ...]
    clients: tuple[tuple[int, int], ...]
    late: tuple[int, ...]
    faults: Faults


class Step(NamedTuple):
    """Step from one state to the next: source, action, call and outcome."""

    what: str
    who: tuple[Any, ...] = ()
    part: int | None = None
    answer: int | None = None


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

    def answered(self, response: "ClientResponse", view: View, changes: Mapping[Key, Sequence[Change]]) -> None:
        """Check a response to a client."""

    def at_rest(self, view: View, changes: Mapping[Key, Sequence[Change]]) -> None:
        """Check a state in which nothing more happens by itself."""


@dataclass
class Explored:
    """Coverage of an exploration.

    Attributes
    ----------
    schedules
        Number of different ways from the first state to one at rest.
    ends
        Possible ends of the case: the tasks' statuses and attempts, the execution's status.
    violation
        Broken promise, and the schedule that led to it; None if there is none.
    """

    schedules: int = 0
    states: int = 0
    steps: int = 0
    runs: int = 0
    seconds: float = 0
    ends: frozenset[str] = frozenset()
    violation: str | None = None
    promise: str | None = None

    def __str__(self) -> str:
        return (
            f"{self.schedules:,} schedules, {self.states:,} states, {self.steps:,} steps, "
            f"{len(self.ends)} ends, {self.seconds:.1f} s"
        )


class Explorer:
    """Search through all states of a case.

    Parameters
    ----------
    private_at_once
        Whether private calls are made at once; without it, more states lead to the same results.
    """

    def __init__(self, case: Case, promises: Promises, *, private_at_once: bool = True) -> None:
        self._case = case
        self._promises = promises
        self._private_at_once = private_at_once
        self._cloud = Cloud(promises.changed, index_lags=case.index_lags)
        self._runs = Invocations(self._cloud)
        self._clients = tuple(case.clients)
        self._programs: dict[tuple[Any, ...], int] = {}
        self._views: dict[int, View] = {}
        self._private: dict[int, bool] = {}
        # Every check depends on these values alone, so that each combination is checked once
        self._checked: set[tuple[Any, ...]] = set()
        self._ends: dict[int, str] = {}
        self._read_to: dict[tuple[int, tuple[int, ...]], tuple[int, ...]] = {}
        self._lost = self._cloud.answers.number(LOST)
        self._current_step: Step | None = None
        # Without dependencies, nobody writes the items of dependents.
        waits = any(task.get("dependsOn") for task in case.tasks)
        self._never_written = ("INPUT#",) if waits else ("INPUT#", "NEXT#", "WAITS#")

    def explore(self, most_states: int = 10_000_000) -> Explored:
        """Explore every state.

        Raises
        ------
        RuntimeError
            If there are more states than that, or a schedule could continue for ever: then nothing is proved.
        """
        explored = Explored()
        began = time.perf_counter()
        with self._runs.deployed():
            try:
                self._search(explored, most_states)
            finally:
                explored.seconds = time.perf_counter() - began
                explored.runs = self._runs.runs
        return explored

    def _search(self, explored: Explored, most_states: int) -> None:
        numbers: dict[State, int] = {}
        parents: list[tuple[int, Step | None]] = []
        following: list[tuple[int, ...]] = []
        ends: set[str] = set()
        waiting: deque[State] = deque()
        number = 0
        try:
            first = self._first()
            numbers[first] = 0
            parents.append((0, None))
            waiting.append(first)
            while waiting:
                state = waiting.popleft()
                number = numbers[state]
                nexts: list[int] = []
                at_rest = True
                self._current_step = None
                for step, after in self._steps(state):
                    at_rest = at_rest and step.what in _LEAVE_AT_REST
                    explored.steps += 1
                    result = numbers.get(after)
                    if result is None:
                        result = numbers[after] = len(parents)
                        parents.append((number, step))
                        waiting.append(after)
                        if result >= most_states:
                            raise RuntimeError(f"more than {most_states:,} states: nothing is proved")
                    nexts.append(result)
                following.append(tuple(nexts))
                self._current_step = None
                if at_rest:
                    ends.add(self._check_rest(state.moment))
        except BrokenPromiseError as broken:
            explored.promise = broken.promise
            explored.violation = self._format_schedule(broken, parents, number)
        else:
            explored.schedules = _count_schedules(following)
        explored.states = len(parents)
        explored.ends = frozenset(ends)

    def _first(self) -> State:
        moment = self._cloud.empty
        sent: list[Message] = []

        def serve(call: int) -> int:
            nonlocal moment
            answers = []
            for part in self._cloud.parts(call):
                outcome, *_ = self._cloud.serve(moment, part, NOW)
                moment = outcome.moment
                sent.extend(outcome.sent)
                answers.append(outcome.answer)
            return self._cloud.whole(call, answers)

        body = {"executionId": EXECUTION, "tasks": self._case.tasks}
        event = api_event("POST /v1/executions", body=body, request_id="creation")
        answer = self._runs.straight("executions", event, NOW, serve)
        if answer["statusCode"] != 201:
            raise RuntimeError(f"the case could not be set up: {answer}")
        if self._case.watched:
            watcher = {keys.PK: {"S": keys.live_pk(TENANT, EXECUTION)}, keys.SK: {"S": "watcher"}}
            serve(self._cloud.call_number(a_call("dynamodb", "put_item", {"Item": watcher})))
        cursors = (0,) * (len(self._cloud.followed) * len(_CONSUMERS))
        clients = ((0, 0),) * len(self._clients)
        return self._settled(State(moment, NOW, cursors, tuple(sent), (), clients, (), self._case.faults))

    def _settled(self, state: State) -> State:
        """Return the state in normal form: sorted, and past records that no function's mapping delivers."""
        index = (state.moment, state.cursors)
        cursors = self._read_to.get(index)
        if cursors is None:
            cursors = self._read_to[index] = self._past_unwanted(*index)
        return State(
            state.moment,
            state.now,
            cursors,
            tuple(sorted(state.queued)),
            tuple(sorted(state.runs)),
            state.clients,
            tuple(sorted(state.late)),
            state.faults,
        )

    def _past_unwanted(self, moment: int, positions: Sequence[int]) -> tuple[int, ...]:
        cursors = list(positions)
        for index, position in enumerate(cursors):
            item, consumer = divmod(index, len(_CONSUMERS))
            changes = self._cloud.applied_changes(moment, item)
            at = position
            while at < len(changes) and not self._cloud.wants(_CONSUMERS[consumer], changes[at]):
                at += 1
            cursors[index] = at
        return tuple(cursors)

    def _steps(self, state: State) -> Iterator[tuple[Step, State]]:
        standing = [(self._without(state, run), run) for run in state.runs]
        standing += self._can_begin(state)
        if self._private_at_once:
            for taken, run in standing:
                if self._is_private(run):
                    yield from self._continue(taken, run)
                    return
        continues = False
        for taken, run in standing:
            continues = True
            yield from self._continue(taken, run)
        for step, after in self._around(state):
            continues = continues or step.what not in _LEAVE_AT_REST
            yield step, after
        if not continues:
            yield from self._wait_for_a_client(state._replace(late=()), at_last=True)

    def _can_begin(self, state: State) -> Iterator[tuple[State, Run]]:
        """Yield the runs that could start, each with the state that it leaves behind."""
        busy = {run.source for run in state.runs}
        for index, position in enumerate(state.cursors):
            item, consumer = divmod(index, len(_CONSUMERS))
            changes = self._cloud.applied_changes(state.moment, item)
            source: tuple[Any, ...] = ("stream", index)
            if position < len(changes) and source not in busy:
                yield state, self._begin(source, _CONSUMERS[consumer], changes[position], state.now)
        for message in dict.fromkeys(state.queued):
            if message.visible_at <= state.now:
                run = self._begin(("queue", message), _QUEUES[message.queue], message.text, state.now)
                yield state._replace(queued=_less(state.queued, message)), run
                if state.faults.twice and ("queue", message) not in busy:
                    left = state.faults._replace(twice=state.faults.twice - 1)
                    yield state._replace(faults=left), run
        for number, (step, attempt) in enumerate(state.clients):
            requests = self._case.clients[self._clients[number]]
            source = ("client", number, step, attempt)
            sends = step < len(requests) and source not in busy and not requests[step].wait_ms
            if sends and requests[step].when(self._view(state.moment)):
                yield state, self._begin(source, requests[step].function, step, state.now)

    def _begin(self, source: tuple[Any, ...], function: str, of: int, now: int) -> Run:
        existing = (*source, function, of) if source[0] == "client" else (source[0], function, of)
        if existing not in self._programs:
            node = self._runs.begin(function, self._event(source, function, of), now)
            self._programs[existing] = self._runs.nodes[node].program
        return Run(source, self._runs.begin_program(self._programs[existing], now), ())

    def _event(self, source: tuple[Any, ...], function: str, of: int) -> Any:
        if source[0] == "stream":
            return {"Records": [stream_record(self._cloud.changes[of], "1")]}
        if source[0] == "queue":
            return {"Records": [{"messageId": "1", "body": self._cloud.texts[of]}]}
        _, client, step, attempt = source
        request = self._case.clients[self._clients[client]][step]
        if function == "reconciler":
            return {}
        request_id = self._request_id(client, step, attempt)
        return api_event(request.route, path=request.path, body=request.body, request_id=request_id)

    def _request_id(self, client: int, step: int, attempt: int) -> str:
        return f"{self._clients[client]}-{step + 1}-{attempt + 1}"

    def _is_private(self, run: Run) -> bool:
        """Return True if no other run's calls read or write the data of the call under way."""
        node = self._runs.nodes[run.node]
        if node.pending is None:
            return True
        if node.pending not in self._private:
            self._private[node.pending] = all(map(self._touches_own, self._cloud.parts(node.pending)))
        return self._private[node.pending]

    def _touches_own(self, part: int) -> bool:
        call = self._cloud.calls[part]
        if call.service in _PRIVATE_SERVICES:
            return True
        arguments = call.arguments
        if call.operation == "put_item":
            return str(arguments["Item"][keys.PK]["S"]).startswith("HIST#")
        if call.operation == "get_item":
            index: str = arguments["Key"][keys.SK]["S"]
            return index.startswith(self._never_written)
        if call.operation == "query":
            values = arguments["ExpressionAttributeValues"]
            pk: str = values.get(":pk", {}).get("S", "")
            prefix: str = values.get(":prefix", {}).get("S", "")
            return pk.startswith("LIVE#") or prefix.startswith(self._never_written)
        return False

    def _continue(self, state: State, run: Run) -> Iterator[tuple[Step, State]]:
        """Yield the steps of a run: a further part of its call takes effect; or it dies; or its response is lost."""
        node = self._runs.nodes[run.node]
        if node.pending is None:
            yield Step("has nothing to do", run.source), self._ended(state, run.source, run.node)
            return
        all_parts = self._cloud.parts(node.pending)
        done = dict(run.done)
        left = [index for index in range(len(all_parts)) if index not in done]
        private = self._is_private(run)
        in_order = private or self._cloud.calls[node.pending].operation == "query"
        for index in left[:1] if in_order else left:
            part = all_parts[index]
            self._current_step = Step("", run.source, part)
            for outcome in self._cloud.serve(state.moment, part, state.now):
                if self._cloud.calls[part].service == "events":
                    self._check_published(state.moment, outcome.moment)
                after = state._replace(moment=outcome.moment, queued=state.queued + outcome.sent)
                answers = tuple(sorted((*run.done, (index, outcome.answer))))
                if len(answers) < len(all_parts):
                    after = after._replace(runs=(*after.runs, run._replace(done=answers)))
                else:
                    answer = self._cloud.whole(node.pending, [response for _, response in answers])
                    after = self._answer(after, run, answer)
                yield Step("", run.source, part, outcome.answer), self._settled(after)
        writes = tuple(all_parts[index] for index in left if self._cloud.calls[all_parts[index]].writes)
        if writes:
            yield from self._fail(state, run, writes, private=private)

    def _fail(self, state: State, run: Run, writes: tuple[int, ...], *, private: bool) -> Iterator[tuple[Step, State]]:
        """Yield the steps in which a run dies, or loses a response, with writes under way."""
        if state.faults.crashes:
            left = state.faults._replace(crashes=state.faults.crashes - 1)
            dead = self._again(state._replace(faults=left), run.source)
            yield (
                Step("dies", run.source, writes[0]),
                self._settled(dead if private else dead._replace(late=dead.late + writes)),
            )
            if private:
                # A private call lands at once or never: no one can see the time of it.
                yield Step("dies after", run.source, writes[-1]), self._settled(self._landed(dead, writes))
        if state.faults.lost_answers:
            left = state.faults._replace(lost_answers=state.faults.lost_answers - 1)
            deaf = state._replace(faults=left)
            deaf = self._landed(deaf, writes) if private else deaf._replace(late=deaf.late + writes)
            yield Step("loses the response", run.source, writes[0]), self._settled(self._answer(deaf, run, self._lost))

    def _landed(self, state: State, writes: Iterable[int]) -> State:
        for part in writes:
            outcome, *_ = self._cloud.serve(state.moment, part, state.now)
            if self._cloud.calls[part].service == "events":
                self._check_published(state.moment, outcome.moment)
            state = state._replace(moment=outcome.moment, queued=state.queued + outcome.sent)
        return state

    def _answer(self, state: State, run: Run, answer: int) -> State:
        """Return the state after a run got a response and continued to its next call, or to its end."""
        node = self._runs.resume(run.node, answer, state.now)
        stands = self._runs.nodes[node]
        if stands.pending is None:
            return self._ended(state, run.source, node)
        return state._replace(runs=(*state.runs, Run(run.source, node, ())))

    def _ended(self, state: State, source: tuple[Any, ...], node: int) -> State:
        """Return the state after a function ended with the result at a node."""
        result, kind = self._runs.nodes[node].result, source[0]
        if kind != "client":
            if result["batchItemFailures"]:
                return self._settled(self._again(state, source))
            if kind == "stream":
                state = state._replace(cursors=_with(state.cursors, source[1], state.cursors[source[1]] + 1))
            return self._settled(state)
        _, client, step, _ = source
        request = self._case.clients[self._clients[client]][step]
        if request.route:
            if result["statusCode"] >= _SERVER_ERROR:
                return self._settled(self._again(state, source))
            self._check_answered(state.moment, source, node)
        return self._settled(state._replace(clients=_with(state.clients, client, (step + 1, 0))))

    def _check_answered(self, moment: int, source: tuple[Any, ...], node: int) -> None:
        if (moment, source, node) not in self._checked:
            _, client, step, attempt = source
            result, request = self._runs.nodes[node].result, self._case.clients[self._clients[client]][step]
            messages = ClientResponse(
                request, self._request_id(client, step, attempt), result["statusCode"], json.loads(result["body"])
            )
            self._promises.answered(messages, self._view(moment), self._changes(moment))
            self._checked.add((moment, source, node))

    def _again(self, state: State, source: tuple[Any, ...]) -> State:
        """Deliver the source of an unfinished run again: AWS promises at least once."""
        if source[0] == "queue":
            return state._replace(queued=(*state.queued, source[1]))
        if source[0] == "client":
            _, client, step, attempt = source
            return state._replace(clients=_with(state.clients, client, (step, attempt + 1)))
        return state

    @staticmethod
    def _without(state: State, run: Run) -> State:
        return state._replace(runs=tuple(other for other in state.runs if other is not run))

    def _around(self, state: State) -> Iterator[tuple[Step, State]]:
        """Yield the steps that need no function."""
        for call in dict.fromkeys(state.late):
            self._current_step = Step("lands", (), call)
            for outcome in self._cloud.serve(state.moment, call, state.now):
                if outcome.moment == state.moment:
                    # Without a change now it equals not landing, which is among the orders anyway.
                    continue
                after = state._replace(
                    moment=outcome.moment, late=_less(state.late, call), queued=state.queued + outcome.sent
                )
                yield Step("lands", (), call, outcome.answer), self._settled(after)
        yield from self._deliver_again(state)
        if state.faults.lost_messages and self._before_reconciler(state):
            left = state.faults._replace(lost_messages=state.faults.lost_messages - 1)
            for message in dict.fromkeys(state.queued):
                lost = state._replace(faults=left, queued=_less(state.queued, message))
                yield Step("is lost", ("queue", message)), self._settled(lost)
        yield from self._wait(state)

    def _deliver_again(self, state: State) -> Iterator[tuple[Step, State]]:
        """Yield the steps in which the stream goes back."""
        busy = {run.source for run in state.runs}
        if state.faults.redelivered:
            left = state.faults._replace(redelivered=state.faults.redelivered - 1)
            for index, position in enumerate(state.cursors):
                for earlier in range(position if ("stream", index) not in busy else 0):
                    again = state._replace(faults=left, cursors=_with(state.cursors, index, earlier))
                    settled = self._settled(again)
                    if settled.cursors != state.cursors:
                        yield Step("delivers again", ("stream", index)), settled

    def _wait(self, state: State) -> Iterator[tuple[Step, State]]:
        """Yield the steps in which time passes: until the next message is visible, or as long as a client waits."""
        moments = [message.visible_at for message in state.queued if message.visible_at > state.now]
        if moments:
            yield Step("time passes"), state._replace(now=min(moments))
        yield from self._wait_for_a_client(state, at_last=False)

    def _wait_for_a_client(self, state: State, *, at_last: bool) -> Iterator[tuple[Step, State]]:
        for number, (step, _) in enumerate(state.clients):
            requests = self._case.clients[self._clients[number]]
            if step < len(requests) and requests[step].wait_ms and requests[step].at_last is at_last:
                later = state._replace(
                    now=state.now + requests[step].wait_ms, clients=_with(state.clients, number, (step + 1, 0))
                )
                yield Step("time passes", ("client", number, step, 0)), self._settled(later)

    def _before_reconciler(self, state: State) -> bool:
        number = self._clients.index("reconciler")
        return state.clients[number] == (0, 0)

    def _view(self, moment: int) -> View:
        if moment not in self._views:
            events = [self._cloud.events[number] for number in sorted(self._cloud.moments[moment].announced)]
            messages = [
                json.loads(self._cloud.texts[number]) for number in sorted(self._cloud.moments[moment].messages)
            ]
            self._views[moment] = View(self._cloud.table(moment), events, messages)
        return self._views[moment]

    def _check_published(self, before: int, after: int) -> None:
        if (before, after) in self._checked:
            return
        existing = self._view(before).events
        for event in self._view(after).events:
            if event not in existing:
                self._promises.published(event, existing)
                existing = [*existing, event]
        self._checked.add((before, after))

    def _check_rest(self, moment: int) -> str:
        if moment not in self._ends:
            view = self._view(moment)
            self._promises.at_rest(view, self._changes(moment))
            tasks = ", ".join(f"{name} {task.status} in attempt {task.attempt}" for name, task in view.tasks.items())
            self._ends[moment] = f"{tasks}; execution {view.execution_status}"
        return self._ends[moment]

    def _changes(self, moment: int) -> Mapping[Key, Sequence[Change]]:
        return {
            key: [self._cloud.changes[number] for number in self._cloud.applied_changes(moment, index)]
            for index, key in enumerate(self._cloud.followed)
        }

    def _format_schedule(
        self, broken: BrokenPromiseError, parents: Sequence[tuple[int, Step | None]], number: int
    ) -> str:
        """Return a readable schedule that leads to a broken promise."""
        steps: list[Step] = []
        while parents[number][1] is not None:
            number, step = parents[number]
            if step is not None:
                steps.append(step)
        steps.reverse()
        if self._current_step is not None:
            steps.append(self._current_step)
        messages: list[tuple[str, list[str]]] = []
        for step in steps:
            who, what = self._line(step)
            if messages and who and messages[-1][0] == who:
                messages[-1][1].append(what)
            else:
                messages.append((who, [what]))
        if self._current_step is None:
            messages.append(("", ["nothing more happens by itself"]))
        lines = [f"{self._case.name}: a schedule that breaks a promise"]
        for index, (who, whats) in enumerate(messages, 1):
            lines.append(f"{index:4}. {who + ': ' if who else ''}{'; '.join(whats)}")
        return "\n".join([*lines, f"broken: {broken}"])

    def _line(self, step: Step) -> tuple[str, str]:
        """Return one line of a schedule: source and action."""
        who = self._who(step.who)
        if step.part is None:
            return who, step.what
        call = self._cloud.calls[step.part]
        what = f"{call.operation} {_subject(call.arguments)}".strip()
        if step.what == "lands":
            return "", f"a call that was under way lands: {what}{self._outcome(step)}"
        if step.what:
            return who, f"{step.what}, {what} under way"
        return who, f"{what}{self._outcome(step)}"

    def _outcome(self, step: Step) -> str:
        if step.answer is None:
            return ""
        read = json.loads(self._cloud.answers[step.answer])
        item = read["answer"].get("Attributes") or read["answer"].get("Item") or {}
        stands = " ".join(
            f"{name} {next(iter(item[name].values()))}" for name in ("status", "attempt", "version") if name in item
        )
        messages = " ".join(filter(None, (read["error"], f"({stands})" if stands else "")))
        return f" -> {messages}" if messages else ""

    def _who(self, source: tuple[Any, ...]) -> str:
        if not source:
            return ""
        if source[0] == "stream":
            item, consumer = divmod(source[1], len(_CONSUMERS))
            return f"{_CONSUMERS[consumer]} on {self._cloud.followed[item][1]}"
        if source[0] == "queue":
            message: Message = source[1]
            read = json.loads(self._cloud.texts[message.text])
            about = read.get("detail", read)
            names = [about.get(name) for name in ("kind", "taskId", "status", "attempt")]
            return f"{_QUEUES[message.queue]} on {' '.join(str(name) for name in names if name is not None)}"
        _, client, step, attempt = source
        request = self._case.clients[self._clients[client]][step]
        return f"{self._clients[client]} ({request.says}{f', try {attempt + 1}' if attempt else ''})"


def _subject(arguments: Mapping[str, Any]) -> str:
    if "Statement" in arguments:
        sort_keys = [
            parameter["S"] for parameter in arguments["Parameters"] if str(parameter.get("S", "")).startswith("TASK#")
        ]
        return f"{', '.join(sort_keys)} to {arguments['Parameters'][0].get('S', '')}"
    if "TransactItems" in arguments:
        return ", ".join(action["Update"]["Key"][keys.SK]["S"] for action in arguments["TransactItems"])
    if "Entries" in arguments:
        return ", ".join(str(entry.get("DetailType", "")) for entry in arguments["Entries"])
    key = arguments.get("Key") or arguments.get("Item") or {}
    values = arguments.get("ExpressionAttributeValues", {})
    result = key.get(keys.SK) or values.get(":prefix") or values.get(":pk") or values.get(":key") or {}
    status = values.get(":status", {}).get("S")
    return f"{result.get('S', '')}{f' to {status}' if status else ''}"


def _less(values: tuple[Any, ...], item: Any) -> tuple[Any, ...]:
    index = values.index(item)
    return values[:index] + values[index + 1 :]


def _with(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])


def _count_schedules(following: Sequence[tuple[int, ...]]) -> int:
    """Count the ways from the first state to states that nothing follows.

    Raises
    ------
    RuntimeError
        If there is a cycle: then a schedule could continue for ever.
    """
    counts: list[int | None] = [None] * len(following)
    under_way = bytearray(len(following))
    stack = [0]
    while stack:
        state = stack[-1]
        if counts[state] is not None:
            stack.pop()
            continue
        missing = [after for after in following[state] if counts[after] is None]
        if not missing:
            counts[state] = sum(counts[after] or 0 for after in following[state]) or 1
            under_way[state] = 0
            stack.pop()
            continue
        if under_way[state]:
            raise RuntimeError("a schedule can continue for ever")
        under_way[state] = 1
        for after in missing:
            if under_way[after]:
                raise RuntimeError("a schedule can continue for ever")
            stack.append(after)
    return counts[0] or 0
