"""Redrive of the stream's records in the bucket of failures: each object is sent to its function, then deleted.

There are two kinds of objects, of one form: batches that grew too old, as Lambda stores them, and single records that a
function could not process. Both hold the records whole, as the text of an event under ``payload``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_RECORDS_A_CALL: Final = 100
_BYTES_A_CALL: Final = 5 * 1024 * 1024
"""A synchronous call takes 6 MB."""


class CannotRedriveError(Exception):
    """An object that stays in its bucket; the error's text is the reason."""


@dataclass(frozen=True, slots=True)
class StoredRecords:
    """Records of one object with its whole content, and the folder name of the function that they are for."""

    content: Mapping[str, Any]
    function: str
    records: Sequence[dict[str, Any]]

    @property
    def position(self) -> int:
        """Position of the first record in the stream."""
        return int(self.records[0]["dynamodb"]["SequenceNumber"])


class RecordsRedrive:
    """Redrive of the records in one bucket.

    Parameters
    ----------
    s3, functions
        boto3 clients of S3 and Lambda.
    function_names
        Names of the functions, by their folders.
    """

    def __init__(self, s3: Any, functions: Any, bucket: str, function_names: Mapping[str, str]) -> None:
        self._s3 = s3
        self._functions = functions
        self._bucket = bucket
        self._function_names = function_names
        self._notes: list[str] = []

    def run(self) -> tuple[int, int, list[str]]:
        """Redrive the objects that are in the bucket at the beginning, in the stream's order.

        Returns
        -------
        int, int, list
            The number of objects at the beginning, the number of those that were redriven and so deleted, and the
            reasons why others remain.

        Raises
        ------
        BotoCoreError, ClientError
            If a call to AWS fails.
        """
        object_keys = list(self._object_keys())
        redriven = 0
        for key in self._in_order(object_keys):
            try:
                redriven += self._redrive(key)
            except CannotRedriveError as error:
                self._notes.append(str(error))
        return len(object_keys), redriven, self._notes

    def _redrive(self, key: str) -> bool:
        """Send an object's records, and delete it; return False if some failed, which alone stay in the object."""
        stored = self._read(key)
        failed = self._send(stored)
        if not failed:
            self._s3.delete_object(Bucket=self._bucket, Key=key)
            return True
        self._notes.append(f"{stored.function} reported {len(failed)} of {len(stored.records)} records as failed")
        if len(failed) < len(stored.records):
            content = {**stored.content, "payload": json.dumps({"Records": failed})}
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=json.dumps(content).encode())
        return False

    def _object_keys(self) -> Iterator[str]:
        request: dict[str, Any] = {"Bucket": self._bucket}
        while True:
            page = self._s3.list_objects_v2(**request)
            yield from (item["Key"] for item in page.get("Contents", []))
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def _in_order(self, object_keys: Sequence[str]) -> list[str]:
        """Return the keys of the objects that can be read, in the order of their first records."""
        positions: dict[str, int] = {}
        for key in object_keys:
            try:
                positions[key] = self._read(key).position
            except CannotRedriveError as error:
                self._notes.append(str(error))
        return sorted(positions, key=positions.__getitem__)

    def _read(self, key: str) -> StoredRecords:
        """Read an object.

        Raises
        ------
        CannotRedriveError
            If it does not hold records for a function of the stack.
        """
        try:
            content = json.loads(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read())
            payload = content["payload"]
            records = (json.loads(payload) if isinstance(payload, str) else payload)["Records"]
            stored = StoredRecords(content, self._function_of(content), records)
            stored.position  # noqa: B018 - raises if the records are not a stream's
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise CannotRedriveError(f"{key} does not hold records of the stream") from error
        return stored

    def _function_of(self, content: Mapping[str, Any]) -> str:
        if "function" in content:
            names = {content["function"]} & self._function_names.keys()
        else:
            physical_name = content["requestContext"]["functionArn"].split(":function:")[1].partition(":")[0]
            names = {name for name, other in self._function_names.items() if other == physical_name}
        [name] = names
        return str(name)

    def _send(self, stored: StoredRecords) -> list[dict[str, Any]]:
        """Send records to their function; return those that it reports as failed.

        Raises
        ------
        CannotRedriveError
            If the function itself fails.
        """
        failed: list[dict[str, Any]] = []
        for records in _calls(stored.records):
            event = {"Records": records, "redrive": True}
            response = self._functions.invoke(
                FunctionName=self._function_names[stored.function], Payload=json.dumps(event).encode()
            )
            result = json.loads(response["Payload"].read() or b"null")
            if "FunctionError" in response:
                raise CannotRedriveError(f"{stored.function} failed: {result.get('errorMessage', result)}")
            numbers = {failure["itemIdentifier"] for failure in (result or {}).get("batchItemFailures", [])}
            failed += [record for record in records if record["dynamodb"]["SequenceNumber"] in numbers]
        return failed


def _calls(records: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Split records into calls of a size that Lambda takes."""
    call: list[dict[str, Any]] = []
    size = 0
    for record in records:
        length = len(json.dumps(record))
        if call and (len(call) == _RECORDS_A_CALL or size + length > _BYTES_A_CALL):
            yield call
            call, size = [], 0
        call.append(record)
        size += length
    yield call
