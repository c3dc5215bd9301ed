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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tasklatch.api.v1.executions.models import CONCURRENCY_PREFIX
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_key
from tests.factories import NOW, api_event
from tests.model_checking.case import ADDED, EXECUTION, KEY, LIMIT, TENANT, Case
from tests.model_checking.checks import BrokenPromiseError, Checker, Promises
from tests.model_checking.invocations import Invocations
from tests.model_checking.schedule import ScheduleFormatter
from tests.model_checking.simulated_cloud import ADVANCE, Cloud, Message, a_call, stream_record
from tests.model_checking.state import State, Step
from tests.model_checking.transitions import CONSUMERS, OPTIONAL_STEPS, Transitions


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


_STAYS_OPEN: Final = {
    "Key": execution_key(TENANT, EXECUTION),
    "UpdateExpression": "SET #open = :true",
    "ExpressionAttributeNames": {"#open": "staysOpen"},
    "ExpressionAttributeValues": {":true": {"BOOL": True}},
}


class _Search:
    """States that were reached, by number, and the step that led to each."""

    def __init__(self, most_states: int) -> None:
        self._most_states = most_states
        self.numbers: dict[State, int] = {}
        self.parents: list[tuple[int, Step | None]] = []
        self.following: list[tuple[int, ...]] = []
        self.waiting: deque[State] = deque()

    def add(self, state: State, parent: int, step: Step | None) -> int:
        """Return the number of a state; a new state is explored later."""
        number = self.numbers.get(state)
        if number is None:
            number = self.numbers[state] = len(self.parents)
            self.parents.append((parent, step))
            self.waiting.append(state)
            if number >= self._most_states:
                raise RuntimeError(f"more than {self._most_states:,} states: nothing is proved")
        return number

    def steps_to(self, number: int) -> list[Step]:
        """Return the steps from the first state to another."""
        steps: list[Step] = []
        number, step = self.parents[number]
        while step is not None:
            steps.append(step)
            number, step = self.parents[number]
        return steps[::-1]


class Explorer:
    """Search through all states of a case.

    Parameters
    ----------
    private_at_once
        Whether private calls are made at once; without it, more states lead to the same results.
    """

    def __init__(self, case: Case, promises: Promises, *, private_at_once: bool = True) -> None:
        self._case = case
        self._cloud = Cloud(promises.changed, index_lags=case.index_lags)
        self._runs = Invocations(self._cloud, one_page=case.one_page)
        self._checker = Checker(case, promises, self._cloud, self._runs)
        self._transitions = Transitions(case, self._cloud, self._runs, self._checker, private_at_once=private_at_once)

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
        search = _Search(most_states)
        ends: set[str] = set()
        number = 0
        try:
            search.add(self._first(), 0, None)
            while search.waiting:
                state = search.waiting.popleft()
                number = search.numbers[state]
                if self._expand(search, explored, state, number):
                    ends.add(self._checker.check_rest(state.moment))
        except BrokenPromiseError as broken:
            explored.promise = broken.promise
            explored.violation = self._format_violation(broken, search.steps_to(number))
        else:
            explored.schedules = _count_schedules(search.following)
        explored.states = len(search.parents)
        explored.ends = frozenset(ends)

    def _expand(self, search: _Search, explored: Explored, state: State, number: int) -> bool:
        """Add the states that follow a state; return True if nothing has to follow."""
        following: list[int] = []
        at_rest = True
        self._transitions.current_step = None
        for step, after in self._transitions.steps(state):
            at_rest = at_rest and step.what in OPTIONAL_STEPS
            explored.steps += 1
            following.append(search.add(after, number, step))
        search.following.append(tuple(following))
        self._transitions.current_step = None
        return at_rest

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

        # As in a stack that no older version has run in
        enlisted = {keys.PK: {"S": "RECONCILER"}, keys.SK: {"S": "ENLISTING"}, "done": {"BOOL": True}}
        serve(self._cloud.call_number(a_call("dynamodb", "put_item", {"Item": enlisted})))
        for number, body in enumerate(_bodies(self._case)):
            # Each a millisecond later than the one before
            event = api_event("POST /v1/executions", body=body, request_id="creation")
            answer = self._runs.straight("executions", event, NOW + number, serve)
            if answer["statusCode"] != 201:
                raise RuntimeError(f"the case could not be set up: {answer}")
        if self._case.stays_open:
            serve(self._cloud.call_number(a_call("dynamodb", "update_item", _STAYS_OPEN)))
        if self._case.watched:
            watcher = {keys.PK: {"S": keys.live_pk(TENANT, EXECUTION)}, keys.SK: {"S": "watcher"}}
            serve(self._cloud.call_number(a_call("dynamodb", "put_item", {"Item": watcher})))
        # A query of all tasks reads each at a moment of its own, so also those that do not exist yet
        for task_id in (*((ADDED,) if self._case.adds else ()), *self._case.children):
            self._cloud.follow((keys.execution_pk(TENANT, EXECUTION), keys.task_sk(task_id)))
        if self._case.limited:
            self._begin_limited(serve, [change for stream in self._cloud.moments[moment].changes for change in stream])
        counts = [len(self._cloud.applied_changes(moment, index)) for index in range(len(self._cloud.followed))]
        cursors = tuple(count if self._case.limited else 0 for count in counts for _ in CONSUMERS)
        clients = ((0, 0),) * len(self._case.clients)
        return self._transitions.settled(State(moment, NOW, cursors, tuple(sent), (), clients, (), self._case.faults))

    def _begin_limited(self, serve: Callable[[int], int], created: Sequence[int]) -> None:
        """Deliver the creation of a limited execution, or let the first of several start."""
        if len(self._case.limited) == 1 and not self._case.fails_first:
            records = {"Records": [stream_record(self._cloud.changes[change], "1") for change in created]}
            runs = [("notifier", records)]
        else:
            about = {"tenant": TENANT, "executionId": self._case.limited[0]}
            messages = ({**about, "kind": "slot", "concurrencyKey": KEY}, {**about, "kind": "schedule"})
            bodies = [{"messageId": "1", "body": json.dumps(message)} for message in messages]
            runs = [("workflow_advancer", {"Records": [body]}) for body in bodies]
            if self._case.fails_first:
                runs += self._failure()
        for function, event in runs:
            if self._runs.straight(function, event, NOW, serve).get("batchItemFailures"):
                raise RuntimeError("the case could not be set up")
        if self._case.fails_first:
            entry = {"Id": "1", "MessageBody": bodies[0]["body"]}
            send = {"QueueUrl": f"https://queue/{ADVANCE}", "Entries": [entry]}
            serve(self._cloud.call_number(a_call("sqs", "send_message_batch", send)))

    def _failure(self) -> list[tuple[str, Any]]:
        """Return the runs in which the first execution fails."""
        path = {"executionId": self._case.limited[0], "taskId": self._case.tasks[0]["taskId"]}
        route = "POST /v1/executions/{executionId}/tasks/{taskId}/status"
        event = api_event(route, path=path, body={"status": "FAILED", "attempt": 1}, request_id="failure")
        message = json.dumps({"kind": "task", "tenant": TENANT, **path})
        return [
            ("report_status", event),
            ("workflow_advancer", {"Records": [{"messageId": "1", "body": message}]}),
        ]

    def _format_violation(self, broken: BrokenPromiseError, steps: list[Step]) -> str:
        """Return a readable schedule that leads to a broken promise."""
        current = self._transitions.current_step
        if current is not None:
            steps.append(current)
        text = ScheduleFormatter(self._case, self._cloud).format_steps(steps, at_rest=current is None)
        return f"{self._case.name}: a schedule that breaks a promise\n{text}\nbroken: {broken}"


def _bodies(case: Case) -> list[dict[str, Any]]:
    """Return the requests that create a case's executions."""
    if not case.limited:
        return [{"executionId": EXECUTION, "tasks": case.tasks}]
    limit = {"concurrencyKey": KEY.removeprefix(CONCURRENCY_PREFIX), "maxConcurrentExecutions": LIMIT}
    return [
        {"executionId": execution_id, "tasks": [task], **limit}
        for execution_id, task in zip(case.limited, case.tasks, strict=True)
    ]


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
