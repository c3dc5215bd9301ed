"""DynamoDB table as a value: every call is a function from a table to a response and the next table.

So a moment can be stored and restored at no cost, and two orders of the same calls can be compared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tasklatch.dynamodb import keys
from tests.model_checking.expressions import Bindings, Item, condition, statement, update

Key = tuple[str, str]
Table = Mapping[Key, Item]
Request = Mapping[str, Any]
INDEXES: Final = {
    keys.LISTS_INDEX: (keys.LIST_KEY, keys.LIST_SORT),
    keys.DUE_INDEX: (keys.DUE_KEY, keys.DUE_SORT),
    keys.WORK_INDEX: (keys.WORK_KEY, keys.WORK_SORT),
}
"""Partition key and sort key of each index, which holds keys alone."""


@dataclass(frozen=True)
class Served:
    """Result of a call: the next table, and the response; or the error's code and its item."""

    table: Table
    answer: Mapping[str, Any]
    error: str | None = None


def key_of(item: Mapping[str, Any]) -> Key:
    return item[keys.PK]["S"], item[keys.SK]["S"]


def _bindings(request: Request) -> Bindings:
    return Bindings(request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {}))


def _holds(request: Request, item: Item | None) -> bool:
    text = request.get("ConditionExpression")
    return text is None or condition(text)(item or {}, _bindings(request))


def _refused(table: Table, request: Request, item: Item | None, code: str) -> Served:
    messages = item is not None and request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
    return Served(table, {"Item": item} if messages else {}, code)


def _get_item(table: Table, request: Request) -> Served:
    item = table.get(key_of(request["Key"]))
    return Served(table, {"Item": item} if item is not None else {})


def _put_item(table: Table, request: Request) -> Served:
    key = key_of(request["Item"])
    if not _holds(request, table.get(key)):
        return _refused(table, request, table.get(key), "ConditionalCheckFailedException")
    return Served({**table, key: request["Item"]}, {})


def _delete_item(table: Table, request: Request) -> Served:
    key = key_of(request["Key"])
    item = table.get(key)
    if not _holds(request, item):
        return _refused(table, request, item, "ConditionalCheckFailedException")
    messages = item is not None and request.get("ReturnValues") == "ALL_OLD"
    return Served(
        {name: stored for name, stored in table.items() if name != key}, {"Attributes": item} if messages else {}
    )


def _update_item(table: Table, request: Request) -> Served:
    key = key_of(request["Key"])
    item = table.get(key)
    if not _holds(request, item):
        return _refused(table, request, item, "ConditionalCheckFailedException")
    before = item if item is not None else request["Key"]
    after = update(request["UpdateExpression"]).apply(before, _bindings(request))
    shown = {"ALL_NEW": after, "ALL_OLD": item}.get(request.get("ReturnValues", "NONE"))
    return Served({**table, key: after}, {"Attributes": shown} if shown is not None else {})


def _execute_statement(table: Table, request: Request) -> Served:
    """Serve one statement of a batch."""
    parsed = statement(request["Statement"], request.get("Parameters", []))
    if parsed.put is not None:
        if key_of(parsed.put) in table:
            return Served(table, {}, "DuplicateItem")
        return Served({**table, key_of(parsed.put): parsed.put}, {})
    served = _update_item(
        table,
        {
            "Key": parsed.key,
            "UpdateExpression": parsed.update_text,
            "ConditionExpression": parsed.condition_text,
            "ExpressionAttributeNames": parsed.names,
            "ExpressionAttributeValues": parsed.values,
            "ReturnValues": "ALL_NEW" if parsed.returns_new else "NONE",
            "ReturnValuesOnConditionCheckFailure": request.get("ReturnValuesOnConditionCheckFailure", "NONE"),
        },
    )
    if served.error is not None:
        return Served(table, served.answer, "ConditionalCheckFailed")
    return Served(served.table, {"Item": served.answer["Attributes"]} if served.answer else {})


def _transact_write_items(table: Table, request: Request) -> Served:
    updates = []
    for action in request["TransactItems"]:
        ((kind, item),) = action.items()
        if kind != "Update":
            raise ValueError(f"not understood: {kind}")
        updates.append(item)
    # All conditions are checked before anything is written; no item may be named twice.
    if len({key_of(item["Key"]) for item in updates}) < len(updates):
        return Served(table, {}, "ValidationException")
    results = [_update_item(table, item) for item in updates]
    if any(served.error is not None for served in results):
        codes = ["None" if served.error is None else "ConditionalCheckFailed" for served in results]
        reasons = [{"Code": code} for code in codes]
        return Served(table, {"CancellationReasons": reasons}, "TransactionCanceledException")
    written = {key_of(item["Key"]): served for item, served in zip(updates, results, strict=True)}
    return Served({**table, **{key: served.table[key] for key, served in written.items()}}, {})


def _query(table: Table, request: Request) -> Served:
    expected = condition(request["KeyConditionExpression"])
    sort = INDEXES[request["IndexName"]][1] if "IndexName" in request else keys.SK
    result = [item for item in table.values() if (sort in item) and expected(item, _bindings(request))]
    return _page(table, request, result, (sort, keys.SK, keys.PK))


def _scan(table: Table, request: Request) -> Served:
    result = [item for item in table.values() if "IndexName" not in request or keys.LIST_SORT in item]
    return _page(table, request, result, (keys.PK, keys.SK))


def _page(table: Table, request: Request, result: list[Item], order: tuple[str, ...]) -> Served:
    def position(item: Item) -> list[bytes]:
        return [item[name]["S"].encode() for name in order]

    start = request.get("ExclusiveStartKey")
    backwards = not request.get("ScanIndexForward", True)
    if start is not None:
        result = [
            item
            for item in result
            if (position(item) < position(start) if backwards else position(item) > position(start))
        ]
    result.sort(key=position, reverse=backwards)
    limit = request.get("Limit", len(result))
    page, more = result[:limit], result[limit:]
    answer: dict[str, Any] = {"Count": len(page)}
    if request.get("Select") != "COUNT":
        answer["Items"] = [_projected(item, request) for item in page]
    if more:
        names = (keys.PK, keys.SK, *INDEXES.get(request.get("IndexName", ""), ()))
        answer["LastEvaluatedKey"] = {name: page[-1][name] for name in names}
    return Served(table, answer)


def _projected(item: Item, request: Request) -> Item:
    names = INDEXES.get(request.get("IndexName", ""))
    stored = {name: item[name] for name in (keys.PK, keys.SK, *names)} if names else item
    text = request.get("ProjectionExpression")
    if text is None:
        return stored
    bound = _bindings(request)
    expected = {bound.attribute(word.strip()) for word in text.split(",")}
    return {name: value for name, value in stored.items() if name in expected}


_CALLS: Final[Mapping[str, Callable[[Table, Request], Served]]] = {
    "get_item": _get_item,
    "put_item": _put_item,
    "delete_item": _delete_item,
    "update_item": _update_item,
    "execute_statement": _execute_statement,
    "transact_write_items": _transact_write_items,
    "query": _query,
    "scan": _scan,
}
READS: Final = frozenset({"get_item", "query", "scan"})


def serve(table: Table, operation: str, request: Request) -> Served:
    """Serve one call that takes effect at one moment: a batch is several of them (see `parts`)."""
    return _CALLS[operation](table, request)


Part = tuple[str, Request]


def parts(operation: str, request: Request) -> list[Part]:
    """Split a call into the parts that take effect at separate moments: a batch is not atomic."""
    if operation == "batch_get_item":
        return [("get_item", {"Key": key}) for expected in request["RequestItems"].values() for key in expected["Keys"]]
    if operation == "batch_write_item":
        return [
            ("put_item", write["PutRequest"]) if "PutRequest" in write else ("delete_item", write["DeleteRequest"])
            for writes in request["RequestItems"].values()
            for write in writes
        ]
    if operation == "batch_execute_statement":
        return [("execute_statement", statement) for statement in request["Statements"]]
    return [(operation, request)]


def whole(operation: str, request: Request, served: list[tuple[Mapping[str, Any], str | None]]) -> dict[str, Any]:
    """Return the response to a batch, from the responses to its parts (each with its error's code, if it has one)."""
    if operation == "batch_get_item":
        (table,) = request["RequestItems"]
        result = [answer["Item"] for answer, _ in served if "Item" in answer]
        return {"Responses": {table: sorted(result, key=key_of)}, "UnprocessedKeys": {}}
    if operation == "batch_write_item":
        return {"UnprocessedItems": {}}
    if operation == "batch_execute_statement":
        return {
            "Responses": [
                dict(answer) if code is None else {"Error": {"Code": code, "Message": "the condition failed", **answer}}
                for answer, code in served
            ]
        }
    if operation == "query":
        return {"Items": [answer["Item"] for answer, _ in served if "Item" in answer]}
    ((answer, _),) = served
    return dict(answer)
