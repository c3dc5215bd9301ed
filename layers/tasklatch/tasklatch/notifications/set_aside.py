"""Records of the table's stream that no attempt can process: stored whole, each alone and with its reason."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from tasklatch.runtime.backoff import Backoff

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PREFIX: Final = "records"
"""The keys begin with it and the function's name. Lambda's own, of batches that grew too old, begin with `aws`."""


class SetAsideRecords:
    """Store of the records that one function cannot process.

    A record's key is derived from its content: set aside again, it is stored once.

    Parameters
    ----------
    client
        Returns the client of the bucket, which is seldom needed.
    bucket
        Name of the bucket.
    function
        Name of the function, to which the records are sent once the cause is fixed.
    backoff
        Retry policy for a busy bucket.
    """

    def __init__(self, client: Callable[[], "S3Client"], bucket: str, function: str, backoff: Backoff) -> None:
        self._client = client
        self._bucket = bucket
        self._function = function
        self._backoff = backoff

    def put(self, record: Mapping[str, Any], reason: str) -> None:
        """Store a record, in the form in which Lambda stores a batch: the event is text, under ``payload``.

        Raises
        ------
        ServiceBusyError
            If the bucket does not take it in time.
        ClientError
            If the bucket refuses it.
        """
        payload = json.dumps({"Records": [record]}, sort_keys=True, ensure_ascii=False)
        content = {"version": "1.0", "function": self._function, "reason": reason, "payload": payload}
        request: dict[str, Any] = {
            "Bucket": self._bucket,
            "Key": f"{PREFIX}/{self._function}/{sha256(payload.encode()).hexdigest()}.json",
            "Body": json.dumps(content, ensure_ascii=False).encode(),
            "ContentType": "application/json",
        }
        self._backoff.run(lambda: self._client().put_object(**request))
