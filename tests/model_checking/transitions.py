"""Transitions of an exploration: the steps that a state allows, and the state after each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from tasklatch.dynamodb import keys
from tests.factories import ALL_SCOPES, api_event
from tests.model_checking.case import Case
from tests.model_checking.checks import Checker
from tests.model_checking.invocations import Invocations
from tests.model_checking.simulated_cloud import ADVANCE, LOST, TIMERS, Cloud, stream_record
from tests.model_checking.state import Run, State, Step, replaced, without

CONSUMERS: Final = ("notifier", "retry_scheduler")
QUEUES: Final[Mapping[str, str]] = {TIMERS: "retry_dispatcher", ADVANCE: "workflow_advancer"}
OPTIONAL_STEPS: Final = frozenset({"lands", "delivers again"})
"""Steps that may follow or not: a state that has no other steps must fulfil the promises as it is."""

_PRIVATE_SERVICES: Final = frozenset({"events", "sqs", "live"})
_SERVER_ERROR: Final = 500


class Transitions:
    """Steps between the states of a case.

    Parameters
    ----------
    private_at_once
        Whether private calls are made at once; without it, more states lead to the same results.

    Attributes
    ----------
    current_step
        Step whose effects are being computed, if any.
    """

    def __init__(self, case: Case, cloud: Cloud, runs: Invocations, checker: Checker, *, private_at_once: bool) -> None:
        self._case = case
        self._cloud = cloud
        self._runs = runs
        self._checker = checker
        self._private_at_once = private_at_once
        self._clients = tuple(case.clients)
        self._programs: dict[tuple[Any, ...], int] = {}
        self._private: dict[int, bool] = {}
        self._read_to: dict[tuple[int, tuple[int, ...]], tuple[int, ...]] = {}
        self._lost = cloud.answers.number(LOST)
        self.current_step: Step | None = None
        # Without dependencies, nobody writes the items of dependents
        waits = any(task.get("dependsOn") or task.get("children") for task in case.tasks)
        self._never_written = ("INPUT#",) if waits else ("INPUT#", "NEXT#", "WAITS#")
        functions = {request.function for requests in case.clients.values() for request in requests}
        # The reconciler reads the history, and keeps its own place; it does not run beside itself
        self._written_alone = ("RECONCILER",) if "reconciler" in functions else ("RECONCILER", "HIST#")

    def steps(self, state: State) -> Iterator[tuple[Step, State]]:
        """Yield each step that a state allows, with the state after it."""
        if state.faults.lost_records and self._before_reconciler(state):
            yield from self._discard(state)
        standing = [(state.without_run(run), run) for run in state.runs]
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
            continues = continues or step.what not in OPTIONAL_STEPS
            yield step, after
        if not continues:
            yield from self._wait_for_a_client(state._replace(late=()), at_last=True)

    def _can_begin(self, state: State) -> Iterator[tuple[State, Run]]:
        """Yield the runs that could start, each with the state that it leaves behind."""
        busy = {run.source for run in state.runs}
        for index, position in enumerate(state.cursors):
            item, consumer = divmod(index, len(CONSUMERS))
            changes = self._cloud.applied_changes(state.moment, item)
            source: tuple[Any, ...] = ("stream", index)
            if position < len(changes) and source not in busy:
                yield state, self._begin(source, CONSUMERS[consumer], changes[position], state.now)
        for message in dict.fromkeys(state.queued):
            if message.visible_at <= state.now:
                run = self._begin(("queue", message), QUEUES[message.queue], message.text, state.now)
                yield state._replace(queued=without(state.queued, message)), run
                if state.faults.twice and ("queue", message) not in busy:
                    left = state.faults._replace(twice=state.faults.twice - 1)
                    yield state._replace(faults=left), run
        for number, (step, attempt) in enumerate(state.clients):
            requests = self._case.clients[self._clients[number]]
            source = ("client", number, step, attempt)
            sends = step < len(requests) and source not in busy and not requests[step].wait_ms
            if sends and requests[step].when(self._checker.view(state.moment)):
                yield state, self._begin(source, requests[step].function, step, state.now)

    def _begin(self, source: tuple[Any, ...], function: str, of: int, now: int) -> Run:
        existing = (*source, function, of) if source[0] == "client" else (source[0], function, of)
        if existing not in self._programs:
            node = self._runs.begin(function, self._event(source, of), now)
            self._programs[existing] = self._runs.nodes[node].program
        return Run(source, self._runs.begin_program(self._programs[existing], now), ())

    def _event(self, source: tuple[Any, ...], of: int) -> Any:
        if source[0] == "stream":
            return {"Records": [stream_record(self._cloud.changes[of], "1")]}
        if source[0] == "queue":
            return {"Records": [{"messageId": "1", "body": self._cloud.texts[of]}]}
        _, client, step, attempt = source
        request = self._case.clients[self._clients[client]][step]
        if not request.route:
            return {}
        request_id = self._checker.request_id(client, step, attempt)
        claims = {"scope": ALL_SCOPES, "client_id": self._clients[client]}
        return api_event(request.route, path=request.path, body=request.body, claims=claims, request_id=request_id)

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
            return str(arguments["Item"][keys.PK]["S"]).startswith(self._written_alone)
        if call.operation == "get_item":
            if arguments["Key"][keys.PK]["S"] == "RECONCILER":
                return True
            index: str = arguments["Key"][keys.SK]["S"]
            return index.startswith(self._never_written)
        if call.operation == "query":
            values = arguments["ExpressionAttributeValues"]
            pk: str = values.get(":pk", {}).get("S", "")
            prefix: str = values.get(":prefix", {}).get("S", "")
            # How many ignored reports are stored matters to none of these cases: they have too few
            return pk.startswith(("LIVE#", "HIST#")) or prefix.startswith(self._never_written)
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
            self.current_step = Step("", run.source, part)
            for outcome in self._cloud.serve(state.moment, part, state.now):
                if self._cloud.calls[part].service == "events":
                    self._checker.check_published(state.moment, outcome.moment)
                after = state._replace(moment=outcome.moment, queued=state.queued + outcome.sent)
                answers = tuple(sorted((*run.done, (index, outcome.answer))))
                if len(answers) < len(all_parts):
                    after = after._replace(runs=(*after.runs, run._replace(done=answers)))
                else:
                    answer = self._cloud.whole(node.pending, [response for _, response in answers])
                    after = self._answer(after, run, answer)
                yield Step("", run.source, part, outcome.answer), self.settled(after)
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
                self.settled(dead if private else dead._replace(late=dead.late + writes)),
            )
            if private:
                # A private call lands at once or never: no one can see the time of it.
                yield Step("dies after", run.source, writes[-1]), self.settled(self._landed(dead, writes))
        if state.faults.lost_answers:
            left = state.faults._replace(lost_answers=state.faults.lost_answers - 1)
            deaf = state._replace(faults=left)
            deaf = self._landed(deaf, writes) if private else deaf._replace(late=deaf.late + writes)
            yield Step("loses the response", run.source, writes[0]), self.settled(self._answer(deaf, run, self._lost))

    def _landed(self, state: State, writes: Iterable[int]) -> State:
        for part in writes:
            outcome, *_ = self._cloud.serve(state.moment, part, state.now)
            if self._cloud.calls[part].service == "events":
                self._checker.check_published(state.moment, outcome.moment)
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
                return self.settled(self._again(state, source))
            if kind == "stream":
                state = state._replace(cursors=replaced(state.cursors, source[1], state.cursors[source[1]] + 1))
            return self.settled(state)
        _, client, step, _ = source
        request = self._case.clients[self._clients[client]][step]
        if request.route:
            if result["statusCode"] >= _SERVER_ERROR:
                return self.settled(self._again(state, source))
            self._checker.check_answered(state.moment, source, node)
        return self.settled(state._replace(clients=replaced(state.clients, client, (step + 1, 0))))

    def _again(self, state: State, source: tuple[Any, ...]) -> State:
        """Deliver the source of an unfinished run again: AWS promises at least once."""
        if source[0] == "queue":
            return state._replace(queued=(*state.queued, source[1]))
        if source[0] == "client":
            _, client, step, attempt = source
            return state._replace(clients=replaced(state.clients, client, (step, attempt + 1)))
        return state

    def _around(self, state: State) -> Iterator[tuple[Step, State]]:
        """Yield the steps that need no function."""
        for call in dict.fromkeys(state.late):
            self.current_step = Step("lands", (), call)
            for outcome in self._cloud.serve(state.moment, call, state.now):
                if outcome.moment == state.moment:
                    # Without a change now it equals not landing, which is among the orders anyway.
                    continue
                after = state._replace(
                    moment=outcome.moment, late=without(state.late, call), queued=state.queued + outcome.sent
                )
                yield Step("lands", (), call, outcome.answer), self.settled(after)
        yield from self._deliver_again(state)
        if state.faults.lost_messages and self._before_reconciler(state):
            left = state.faults._replace(lost_messages=state.faults.lost_messages - 1)
            for message in dict.fromkeys(state.queued):
                lost = state._replace(faults=left, queued=without(state.queued, message))
                yield Step("is lost", ("queue", message)), self.settled(lost)
        yield from self._wait(state)

    def _discard(self, state: State) -> Iterator[tuple[Step, State]]:
        """Yield the steps in which the notifier never gets the record of a task that was scheduled."""
        busy = {run.source for run in state.runs}
        left = state.faults._replace(lost_records=state.faults.lost_records - 1)
        for index, position in enumerate(state.cursors):
            item, consumer = divmod(index, len(CONSUMERS))
            changes = self._cloud.applied_changes(state.moment, item)[position : position + 1]
            is_idle = CONSUMERS[consumer] == "notifier" and ("stream", index) not in busy
            if is_idle and any(self._cloud.changes[n].after["status"]["S"] == "SCHEDULED" for n in changes):
                lost = state._replace(faults=left, cursors=replaced(state.cursors, index, position + 1))
                yield Step("is discarded", ("stream", index)), self.settled(lost)

    def _deliver_again(self, state: State) -> Iterator[tuple[Step, State]]:
        """Yield the steps in which the stream goes back."""
        if not state.faults.redelivered:
            return
        busy = {run.source for run in state.runs}
        left = state.faults._replace(redelivered=state.faults.redelivered - 1)
        for index, position in enumerate(state.cursors):
            for earlier in range(position if ("stream", index) not in busy else 0):
                again = state._replace(faults=left, cursors=replaced(state.cursors, index, earlier))
                settled = self.settled(again)
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
                    now=state.now + requests[step].wait_ms, clients=replaced(state.clients, number, (step + 1, 0))
                )
                yield Step("time passes", ("client", number, step, 0)), self.settled(later)

    def _before_reconciler(self, state: State) -> bool:
        number = self._clients.index("reconciler")
        return state.clients[number] == (0, 0)

    def settled(self, state: State) -> State:
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
            item, consumer = divmod(index, len(CONSUMERS))
            changes = self._cloud.applied_changes(moment, item)
            at = position
            while at < len(changes) and not self._cloud.wants(CONSUMERS[consumer], changes[at]):
                at += 1
            cursors[index] = at
        return tuple(cursors)
