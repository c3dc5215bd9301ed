"""Requests that can safely be sent again."""

import re
import uuid
from typing import Final

from tasklatch.domain.errors import InvalidRequestError

_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")
_NAMESPACE: Final = uuid.UUID("5f0f7d50-5f3c-4f57-9d06-3d6f5a7a2c11")


def execution_id_for(tenant: str, given: str | None, key: str | None) -> str:
    """The id of the execution that a request creates.

    Parameters
    ----------
    given
        The id that the caller chose: by it the request can be repeated as it is.
    key
        The ``Idempotency-Key`` header: the same key makes the same id.

    Raises
    ------
    InvalidRequestError
        If the key is not 1 to 255 printable ASCII characters.
    """
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequestError(
            "the Idempotency-Key cannot be used",
            [
                {
                    "loc": ["header", "idempotency-key"],
                    "msg": "must be 1 to 255 printable characters",
                    "type": "key",
                }
            ],
        )
    if given is not None:
        return given
    return str(uuid.uuid4() if key is None else uuid.uuid5(_NAMESPACE, f"{tenant}\0{key}"))
