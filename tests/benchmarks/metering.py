"""Amounts that AWS would bill for the calls of a DynamoDB client: counted from the items, by DynamoDB's own rules.

An emulator's capacity figures cannot be trusted, so they are not used: every call passes, and the items that it touched
are read before and after it, apart from the count. The rules, from DynamoDB's developer guide:

- A write takes a unit for each KB begun of the item before or after it, whichever is larger; one whose condition fails
  takes as much; a transaction takes twice as much.
- A write to an index takes units of its own: one entry put when an item enters it or its entry changes, one deleted
  when it leaves, both when its key changes, none else.
- A consistent read takes a unit for each 4 KB begun of an item, a query for each 4 KB begun of all that it reads, an
  eventually consistent one half as much. A missing item takes as much as the smallest item.
"""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from tasklatch.dynamodb import keys
from tests.integration.emulators import intercepted

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = Mapping[str, Any]
Key = tuple[str, str]

WRITE_UNIT: Final = 1024
READ_UNIT: Final = 4096
_INDEXES: Final = (
    (keys.LIST_KEY, keys.LIST_SORT),
    (keys.DUE_KEY, keys.DUE_SORT),
    (keys.WORK_KEY, keys.WORK_SORT),
)
_WRITES: Final = frozenset(
    {"batch_execute_statement", "batch_write_item", "delete_item", "put_item", "transact_write_items", "update_item"}
)
_INSERTED: Final = re.compile(r"'(\w+)': \?")


def item_size(item: Item) -> int:
    """Return an item's size in bytes: names and values in UTF-8, numbers a byte for each two digits and one more."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Item) -> int:
    ((kind, held),) = value.items()
    match kind:
        case "S":
            return len(str(held).encode())
        case "N":
            digits = str(held).lstrip("-").replace(".", "").strip("0")
            return ceil(len(digits) / 2) + 1 + str(held).startswith("-")
        case "M":
            return 3 + sum(len(name.encode()) + _value_size(item) + 1 for name, item in held.items())
        case "L":
            return 3 + sum(_value_size(element) + 1 for element in held)
        case "BOOL" | "NULL":
            return 1
    raise ValueError(f"no size is known for {kind}")


@dataclass
class Usage:
    """Usage that is billed.

    Attributes
    ----------
    calls
        Calls to DynamoDB, by operation.
    write_units, index_units
        Write request units, of the table and of its index.
    read_units
        Read request units; an eventually consistent read takes half of one.
    requests
        Requests to the HTTP API.
    invocations
        Invocations of functions, by function.
    events
        Entries put on the event bus.
    queue_requests
        Requests to queues: sending, and one each for receiving and deleting a message.
    live_messages
        Messages to watchers.
    log_bytes
        Bytes that functions wrote to their logs.
    """

    calls: Counter[str] = field(default_factory=Counter)
    write_units: int = 0
    index_units: int = 0
    read_units: float = 0
    requests: int = 0
    invocations: Counter[str] = field(default_factory=Counter)
    events: int = 0
    queue_requests: int = 0
    live_messages: int = 0
    log_bytes: int = 0


@dataclass
class Meter:
    """Counter of the calls of the client that it makes; records the changes that the table's stream would carry."""

    client: "DynamoDBClient"
    table: str
    usage: Usage = field(default_factory=Usage)
    stream: list[dict[str, Any]] = field(default_factory=list)
    _sequence: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Calls are made in several threads, and a sum that two of them raise at once would miss one."""

    def metered(self) -> "DynamoDBClient":
        """Return a client whose calls are counted."""
        return intercepted(self.client, self._around)

    def _around(self, operation: str, call: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        with self._lock:
            self.usage.calls[operation] += 1
        if operation not in _WRITES:
            answer = call()
            units = self._read_units(operation, arguments, answer)
            with self._lock:
                self.usage.read_units += units
            return answer
        touched = list(_touched(operation, arguments))
        before = self._images(touched)
        try:
            return call()
        finally:
            after = self._images(touched)
            twice = 2 if operation == "transact_write_items" else 1
            with self._lock:
                for key in touched:
                    self._count_write(key, before.get(key), after.get(key), twice)

    def _count_write(self, key: Key, old: Item | None, new: Item | None, twice: int) -> None:
        sizes = [item_size(image) for image in (old, new) if image is not None]
        self.usage.write_units += twice * max(ceil(max(sizes, default=1) / WRITE_UNIT), 1)
        if old == new:
            return
        self.usage.index_units += twice * _index_units(old, new)
        self._sequence += 1
        images = {name: image for name, image in (("OldImage", old), ("NewImage", new)) if image is not None}
        self.stream.append(
            {
                "eventID": str(self._sequence),
                "eventName": "INSERT" if old is None else "REMOVE" if new is None else "MODIFY",
                "eventSource": "aws:dynamodb",
                "dynamodb": {
                    "Keys": {keys.PK: {"S": key[0]}, keys.SK: {"S": key[1]}},
                    "SequenceNumber": str(self._sequence),
                    "StreamViewType": "NEW_AND_OLD_IMAGES",
                    **images,
                },
            }
        )

    def _images(self, touched: Iterable[Key]) -> dict[Key, Item]:
        expected = list(dict.fromkeys(touched))
        images: dict[Key, Item] = {}
        for pk, sk in expected:
            key: Any = {keys.PK: {"S": pk}, keys.SK: {"S": sk}}
            answer = self.client.get_item(TableName=self.table, Key=key, ConsistentRead=True)
            if "Item" in answer:
                images[pk, sk] = answer["Item"]
        return images

    def _read_units(self, operation: str, arguments: Mapping[str, Any], answer: Any) -> float:
        match operation:
            case "get_item":
                return _read_units_of([answer.get("Item", {})])
            case "batch_get_item":
                requested = sum(len(expected["Keys"]) for expected in arguments["RequestItems"].values())
                result = [item for items in answer["Responses"].values() for item in items]
                return _read_units_of(result) + requested - len(result)
            case "scan":
                return max(ceil(sum(item_size(item) for item in answer["Items"]) / READ_UNIT), 1) / 2
            case "query":
                # Items that a projection or a filter removes are read, and billed, all the same.
                # No placeholder of a name is in the condition on the keys.
                parts = ("ProjectionExpression", "FilterExpression", "Select", "ExpressionAttributeNames")
                whole = {name: value for name, value in arguments.items() if name not in parts}
                read = sum(item_size(item) for item in self.client.query(**whole)["Items"])
                units = max(ceil(read / READ_UNIT), 1)
                return units if arguments.get("ConsistentRead") else units / 2
        raise ValueError(f"no units are known for {operation}")


def _read_units_of(items: Iterable[Item]) -> int:
    return sum(max(ceil(item_size(item) / READ_UNIT), 1) for item in items)


def _index_units(old: Item | None, new: Item | None) -> int:
    """Return the write's units in the indexes, which hold keys alone: entries under 1 KB, unless ids are long."""
    return sum(_units_of_index(old, new, index) for index in _INDEXES)


def _units_of_index(old: Item | None, new: Item | None, index: tuple[str, str]) -> int:
    entries = [_index_entry(image, index) for image in (old, new)]
    was, is_now = entries
    if was == is_now:
        return 0
    moved = was is not None and is_now is not None
    same_key = moved and old is not None and new is not None and all(old[name] == new[name] for name in index)
    units = [ceil(item_size(entry) / WRITE_UNIT) for entry in entries if entry is not None]
    return max(units) if same_key else sum(units)


def _index_entry(image: Item | None, index: tuple[str, str]) -> Item | None:
    if image is None or any(name not in image for name in index):
        return None
    return {name: image[name] for name in (keys.PK, keys.SK, *index)}


def _touched(operation: str, arguments: Mapping[str, Any]) -> Iterable[Key]:
    """Return the keys that a write names, in order."""
    match operation:
        case "put_item":
            yield _key(arguments["Item"])
        case "update_item" | "delete_item":
            yield _key(arguments["Key"])
        case "batch_write_item":
            for requests in arguments["RequestItems"].values():
                for request in requests:
                    yield _key(request["PutRequest"]["Item"])
        case "transact_write_items":
            for action in arguments["TransactItems"]:
                yield _key(action["Update"]["Key"])
        case "batch_execute_statement":
            for statement in arguments["Statements"]:
                yield _stated_key(statement["Statement"], statement["Parameters"])


def _stated_key(text: str, parameters: list[Any]) -> Key:
    if text.startswith("INSERT"):
        return _key(dict(zip(_INSERTED.findall(text), parameters, strict=True)))
    first = text.partition(f' WHERE "{keys.PK}" = ?')[0].count("?")
    return parameters[first]["S"], parameters[first + 1]["S"]


def _key(item: Item) -> Key:
    return item[keys.PK]["S"], item[keys.SK]["S"]
