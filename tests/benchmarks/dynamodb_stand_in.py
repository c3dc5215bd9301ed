"""DynamoDB stand-in for measurements: a process of its own with items in memory and a fixed time per call.

It is no emulator. It has the few operations that a report and a sweep over all tasks need, and refuses all others. It
evaluates conditions and updates, so a measurement covers the real path with real verdicts; but nothing in it throttles,
contends or varies.
Every call is answered `service_ms` after its arrival, whatever its real cost, and any number of calls are served in
parallel, as DynamoDB serves them.
"""

import asyncio
import contextlib
import operator
import os
import re
import subprocess
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from tests.model_checking import expressions

ROOT: Final = Path(__file__).resolve().parents[2]
HOST: Final = "127.0.0.1"

Item = dict[str, Any]
Key = tuple[str, str]
INDEX_KEYS: Final = ("pk", "sk", "listKey", "listSort")
_ITEMS_A_PAGE: Final = 1_500
"""Tasks in a page of 1 MB."""

_COMPARE: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "=": operator.eq,
    "<": operator.lt,
    ">=": operator.ge,
}
_STATEMENT: Final = re.compile(
    r'UPDATE "\w+"(?P<sets>(?: SET "\w+" = \?)*)(?P<removes>(?: REMOVE "\w+")*)'
    r' WHERE "pk" = \? AND "sk" = \?(?P<conditions>(?: AND "\w+" (?:=|<|>=) \?)*) RETURNING ALL NEW \*'
)
_NAME: Final = re.compile(r'"(\w+)"')
_STATED: Final = re.compile(r'"(\w+)" (=|<|>=) \?')


class RefusedError(Exception):
    """Call, or form of a call, that this stand-in does not support."""


class Write(NamedTuple):
    """Conditional update in PartiQL."""

    sets: Mapping[str, Any]
    removes: tuple[str, ...]
    conditions: tuple[tuple[str, str, Any], ...]


class _Form(NamedTuple):
    """Text of an update without its values."""

    sets: tuple[tuple[str, str], ...]
    removes: tuple[str, ...]
    conditions: tuple[tuple[str, str, str], ...]


@cache
def _statement(text: str) -> _Form:
    result = _STATEMENT.fullmatch(text)
    if result is None:
        raise RefusedError(text)
    return _Form(
        tuple((name, "") for name in _NAME.findall(result["sets"])),
        tuple(_NAME.findall(result["removes"])),
        tuple((name, comparison, "") for name, comparison in _STATED.findall(result["conditions"])),
    )


class Store:
    """Items, and the effect of calls on them. Items are replaced, never changed."""

    def __init__(self) -> None:
        self._items: dict[Key, Item] = {}
        # Sort keys by partition, in order, until an item is added to it
        self._sorted: dict[str, list[str]] = {}

    def answer(self, operation: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer one call.

        Returns
        -------
        int, dict
            The HTTP status and the body.
        """
        answers = {
            "BatchExecuteStatement": self._execute,
            "BatchGetItem": self._get_batch,
            "BatchWriteItem": self._put_batch,
            "DeleteItem": self._delete,
            "GetItem": self._get,
            "PutItem": self._put,
            "Query": self._query,
            "UpdateItem": self._update,
        }
        try:
            return answers[operation](request)
        except (KeyError, ValueError, RefusedError) as error:
            return 400, {"__type": "com.amazon.coral.validate#ValidationException", "message": f"no such call: {error}"}

    def _get(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        item = self._items.get(_key(request["Key"]))
        return 200, {} if item is None else {"Item": item}

    def _get_batch(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        ((table, expected),) = request["RequestItems"].items()
        result = [self._items[key] for key in map(_key, expected["Keys"]) if key in self._items]
        return 200, {"Responses": {table: result}, "UnprocessedKeys": {}}

    def _count(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Count the items of a partition whose sort keys begin with a prefix."""
        if request.get("Select") != "COUNT":
            raise RefusedError("Query")
        values = request["ExpressionAttributeValues"]
        pk, prefix = values[":pk"]["S"], values[":prefix"]["S"]
        count = sum(key[0] == pk and key[1].startswith(prefix) for key in self._items)
        return 200, {"Count": min(count, request["Limit"])}

    def _put_batch(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        ((_, puts),) = request["RequestItems"].items()
        for put in puts:
            item = put["PutRequest"]["Item"]
            self._store(_key(item), item)
        return 200, {"UnprocessedItems": {}}

    def _delete(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self._items.pop(_key(request["Key"]), None)
        return 200, {}

    def _put(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        key = _key(request["Item"])
        old = self._items.get(key)
        if not _condition_holds(request, old or {}):
            return _condition_failed(request, old)
        self._store(key, request["Item"])
        return 200, {}

    def _update(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        key = _key(request["Key"])
        old = self._items.get(key)
        if not _condition_holds(request, old or {}):
            return _condition_failed(request, old)
        new = expressions.update(request["UpdateExpression"]).apply(old or request["Key"], _bindings(request))
        self._store(key, new)
        return 200, {"Attributes": new} if request.get("ReturnValues") == "ALL_NEW" else {}

    def _store(self, key: Key, item: Item) -> None:
        if key not in self._items:
            self._sorted.pop(key[0], None)
        self._items[key] = item

    def _query(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer a query of one partition by a prefix, or of one list of the index, page by page."""
        bound = _bindings(request)
        holds = expressions.condition(request["KeyConditionExpression"])
        if "IndexName" in request:
            page = [item for item in self._items.values() if "listSort" in item and holds(item, bound)]
            page.sort(key=lambda item: item["listSort"]["S"])
            following = self._after(request, [item["listSort"]["S"] for item in page], "listSort")
            page = page[following : following + request.get("Limit", len(page))]
            return 200, {"Items": [{name: item[name] for name in INDEX_KEYS} for item in page], "Count": len(page)}
        pk = request["ExpressionAttributeValues"][":pk"]["S"]
        sort_keys = self._sort_keys(pk)
        first = self._after(request, sort_keys, "sk")
        if "ExclusiveStartKey" not in request:
            first = bisect_left(sort_keys, request["ExpressionAttributeValues"][":prefix"]["S"])
        limit = request.get("Limit", _ITEMS_A_PAGE)
        items = [self._items[pk, sk] for sk in sort_keys[first : first + limit]]
        items = [item for item in items if holds(item, bound)]
        answer: dict[str, Any] = {"Items": items, "Count": len(items)}
        if len(items) == limit:
            answer["LastEvaluatedKey"] = {name: items[-1][name] for name in ("pk", "sk")}
        return 200, answer

    def _after(self, request: dict[str, Any], sort_keys: list[str], name: str) -> int:
        start = request.get("ExclusiveStartKey")
        return 0 if start is None else bisect_right(sort_keys, start[name]["S"])

    def _sort_keys(self, pk: str) -> list[str]:
        if pk not in self._sorted:
            self._sorted[pk] = sorted(sk for of, sk in self._items if of == pk)
        return self._sorted[pk]

    def _execute(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        responses = []
        for statement in request["Statements"]:
            form = _statement(statement["Statement"])
            initial = iter(statement["Parameters"])
            sets = {name: next(initial) for name, _ in form.sets}
            pk, sk = next(initial)["S"], next(initial)["S"]
            conditions = tuple((name, comparison, next(initial)) for name, comparison, _ in form.conditions)
            succeeded, item = self._write((pk, sk), Write(sets, form.removes, conditions))
            result = {} if item is None else {"Item": item}
            refusal = {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}
            responses.append({"TableName": "ledger", **(result if succeeded else {"Error": refusal | result})})
        return 200, {"Responses": responses}

    def _write(self, key: Key, write: Write) -> tuple[bool, Item | None]:
        """Update an item if it exists and its conditions hold; return the result, and the item afterwards."""
        old = self._items.get(key)
        if old is None or not all(
            _COMPARE[comparison](int(old[name]["N"]), int(value["N"])) for name, comparison, value in write.conditions
        ):
            return False, old
        stored = {name: value for name, value in old.items() if name not in write.removes}
        new = stored | dict(write.sets)
        self._items[key] = new
        return True, new


def _bindings(request: Mapping[str, Any]) -> expressions.Bindings:
    return expressions.Bindings(request.get("ExpressionAttributeNames", {}), request["ExpressionAttributeValues"])


def _condition_holds(request: Mapping[str, Any], old: Item) -> bool:
    text = request.get("ConditionExpression")
    return text is None or expressions.condition(text)(old, _bindings(request))


def _condition_failed(request: Mapping[str, Any], old: Item | None) -> tuple[int, dict[str, Any]]:
    error: dict[str, Any] = {"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}
    if old is not None and request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
        error["Item"] = old
    return 400, error | {"message": "The conditional request failed"}


def _key(item: Mapping[str, Any]) -> Key:
    return item["pk"]["S"], item["sk"]["S"]


class _Connection(asyncio.Protocol):
    """One connection of a client's pool: one call after the other."""

    def __init__(self, store: Store, service_ms: float) -> None:
        self._store = store
        self._service_seconds = service_ms / 1000
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, result, body = self._received.partition(b"\r\n\r\n")
        if not result:
            return
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        if len(body) < int(headers[b"content-length"]):
            if headers.get(b"expect") and not body:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self._received = b""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._service_seconds
        operation = headers[b"x-amz-target"].decode().rpartition(".")[2]
        status, answer = self._store.answer(operation, from_json(body))
        text = to_json(answer)
        reply = (
            f"HTTP/1.1 {status} OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {len(text)}\r\n\r\n"
        )
        loop.call_at(due, self._transport.write, reply.encode() + text)


async def _serve(service_ms: float) -> None:
    store = Store()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(store, service_ms), HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - how the parent learns the port
    # It ends with its parent, also with one that was killed: then this end of the pipe is closed.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def running(service_ms: float) -> Iterator[str]:
    """Run the stand-in until the block ends; yield its URL.

    Parameters
    ----------
    service_ms
        Time of every call, from its arrival to its response; 0 for no wait at all.
    """
    command = [sys.executable, "-m", "tests.benchmarks.dynamodb_stand_in", str(service_ms)]
    stored = {"PATH": os.environ["PATH"]}
    with subprocess.Popen(  # noqa: S603 - this very module
        command, cwd=ROOT, env=stored, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the stand-in has no pipes")
        try:
            yield f"http://{HOST}:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
