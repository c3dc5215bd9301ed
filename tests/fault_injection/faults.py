"""Faults between a function and AWS: each kind once, as it looks on the wire."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from tests.fault_injection.emulated_aws import Call, Served

Serve = Callable[[Call], Served]


class KilledError(BaseException):
    """End of the function's process in the middle: no code in it can catch this."""


class Fault(StrEnum):
    """Kind of fault; its name includes AWS's action before it."""

    THROTTLED = "throttled"
    CONFLICT = "conflict"
    SERVER_ERROR = "server error, nothing done"
    SERVER_ERROR_AFTER = "server error, though done"
    UNREACHABLE = "unreachable"
    TIMED_OUT_BEFORE = "time-out, nothing done"
    TIMED_OUT_AFTER = "time-out, though done"
    ANSWER_LOST = "answer lost, though done"
    FIRST_PART_REFUSED = "first part refused"
    LAST_PART_REFUSED = "last part refused"
    FIRST_PART_CONFLICT = "first part in conflict"
    NO_ITEM = "answer without the item"
    KILLED_BEFORE = "killed before the call"
    KILLED_AFTER = "killed after the call"
    OUTAGE = "nothing goes through any more"
    OUTAGE_AFTER = "done, answer lost, then nothing goes through any more"


LASTING: Final = frozenset({Fault.OUTAGE, Fault.OUTAGE_AFTER})
"""Faults that last until the invocation gives up."""

ALIKE: Final = (
    (Fault.THROTTLED, Fault.SERVER_ERROR, Fault.UNREACHABLE, Fault.TIMED_OUT_BEFORE),
    (Fault.SERVER_ERROR_AFTER, Fault.TIMED_OUT_AFTER, Fault.ANSWER_LOST),
)
"""Faults that have the same effect and that a caller cannot distinguish."""

LATENCY_MS: Final[Mapping[Fault, int]] = {
    Fault.TIMED_OUT_BEFORE: 3_000,
    Fault.TIMED_OUT_AFTER: 3_000,
    Fault.UNREACHABLE: 1_000,
}
"""Time that a fault takes: the read and connect time-outs of the shipped clients."""

_DONE: Final = frozenset(
    {
        Fault.SERVER_ERROR_AFTER,
        Fault.TIMED_OUT_AFTER,
        Fault.ANSWER_LOST,
        Fault.KILLED_AFTER,
        Fault.OUTAGE_AFTER,
    }
)
_THROTTLE: Final[Mapping[str, tuple[int, str]]] = {
    "dynamodb": (400, "ProvisionedThroughputExceededException"),
    "eventbridge": (400, "ThrottlingException"),
    "sqs": (400, "RequestThrottled"),
    "scheduler": (429, "ThrottlingException"),
    "apigatewaymanagementapi": (429, "LimitExceededException"),
}
_SERVER_ERROR: Final[Mapping[str, tuple[int, str]]] = {
    "dynamodb": (500, "InternalServerError"),
    "eventbridge": (500, "InternalException"),
    "sqs": (503, "ServiceUnavailable"),
    "scheduler": (500, "InternalServerException"),
    "apigatewaymanagementapi": (500, "InternalServerError"),
}
_EVERYWHERE: Final = (
    Fault.THROTTLED,
    Fault.SERVER_ERROR,
    Fault.SERVER_ERROR_AFTER,
    Fault.UNREACHABLE,
    Fault.TIMED_OUT_BEFORE,
    Fault.TIMED_OUT_AFTER,
    Fault.ANSWER_LOST,
    Fault.KILLED_BEFORE,
    Fault.KILLED_AFTER,
    Fault.OUTAGE,
    Fault.OUTAGE_AFTER,
)
_CONFLICTING: Final = frozenset({"DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"})


def faults_of(call: Call) -> list[Fault]:
    """Return the kinds of fault that a call can meet."""
    kinds = list(_EVERYWHERE)
    if call.operation in _CONFLICTING:
        kinds.append(Fault.CONFLICT)
    parts = _parts_of(call)
    if parts > 1 or (parts and call.operation in _SINGLE_PARTS):
        kinds += [Fault.FIRST_PART_REFUSED, Fault.LAST_PART_REFUSED][:parts]
    if call.operation == "BatchExecuteStatement":
        kinds.append(Fault.FIRST_PART_CONFLICT)
        if "RETURNING" in call.request["Statements"][0]["Statement"]:
            kinds.append(Fault.NO_ITEM)
    return kinds


def inflict(fault: Fault, call: Call, serve: Serve) -> Served:
    """Apply a fault to a call.

    Raises
    ------
    ReadTimeoutError, ConnectionClosedError, EndpointConnectionError
        As the SDK's connection does.
    KilledError
        Where the function's process ends.
    """
    if fault in _DONE:
        serve(call)
    return _INFLICT[fault](call, serve)


def _refuse(codes: Mapping[str, tuple[int, str]]) -> Callable[[Call, Serve], Served]:
    def refuse(call: Call, _: Serve) -> Served:
        status, code = codes[call.service]
        return error(status, code)

    return refuse


def error(status: int, code: str, **more: Any) -> Served:
    """Return an error in AWS's JSON protocol."""
    messages = {"__type": f"com.amazonaws#{code}", "message": "injected", **more}
    return Served(status, b"", {"x-amzn-errortype": code}).telling(messages)


def _time_out(call: Call, _: Serve) -> Served:
    raise ReadTimeoutError(endpoint_url=call.service)


def _lose(call: Call, _: Serve) -> Served:
    raise ConnectionClosedError(endpoint_url=call.service)


def _refuse_connection(call: Call, _: Serve) -> Served:
    raise EndpointConnectionError(endpoint_url=call.service)


def _kill(_: Call, __: Serve) -> Served:
    raise KilledError


def _conflict(call: Call, _: Serve) -> Served:
    if call.operation == "TransactWriteItems":
        others = [{"Code": "None"} for _ in call.request["TransactItems"][1:]]
        reasons = [{"Code": "TransactionConflict", "Message": "injected"}, *others]
        return error(400, "TransactionCanceledException", CancellationReasons=reasons)
    return error(400, "TransactionConflictException")


def _refuse_part(index: int, code: str) -> Callable[[Call, Serve], Served]:
    def refuse(call: Call, serve: Serve) -> Served:
        return _REFUSE_PART[call.operation](call, serve, index, code)

    return refuse


def _leave_put(call: Call, serve: Serve, index: int, _: str) -> Served:
    ((table, puts),) = call.request["RequestItems"].items()
    left = puts.pop(index)
    served = serve(call.asking({**call.request, "RequestItems": {table: puts}}))
    return served.telling({**served.answer, "UnprocessedItems": {table: [left]}})


def _leave_key(call: Call, serve: Serve, index: int, _: str) -> Served:
    ((table, requested),) = call.request["RequestItems"].items()
    left = requested["Keys"].pop(index)
    served = serve(call.asking({**call.request, "RequestItems": {table: requested}}))
    return served.telling({**served.answer, "UnprocessedKeys": {table: {**requested, "Keys": [left]}}})


def _refuse_statement(call: Call, serve: Serve, index: int, code: str) -> Served:
    statements = call.request["Statements"]
    left = statements.pop(index)
    responses = serve(call.asking({**call.request, "Statements": statements})).answer["Responses"] if statements else []
    refused = {"Error": {"Code": code, "Message": "injected"}, "TableName": left["Statement"].split('"')[1]}
    responses.insert(index if index >= 0 else len(responses), refused)
    return Served(200, b"").telling({"Responses": responses})


def _refuse_event(call: Call, serve: Serve, index: int, _: str) -> Served:
    entries = call.request["Entries"]
    del entries[index]
    results = serve(call.asking({**call.request, "Entries": entries})).answer["Entries"] if entries else []
    results.insert(index if index >= 0 else len(results), {"ErrorCode": "ThrottlingException", "ErrorMessage": "no"})
    return Served(200, b"").telling({"FailedEntryCount": 1, "Entries": results})


def _refuse_message(call: Call, serve: Serve, index: int, _: str) -> Served:
    entries = call.request["Entries"]
    left = entries.pop(index)
    taken = serve(call.asking({**call.request, "Entries": entries})).answer["Successful"] if entries else []
    failed = [{"Id": left["Id"], "Code": "InternalError", "SenderFault": False, "Message": "injected"}]
    return Served(200, b"").telling({"Successful": taken, "Failed": failed})


def _without_items(call: Call, serve: Serve) -> Served:
    served = serve(call)
    responses = served.answer["Responses"]
    for response in responses:
        for messages in (response, response.get("Error", {})):
            messages.pop("Item", None)
    return served.telling({"Responses": responses})


def _parts_of(call: Call) -> int:
    """Return the number of parts of a call that can be refused one by one; 0 where there are none."""
    request = call.request if call.operation in _REFUSE_PART else {}
    if "RequestItems" in request:
        ((_, requested),) = request["RequestItems"].items()
        return len(requested["Keys"] if isinstance(requested, dict) else requested)
    return len(request.get("Statements", request.get("Entries", ())))


_SINGLE_PARTS: Final = frozenset({"BatchExecuteStatement", "PutEvents", "SendMessageBatch"})
"""Operations of which also the only part can be refused within a call that succeeds."""

_REFUSE_PART: Final[Mapping[str, Callable[[Call, Serve, int, str], Served]]] = {
    "BatchWriteItem": _leave_put,
    "BatchGetItem": _leave_key,
    "BatchExecuteStatement": _refuse_statement,
    "PutEvents": _refuse_event,
    "SendMessageBatch": _refuse_message,
}

_INFLICT: Final[Mapping[Fault, Callable[[Call, Serve], Served]]] = {
    Fault.THROTTLED: _refuse(_THROTTLE),
    Fault.CONFLICT: _conflict,
    Fault.SERVER_ERROR: _refuse(_SERVER_ERROR),
    Fault.SERVER_ERROR_AFTER: _refuse(_SERVER_ERROR),
    Fault.UNREACHABLE: _refuse_connection,
    Fault.TIMED_OUT_BEFORE: _time_out,
    Fault.TIMED_OUT_AFTER: _time_out,
    Fault.ANSWER_LOST: _lose,
    Fault.FIRST_PART_REFUSED: _refuse_part(0, "ProvisionedThroughputExceeded"),
    Fault.LAST_PART_REFUSED: _refuse_part(-1, "InternalServerError"),
    Fault.FIRST_PART_CONFLICT: _refuse_part(0, "TransactionConflict"),
    Fault.NO_ITEM: _without_items,
    Fault.KILLED_BEFORE: _kill,
    Fault.KILLED_AFTER: _kill,
    Fault.OUTAGE: _refuse(_THROTTLE),
    Fault.OUTAGE_AFTER: _lose,
}
