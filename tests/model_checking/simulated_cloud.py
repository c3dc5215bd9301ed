"""Everything that outlives a function in one value: the table, its stream, the bus, and the messages to watchers.

A moment of it is a `Moment`, stored once and known by its number, so that two schedules that lead to the same moment
are recognised. `Cloud.serve` is a function of a moment and one call; each of its results is computed once.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

import yaml
from moto.events.models import EventPattern

from tasklatch.dynamodb import keys
from tests.integration.emulators import ROOT, _TemplateLoader
from tests.model_checking import memory_table
from tests.model_checking.expressions import Item
from tests.model_checking.memory_table import Key, Served, key_of, parts, whole

T = TypeVar("T")
TIMERS: Final = "timers"
ADVANCE: Final = "advance"
LOST: Final = "LOST"


class Interned(Generic[T]):
    """Values that are stored once, each known by a number."""

    def __init__(self, first: Sequence[T] = ()) -> None:
        self._values: list[T] = []
        self._numbers: dict[Any, int] = {}
        for value in first:
            self.number(value)

    def number(self, value: T, known_by: Any = None) -> int:
        """Return the number of a value; `known_by` distinguishes it from others if it cannot be hashed itself."""
        name = value if known_by is None else known_by
        result = self._numbers.get(name)
        if result is None:
            result = self._numbers[name] = len(self._values)
            self._values.append(value)
        return result

    def __getitem__(self, number: int) -> T:
        return self._values[number]

    def __len__(self) -> int:
        return len(self._values)


def as_text(value: Any) -> str:
    """Return JSON that is the same for the same value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=lambda data: bytes(data).decode())


@dataclass(frozen=True)
class Call:
    """One call to AWS: service, operation and arguments."""

    service: str
    operation: str
    arguments: Mapping[str, Any]
    text: str

    @property
    def writes(self) -> bool:
        return self.operation not in {*memory_table.READS, "batch_get_item"}


def a_call(service: str, operation: str, arguments: Mapping[str, Any]) -> Call:
    text = as_text([service, operation, arguments])
    return Call(service, operation, json.loads(text)[2], text)


@dataclass(frozen=True)
class Change:
    """One record of the stream: an item before and after."""

    before: Item | None
    after: Item


@dataclass(frozen=True)
class Event:
    """Event that was published on the bus."""

    detail_type: str
    detail: Mapping[str, Any]

    @property
    def subject(self) -> tuple[str, str]:
        """Return the subject: the item's sort key, by execution."""
        task_id = self.detail.get("taskId")
        return self.detail["executionId"], keys.EXECUTION_SK if task_id is None else keys.task_sk(task_id)


class Moment(NamedTuple):
    """State of all services, each part by its number."""

    table: int
    changes: tuple[tuple[int, ...], ...]
    announced: frozenset[int]
    messages: frozenset[int]


class Message(NamedTuple):
    """Message in a queue: its text's number, and the time from which it is visible, in milliseconds since the epoch."""

    queue: str
    text: int
    visible_at: int


@dataclass(frozen=True)
class Outcome:
    """Result of a part of a call: the moment after, the response (both by number), and the messages sent to queues."""

    moment: int
    answer: int
    sent: tuple[Message, ...] = ()


@cache
def _template() -> Mapping[str, Any]:
    loaded = yaml.load((ROOT / "template.yaml").read_text(), _TemplateLoader)  # noqa: S506 - a safe one
    return cast("Mapping[str, Any]", loaded["Resources"])


def _stream_filters(function: str) -> Iterable[str]:
    """Return the patterns of a function's stream mapping, as the template declares them."""
    for resource in _template().values():
        properties = resource.get("Properties", {})
        is_function = resource["Type"] == "AWS::Serverless::Function"
        if is_function and str(properties.get("CodeUri")).endswith(f"/{function}"):
            streams = (event for event in properties["Events"].values() if event["Type"] == "DynamoDB")
            filters = (item for event in streams for item in event["Properties"]["FilterCriteria"]["Filters"])
            yield from (item["Pattern"] for item in filters)


def _ever_listed(table: memory_table.Table, call: Call) -> Iterable[tuple[Key, Item]]:
    """Return the items that have ever been in the list that a call reads, as if the index had missed every end."""
    list_key = call.arguments["ExpressionAttributeValues"][":key"]["S"]
    for key, item in table.items():
        if key[1].startswith(keys.TASK_PREFIX) and list_key.startswith("OPEN#"):
            entry = {keys.LIST_KEY: {"S": keys.open_list_for(key[0])}, keys.LIST_SORT: {"S": key[1]}}
        elif (key[1].startswith(keys.TASK_PREFIX) and list_key.startswith("DUE#")) or (
            key[1] == keys.EXECUTION_SK and list_key.startswith("RUN#")
        ):
            entry = {keys.DUE_KEY: {"S": list_key}, keys.DUE_SORT: {"S": keys.due_sort(0)}}
        elif key[1].startswith(keys.TASK_PREFIX) and list_key.startswith("QUEUE#"):
            entry = {keys.WORK_KEY: {"S": list_key}, keys.WORK_SORT: {"S": keys.work_sort(4, key[0], 0)}}
        else:
            continue
        yield key, {**item, **entry}


def _reads_tasks(call: Call) -> bool:
    """Return True if a call reads all tasks of an execution: one after the other, at no common moment."""
    requested = call.arguments
    whole_partition = call.operation == "query" and not {"IndexName", "ProjectionExpression"} & set(requested)
    return whole_partition and requested["ExpressionAttributeValues"].get(":prefix") == {"S": keys.TASK_PREFIX}


class Cloud:
    """Services, over moments.

    Parameters
    ----------
    check_change
        Called for each change of a task or an execution, with its key and the table after it.
    index_lags
        Whether the index may also respond as if it had no entry yet, or had missed every end.
    """

    def __init__(
        self, check_change: Callable[[Key, Change, memory_table.Table], None], *, index_lags: bool = False
    ) -> None:
        self._check_change = check_change
        self._index_lags = index_lags
        self.items: Interned[Item] = Interned()
        self._item_numbers: dict[int, int] = {}
        self.tables: Interned[memory_table.Table] = Interned()
        self.changes: Interned[Change] = Interned()
        self.events: Interned[Event] = Interned()
        self.answers: Interned[str] = Interned()
        self.calls: Interned[Call] = Interned()
        self.texts: Interned[str] = Interned()
        self.moments: Interned[Moment] = Interned()
        self.followed: list[Key] = []
        self._served: dict[tuple[int, int, int], tuple[Outcome, ...]] = {}
        self._parts: dict[int, tuple[int, ...]] = {}
        self._wholes: dict[tuple[int, ...], int] = {}
        self._filters = {
            function: [EventPattern.load(pattern) for pattern in _stream_filters(function)]
            for function in ("notifier", "retry_scheduler")
        }
        self._wanted: dict[tuple[int, str], bool] = {}
        self.empty = self.moments.number(Moment(self._table_number({}), (), frozenset(), frozenset()))

    def follow(self, key: Key) -> None:
        """Follow an item before it exists."""
        self.followed.append(key)

    def call_number(self, call: Call) -> int:
        return self.calls.number(call, call.text)

    def parts(self, call: int) -> tuple[int, ...]:
        """Split a call into the parts that take effect at separate moments."""
        if call not in self._parts:
            whole_call = self.calls[call]
            if _reads_tasks(whole_call):
                pk = whole_call.arguments["ExpressionAttributeValues"][":pk"]["S"]
                result = [a_call("dynamodb", "get_item", {"Key": key}) for key in self._page(pk, whole_call.arguments)]
            elif whole_call.service == "dynamodb":
                result = [a_call("dynamodb", *part) for part in parts(whole_call.operation, whole_call.arguments)]
            else:
                result = [whole_call]
            self._parts[call] = tuple(self.call_number(part) for part in result)
        return self._parts[call]

    def whole(self, call: int, answers: Sequence[int]) -> int:
        """Return the response to a call from the responses to its parts."""
        if self.parts(call) == (call,):
            return answers[0]
        existing = (call, *answers)
        if existing not in self._wholes:
            requested = self.calls[call]
            read = [json.loads(self.answers[answer]) for answer in answers]
            served = [(item["answer"], item["error"]) for item in read]
            answer = whole(requested.operation, requested.arguments, served)
            if _reads_tasks(requested) and self._is_followed_by_more(requested.arguments):
                answer["LastEvaluatedKey"] = self.calls[self.parts(call)[-1]].arguments["Key"]
            text = as_text({"answer": answer, "error": None})
            self._wholes[existing] = self.answers.number(text)
        return self._wholes[existing]

    def _page(self, pk: str, requested: Mapping[str, Any]) -> list[Item]:
        """Return the keys of the tasks of one page: each task is read at a moment of its own."""
        start = requested.get("ExclusiveStartKey", {}).get(keys.SK, {}).get("S", keys.TASK_PREFIX)
        followed = sorted(sk for of, sk in self.followed if of == pk and sk.startswith(keys.TASK_PREFIX) and sk > start)
        return [{keys.PK: {"S": pk}, keys.SK: {"S": sk}} for sk in followed[: requested.get("Limit")]]

    def _is_followed_by_more(self, requested: Mapping[str, Any]) -> bool:
        pk = requested["ExpressionAttributeValues"][":pk"]["S"]
        return len(self._page(pk, requested)) < len(self._page(pk, {**requested, "Limit": None}))

    def table(self, moment: int) -> memory_table.Table:
        return self.tables[self.moments[moment].table]

    def applied_changes(self, moment: int, index: int) -> tuple[int, ...]:
        """Return the stream of one item, in order: the records' numbers."""
        changes = self.moments[moment].changes
        return changes[index] if index < len(changes) else ()

    def wants(self, function: str, change: int) -> bool:
        """Return True if a function's stream mapping delivers a record."""
        existing = (change, function)
        if existing not in self._wanted:
            record: Any = stream_record(self.changes[change], "1")
            self._wanted[existing] = any(pattern.matches_event(record) for pattern in self._filters[function])
        return self._wanted[existing]

    def serve(self, moment: int, part: int, now: int) -> tuple[Outcome, ...]:
        """Serve a part of a call; more than one outcome where AWS does not promise which."""
        call = self.calls[part]
        existing = (moment, part, now if call.service == "sqs" else 0)
        if existing not in self._served:
            self._served[existing] = tuple(self._outcomes(moment, call, now))
        return self._served[existing]

    def _outcomes(self, moment: int, call: Call, now: int) -> Iterable[Outcome]:
        if call.service == "dynamodb":
            return self._on_table(moment, call)
        if call.service == "events":
            return [self._publish(moment, call)]
        if call.service == "sqs":
            return [self._send(moment, call, now)]
        if call.service == "live":
            messages = self.moments[moment].messages | {self.texts.number(call.arguments["Data"])}
            return [Outcome(self.moments.number(self.moments[moment]._replace(messages=messages)), self._answer({}))]
        raise ValueError(f"no such service: {call.text}")

    def _answer(self, answer: Mapping[str, Any], error: str | None = None) -> int:
        return self.answers.number(as_text({"answer": answer, "error": error}))

    def _table_number(self, table: memory_table.Table) -> int:
        numbered = {key: self._item_number(item) for key, item in table.items()}
        return self.tables.number(
            {key: self.items[item] for key, item in numbered.items()}, frozenset(numbered.items())
        )

    def _item_number(self, item: Item) -> int:
        """Return an item's number; for a stored item, without a look inside."""
        number = self._item_numbers.get(id(item))
        if number is None:
            number = self.items.number(item, as_text(item))
            self._item_numbers[id(self.items[number])] = number
        return number

    def _on_table(self, moment: int, call: Call) -> Iterable[Outcome]:
        table = self.table(moment)
        answers = {}
        for served in self._as_seen(table, call):
            after = self._after(moment, served)
            answers[self._answer(served.answer, served.error)] = after
        return [Outcome(after, answer) for answer, after in answers.items()]

    def _as_seen(self, table: memory_table.Table, call: Call) -> Iterable[Served]:
        yield memory_table.serve(table, call.operation, call.arguments)
        if self._index_lags and call.operation == "query" and "IndexName" in call.arguments:
            nothing: memory_table.Table = {}
            for observed in (nothing, dict(_ever_listed(table, call))):
                yield replace(memory_table.serve(observed, call.operation, call.arguments), table=table)

    def _after(self, moment: int, served: Served) -> int:
        before = self.moments[moment]
        table = self.tables[before.table]
        if served.table is table:
            return moment
        changes = list(before.changes)
        for key, item in served.table.items():
            old = table.get(key)
            if item is old or not (key[1].startswith(keys.TASK_PREFIX) or key[1] == keys.EXECUTION_SK):
                continue
            if old is not None and as_text(old) == as_text(item):
                continue
            change = Change(old, item)
            self._check_change(key, change, served.table)
            if key not in self.followed:
                self.followed.append(key)
            index = self.followed.index(key)
            changes += [()] * (index + 1 - len(changes))
            changes[index] = (*changes[index], self.changes.number(change, as_text([old, item])))
        number = self._table_number(served.table)
        return self.moments.number(before._replace(table=number, changes=tuple(changes)))

    def _publish(self, moment: int, call: Call) -> Outcome:
        before = self.moments[moment]
        announced = set(before.announced)
        for entry in call.arguments["Entries"]:
            event = Event(entry["DetailType"], json.loads(entry["Detail"]))
            announced.add(self.events.number(event, as_text([event.detail_type, event.detail])))
        answer = {"FailedEntryCount": 0, "Entries": [{"EventId": "event"} for _ in call.arguments["Entries"]]}
        after = self.moments.number(before._replace(announced=frozenset(announced)))
        return Outcome(after, self._answer(answer))

    def _send(self, moment: int, call: Call, now: int) -> Outcome:
        queue = call.arguments["QueueUrl"].rpartition("/")[2]
        sent = tuple(
            Message(queue, self.texts.number(entry["MessageBody"]), _visible_at(entry, now))
            for entry in call.arguments["Entries"]
        )
        return Outcome(moment, self._answer({"Successful": []}), sent)


def _visible_at(entry: Mapping[str, Any], now: int) -> int:
    return now + entry["DelaySeconds"] * 1000 if "DelaySeconds" in entry else 0


def stream_record(change: Change, number: str) -> dict[str, Any]:
    """Return a record as Lambda passes it to a function."""
    images = {"NewImage": change.after, **({"OldImage": change.before} if change.before is not None else {})}
    pk, sk = key_of(change.after)
    return {
        "eventID": number,
        "eventName": "MODIFY" if change.before is not None else "INSERT",
        "eventSource": "aws:dynamodb",
        "dynamodb": {"Keys": {keys.PK: {"S": pk}, keys.SK: {"S": sk}}, "SequenceNumber": number, **images},
    }
