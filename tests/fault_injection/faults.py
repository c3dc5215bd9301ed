"""Faults between a function and AWS: each kind once, as it looks on the wire."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from tests.fault_injection.emulated_aws import WireRequest, WireResponse

Serve = Callable[[WireRequest], WireResponse]


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
    RESPONSE_LOST = "response lost, though done"
    FIRST_PART_REFUSED = "first part refused"
    LAST_PART_REFUSED = "last part refused"
    FIRST_PART_CONFLICT = "first part in conflict"
    NO_ITEM = "response without the item"
    KILLED_BEFORE = "killed before the call"
    KILLED_AFTER = "killed after the call"
    OUTAGE = "every further call fails"
    OUTAGE_AFTER = "done, response lost, then every further call fails"


LASTING: Final = frozenset({Fault.OUTAGE, Fault.OUTAGE_AFTER})
"""Faults that last until the end of the invocation."""

ALIKE: Final = (
    (Fault.THROTTLED, Fault.SERVER_ERROR, Fault.UNREACHABLE, Fault.TIMED_OUT_BEFORE),
    (Fault.SERVER_ERROR_AFTER, Fault.TIMED_OUT_AFTER, Fault.RESPONSE_LOST),
)
"""Faults that have the same effect and that a caller cannot distinguish."""

_TIMED_OUT: Final = frozenset({Fault.TIMED_OUT_BEFORE, Fault.TIMED_OUT_AFTER})

_DONE: Final = frozenset(
    {
        Fault.SERVER_ERROR_AFTER,
        Fault.TIMED_OUT_AFTER,
        Fault.RESPONSE_LOST,
        Fault.KILLED_AFTER,
        Fault.OUTAGE_AFTER,
    }
)
_THROTTLE: Final[Mapping[str, tuple[int, str]]] = {
    "dynamodb": (400, "ProvisionedThroughputExceededException"),
    "eventbridge": (400, "ThrottlingException"),
    "sqs": (400, "RequestThrottled"),
    "s3": (503, "SlowDown"),
    "scheduler": (429, "ThrottlingException"),
    "apigatewaymanagementapi": (429, "LimitExceededException"),
}
_SERVER_ERROR: Final[Mapping[str, tuple[int, str]]] = {
    "dynamodb": (500, "InternalServerError"),
    "eventbridge": (500, "InternalException"),
    "sqs": (503, "ServiceUnavailable"),
    "s3": (500, "InternalError"),
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
    Fault.RESPONSE_LOST,
    Fault.KILLED_BEFORE,
    Fault.KILLED_AFTER,
    Fault.OUTAGE,
    Fault.OUTAGE_AFTER,
)
_CONFLICTING: Final = frozenset({"DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"})


def latency_ms(fault: Fault, service: str) -> int:
    """Return the time that a fault takes: the read and connect time-outs of the shipped clients."""
    if fault in _TIMED_OUT:
        return 1_000 if service == "apigatewaymanagementapi" else 3_000
    return 1_000 if fault is Fault.UNREACHABLE else 0


def faults_of(call: WireRequest) -> list[Fault]:
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


def inflict(fault: Fault, call: WireRequest, serve: Serve) -> WireResponse:
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


def _refuse(codes: Mapping[str, tuple[int, str]]) -> Callable[[WireRequest, Serve], WireResponse]:
    def refuse(call: WireRequest, _: Serve) -> WireResponse:
        status, code = codes[call.service]
        return error(status, code)

    return refuse


def error(status: int, code: str, **more: Any) -> WireResponse:
    """Return an error in AWS's JSON protocol."""
    messages = {"__type": f"com.amazonaws#{code}", "message": "injected", **more}
    return WireResponse(status, b"", {"x-amzn-errortype": code}).with_body(messages)


def _time_out(call: WireRequest, _: Serve) -> WireResponse:
    raise ReadTimeoutError(endpoint_url=call.service)


def _lose(call: WireRequest, _: Serve) -> WireResponse:
    raise ConnectionClosedError(endpoint_url=call.service)


def _refuse_connection(call: WireRequest, _: Serve) -> WireResponse:
    raise EndpointConnectionError(endpoint_url=call.service)


def _kill(_: WireRequest, __: Serve) -> WireResponse:
    raise KilledError


def _conflict(call: WireRequest, _: Serve) -> WireResponse:
    if call.operation == "TransactWriteItems":
        others = [{"Code": "None"} for _ in call.request["TransactItems"][1:]]
        reasons = [{"Code": "TransactionConflict", "Message": "injected"}, *others]
        return error(400, "TransactionCanceledException", CancellationReasons=reasons)
    return error(400, "TransactionConflictException")


def _refuse_part(index: int, code: str) -> Callable[[WireRequest, Serve], WireResponse]:
    def refuse(call: WireRequest, serve: Serve) -> WireResponse:
        return _REFUSE_PART[call.operation](call, serve, index, code)

    return refuse


def _leave_put(call: WireRequest, serve: Serve, index: int, _: str) -> WireResponse:
    ((table, puts),) = call.request["RequestItems"].items()
    left = puts.pop(index)
    served = serve(call.with_request({**call.request, "RequestItems": {table: puts}}))
    return served.with_body({**served.parsed, "UnprocessedItems": {table: [left]}})


def _leave_key(call: WireRequest, serve: Serve, index: int, _: str) -> WireResponse:
    ((table, requested),) = call.request["RequestItems"].items()
    left = requested["Keys"].pop(index)
    served = serve(call.with_request({**call.request, "RequestItems": {table: requested}}))
    return served.with_body({**served.parsed, "UnprocessedKeys": {table: {**requested, "Keys": [left]}}})


def _serve_rest(call: WireRequest, serve: Serve, name: str, rest: list[Any], results: str) -> list[Any]:
    """Serve the parts of a call that are not refused; return their results."""
    parsed: list[Any] = serve(call.with_request({**call.request, name: rest})).parsed[results] if rest else []
    return parsed


def _refuse_statement(call: WireRequest, serve: Serve, index: int, code: str) -> WireResponse:
    statements = call.request["Statements"]
    left = statements.pop(index)
    responses = (
        serve(call.with_request({**call.request, "Statements": statements})).parsed["Responses"] if statements else []
    )
    refused = {"Error": {"Code": code, "Message": "injected"}, "TableName": left["Statement"].split('"')[1]}
    responses.insert(index if index >= 0 else len(responses), refused)
    return WireResponse(200, b"").with_body({"Responses": responses})


def _refuse_event(call: WireRequest, serve: Serve, index: int, _: str) -> WireResponse:
    entries = call.request["Entries"]
    del entries[index]
    results = _serve_rest(call, serve, "Entries", entries, "Entries")
    results.insert(index if index >= 0 else len(results), {"ErrorCode": "ThrottlingException", "ErrorMessage": "no"})
    return WireResponse(200, b"").with_body({"FailedEntryCount": 1, "Entries": results})


def _refuse_message(call: WireRequest, serve: Serve, index: int, _: str) -> WireResponse:
    entries = call.request["Entries"]
    left = entries.pop(index)
    taken = _serve_rest(call, serve, "Entries", entries, "Successful")
    failed = [{"Id": left["Id"], "Code": "InternalError", "SenderFault": False, "Message": "injected"}]
    return WireResponse(200, b"").with_body({"Successful": taken, "Failed": failed})


def _without_items(call: WireRequest, serve: Serve) -> WireResponse:
    served = serve(call)
    responses = served.parsed["Responses"]
    for response in responses:
        for messages in (response, response.get("Error", {})):
            messages.pop("Item", None)
    return served.with_body({"Responses": responses})


def _parts_of(call: WireRequest) -> int:
    """Return the number of parts of a call that can be refused one by one; 0 where there are none."""
    request = call.request if call.operation in _REFUSE_PART else {}
    if "RequestItems" in request:
        ((_, requested),) = request["RequestItems"].items()
        return len(requested["Keys"] if isinstance(requested, dict) else requested)
    return len(request.get("Statements", request.get("Entries", ())))


_SINGLE_PARTS: Final = frozenset({"BatchExecuteStatement", "PutEvents", "SendMessageBatch"})
"""Operations of which also the only part can be refused within a call that succeeds."""

_REFUSE_PART: Final[Mapping[str, Callable[[WireRequest, Serve, int, str], WireResponse]]] = {
    "BatchWriteItem": _leave_put,
    "BatchGetItem": _leave_key,
    "BatchExecuteStatement": _refuse_statement,
    "PutEvents": _refuse_event,
    "SendMessageBatch": _refuse_message,
}

_INFLICT: Final[Mapping[Fault, Callable[[WireRequest, Serve], WireResponse]]] = {
    Fault.THROTTLED: _refuse(_THROTTLE),
    Fault.CONFLICT: _conflict,
    Fault.SERVER_ERROR: _refuse(_SERVER_ERROR),
    Fault.SERVER_ERROR_AFTER: _refuse(_SERVER_ERROR),
    Fault.UNREACHABLE: _refuse_connection,
    Fault.TIMED_OUT_BEFORE: _time_out,
    Fault.TIMED_OUT_AFTER: _time_out,
    Fault.RESPONSE_LOST: _lose,
    Fault.FIRST_PART_REFUSED: _refuse_part(0, "ProvisionedThroughputExceeded"),
    Fault.LAST_PART_REFUSED: _refuse_part(-1, "InternalServerError"),
    Fault.FIRST_PART_CONFLICT: _refuse_part(0, "TransactionConflict"),
    Fault.NO_ITEM: _without_items,
    Fault.KILLED_BEFORE: _kill,
    Fault.KILLED_AFTER: _kill,
    Fault.OUTAGE: _refuse(_THROTTLE),
    Fault.OUTAGE_AFTER: _lose,
}
