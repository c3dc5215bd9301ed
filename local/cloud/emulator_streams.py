"""Emulator patches of streams: they survive a restart, failed records come again, failed batches are stored."""

import copy
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

from ministack.services import dynamodb, lambda_svc, s3

_STREAMS: Final = ("_stream_records", "_stream_trimmed")
_SEQUENCE: Final = "_stream_seq_counter"
_POSITIONS: Final = "dynamodb_stream_positions"
_REDELIVERIES: Final = 10
"""Redeliveries of a record before it goes to the failure destination."""

_MAX_WAIT_SECONDS: Final = 5.0


class PersistentStreams:
    """Streams and read positions that survive a restart.

    Faults of ministack 1.5: a restart keeps the position of a function in a stream, but not the stream itself, so the
    function waits for as many records as it had read before. And the positions are saved some time after the table:
    the records of a function's writes in between are not delivered again, and a task's history lacks these changes.
    """

    def __init__(self) -> None:
        self._get_state = dynamodb.get_state
        self._load_state = dynamodb.load_persisted_state
        self._get_functions = lambda_svc.get_state
        self._saved_positions: dict[str, Any] = {}

    def install(self) -> None:
        """Patch the emulator."""
        lambda_svc.get_state = self.get_functions
        dynamodb.get_state = self.get_state
        dynamodb.load_persisted_state = self.load_state

    def get_state(self) -> dict[str, Any]:
        """Return the tables and their streams."""
        # Save the positions before the table: a record that is delivered twice does no harm, a lost one does
        self._saved_positions[_POSITIONS] = self._get_functions()[_POSITIONS]
        streams = {name: copy.deepcopy(getattr(dynamodb, name)) for name in (*_STREAMS, _SEQUENCE)}
        return {**self._get_state(), **streams}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the tables and their streams."""
        self._load_state(state)
        for name in _STREAMS:
            getattr(dynamodb, name).update(state.get(name, {}))
        setattr(dynamodb, _SEQUENCE, state.get(_SEQUENCE, 0))

    def get_functions(self) -> dict[str, Any]:
        """Return the functions, with the read positions as of the table's saved state."""
        return {**self._get_functions(), **self._saved_positions}


class PartialBatchFailures:
    """Redelivery of a stream's batch from the first record that its function reports as failed.

    Fault of ministack 1.5: a batch counts as done although its function reports records as failed, as functions do if
    the table is too busy. The changes that depend on these records would be lost for good. With this patch a record
    goes to the failure destination after ten redeliveries.
    """

    def __init__(self) -> None:
        self._execute = lambda_svc._execute_function  # noqa: SLF001 - it has no other place for this

    def install(self) -> None:
        """Patch the emulator."""
        lambda_svc._execute_function = self.execute  # noqa: SLF001

    def execute(self, function: dict[str, Any], event: Any) -> dict[str, Any]:
        """Invoke a function; repeat the call with the rest of the batch until no record is reported as failed."""
        # A mapping's event holds nothing but records; a redrive's says that it is one, and gets the response itself
        records = event["Records"] if isinstance(event, dict) and event.keys() == {"Records"} else []
        result: dict[str, Any] = self._execute(function, event)
        redeliveries = 0
        while (first := _first_failed(records, result)) is not None:
            redeliveries = redeliveries + 1 if first == 0 else 1
            records = records[first:]
            if redeliveries > _REDELIVERIES:
                _send_to_failure_destination(function, records[0], result)
                records, redeliveries = records[1:], 0
            if not records:
                break
            time.sleep(min(redeliveries, _MAX_WAIT_SECONDS))
            result = self._execute(function, {**event, "Records": records})
        return result


class FailuresInBuckets:
    """Failure destinations of stream mappings that are buckets: they get the records whole.

    Fault of ministack 1.5: it knows queues and topics only, so a failed batch is lost if the destination is a bucket.
    """

    def __init__(self) -> None:
        self._send = lambda_svc._send_ddb_stream_failure_record  # noqa: SLF001 - it has no other place for this

    def install(self) -> None:
        """Patch the emulator."""
        lambda_svc._send_ddb_stream_failure_record = self.send  # noqa: SLF001

    def send(
        self,
        mapping: dict[str, Any],
        function: dict[str, Any],
        batch: Sequence[dict[str, Any]],
        stream: str,
        result: dict[str, Any],
        condition: str,
    ) -> None:
        """Send a failed batch to its mapping's failure destination."""
        destination = mapping.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination", "")
        bucket = destination.partition(":s3:::")[2]
        if not bucket:
            self._send(mapping, function, batch, stream, result, condition)
            return
        context = {"functionArn": (function.get("config") or function)["FunctionArn"], "condition": condition}
        content = {"version": "1.0", "requestContext": context, "payload": json.dumps({"Records": list(batch)})}
        at = time.strftime("%Y/%m/%d/%Y-%m-%dT%H.%M.%S", time.gmtime())
        key = f"aws/lambda/{mapping['UUID']}/shardId-00000000000000000000-00000000/{at}-{uuid.uuid4()}"
        s3._put_object(bucket, key, json.dumps(content).encode(), {})  # noqa: SLF001


def _first_failed(records: Sequence[Any], result: dict[str, Any]) -> int | None:
    """Return the index of the first record of a stream that its function reports as failed; None without one."""
    if result.get("error") or not records or records[0].get("eventSource") != "aws:dynamodb":
        return None
    body = result.get("body")
    response = json.loads(body) if isinstance(body, str) and body else body
    failures = (response or {}).get("batchItemFailures") or []
    failed = {failure["itemIdentifier"] for failure in failures}
    numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
    return next((index for index, number in enumerate(numbers) if number in failed), None)


def _send_to_failure_destination(function: dict[str, Any], record: dict[str, Any], result: dict[str, Any]) -> None:
    """Send a record whose redeliveries are exhausted to the failure destination of its mapping."""
    name, stream = (function.get("config") or function)["FunctionName"], record["eventSourceARN"]
    for _, _, mapping in lambda_svc._iter_all_esms():  # noqa: SLF001
        if mapping["FunctionName"] == name and mapping.get("EventSourceArn") == stream:
            reason = "RetryAttemptsExhausted"
            lambda_svc._send_ddb_stream_failure_record(mapping, function, [record], stream, result, reason)  # noqa: SLF001
