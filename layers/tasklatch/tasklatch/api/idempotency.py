"""Idempotency keys of requests, and the execution ids that follow from them."""

import re
import uuid
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from tasklatch.domain.errors import InvalidRequestError
from tasklatch.domain.idempotency import KeyedRequest, canonical_json

_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")
_NAMESPACE: Final = uuid.UUID("5f0f7d50-5f3c-4f57-9d06-3d6f5a7a2c11")


def keyed_request(operation: str, headers: Mapping[str, str], body: Any) -> KeyedRequest | None:
    """Return the ``Idempotency-Key`` of a request with the request's fingerprint; None if it has no key.

    Parameters
    ----------
    operation
        Name of the operation: the same body sent to another operation is another request.
    body
        Parsed JSON: format, compression and order of keys do not change the fingerprint, every other difference does.

    Raises
    ------
    InvalidRequestError
        If the key is not 1 to 255 printable ASCII characters.
    """
    key = headers.get("idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        field_error: dict[str, object] = {
            "loc": ["header", "idempotency-key"],
            "msg": "must be 1 to 255 printable characters",
            "type": "key",
        }
        raise InvalidRequestError("invalid Idempotency-Key", [field_error])
    return KeyedRequest(key, sha256(canonical_json([operation, body]).encode()).hexdigest())


def execution_id_for(tenant: str, requested_id: str | None, keyed: KeyedRequest | None) -> str:
    """Return the id of the execution that a request creates.

    Parameters
    ----------
    requested_id
        Id that the caller chose: it makes the request safe to repeat without a key.
    keyed
        The request if it has a key: the same key gives the same id.
    """
    if requested_id is not None:
        return requested_id
    return str(uuid.uuid4() if keyed is None else uuid.uuid5(_NAMESPACE, f"{tenant}\0{keyed.key}"))
