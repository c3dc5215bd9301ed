"""Records of the stream that fail: by themselves, or because they grew too old; and their redrive from the bucket."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from local.redrive_records import RecordsRedrive
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item
from tasklatch.notifications.stream import parse_change
from tests.fault_injection.deployment import is_delivered
from tests.fault_injection.faults import KilledError
from tests.fault_injection.records import PromiseBrokenError

FOLLOWERS: Final = ("notifier", "retry_scheduler")
_LAMBDA: Final = "arn:aws:lambda:us-east-1:000000000000:function:"

Records = list[dict[str, Any]]


def unreadable_item(name: str) -> Item:
    """Return an item that both functions that follow the stream take for a failed task, and that neither can read."""
    return {
        keys.PK: {"S": keys.execution_pk("default", "odd")},
        keys.SK: {"S": keys.task_sk(name)},
        "taskId": {"S": name},
        "status": {"S": "FAILED"},
        "version": {"N": "1"},
    }


def stored_batch(function: str, records: Records) -> bytes:
    """Return the object that Lambda makes of a batch that grew too old."""
    context = {"functionArn": f"{_LAMBDA}{function}", "condition": "RecordAgeExceeded"}
    return json.dumps({"requestContext": context, "payload": json.dumps({"Records": records})}).encode()


def redrive(bucket: dict[str, bytes], invoke: Callable[[str, Any], Any], most: int) -> None:
    """Run `make redrive` until no object is left but those of records that nobody can read.

    Parameters
    ----------
    invoke
        Invokes a function with an event; any exception is an error of the function.

    Raises
    ------
    PromiseBrokenError
        If objects of readable records are left after several runs.
    """
    names = {name: name for name in FOLLOWERS}
    for _ in range(most):
        RecordsRedrive(_Bucket(bucket), _Functions(invoke), "failures", names).run()
        if not any(readable(record) for content in bucket.values() for record in records_in(content)):
            return
    raise PromiseBrokenError("the redrive left records that can be processed")


def records_in(content: bytes) -> Records:
    """Return the records in an object of the bucket."""
    records: Records = json.loads(json.loads(content)["payload"])["Records"]
    return records


def readable(record: Mapping[str, Any]) -> bool:
    """Return True if a record can be parsed."""
    try:
        parse_change(record)
    except (KeyError, TypeError, ValueError):
        return False
    return True


def each_unreadable_record_is_kept_once(stream: Records, bucket: Mapping[str, bytes]) -> Iterator[str]:
    """Check that of each function the bucket holds the records that it cannot read, whole and once, and no other."""
    for function in FOLLOWERS:
        stored = [record for content in bucket.values() if _is_for(content, function) for record in records_in(content)]
        expected = [record for record in stream if is_delivered(record, function) and not readable(record)]
        if sorted(map(_text, stored)) != sorted(map(_text, expected)):
            yield f"of {function} the bucket has {len(stored)} records, not the {len(expected)} unreadable ones"


def _is_for(content: bytes, function: str) -> bool:
    parsed = json.loads(content)
    return function in (parsed.get("function"), parsed.get("requestContext", {}).get("functionArn", "").split(":")[-1])


def _text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True)


class _Bucket:
    """S3 client over the objects of one bucket."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self._objects = objects

    def list_objects_v2(self, **_: Any) -> dict[str, Any]:
        return {"Contents": [{"Key": key} for key in sorted(self._objects)], "IsTruncated": False}

    def get_object(self, **request: Any) -> dict[str, Any]:
        return {"Body": io.BytesIO(self._objects[request["Key"]])}

    def put_object(self, **request: Any) -> None:
        self._objects[request["Key"]] = request["Body"]

    def delete_object(self, **request: Any) -> None:
        del self._objects[request["Key"]]


class _Functions:
    """Lambda client over the handlers of one process."""

    def __init__(self, invoke: Callable[[str, Any], Any]) -> None:
        self._invoke = invoke

    def invoke(self, **request: Any) -> dict[str, Any]:
        event = json.loads(request["Payload"])
        try:
            answer = self._invoke(request["FunctionName"], event)
        except (Exception, KilledError) as error:  # noqa: BLE001 - whatever ends it is an error of the function
            failure = json.dumps({"errorMessage": repr(error)}).encode()
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(failure)}
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}
