"""The id that a worker is handed for one attempt, and how to read the attempt back out of it.

A ``taskExecutionId`` is a UUID of version 8 (RFC 9562, section 5.8). Its first three bytes are the attempt, the rest
is a digest of whose attempt it is. So it needs no storage, a worker that passes it back unchanged is fenced
without a read, and an id that belongs to another task is told from one that is only unknown.
"""

import re
from hashlib import sha256
from typing import Final

from tasklatch.domain.errors import AttemptNeverOpenedError

_UUID8: Final = re.compile(r"([0-9a-f]{6})[0-9a-f]{2}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def task_execution_id(tenant: str, execution_id: str, task_id: str, attempt: int) -> str:
    """Issue the id of one attempt: always the same for the same attempt."""
    digest = sha256("\0".join((tenant, execution_id, task_id, str(attempt))).encode()).hexdigest()
    variant = "89ab"[int(digest[8], 16) & 0b11]
    return f"{attempt:06x}{digest[:2]}-{digest[2:6]}-8{digest[9:12]}-{variant}{digest[12:15]}-{digest[15:27]}"


def attempt_of(value: str, tenant: str, execution_id: str, task_id: str) -> int | None:
    """Read the attempt that an id names.

    Returns
    -------
    int or None
        The attempt; None where the id is not of the form that this service issues: such a report speaks about
        the current attempt.

    Raises
    ------
    AttemptNeverOpenedError
        If the id is of that form but was not issued for this task.
    """
    found = _UUID8.fullmatch(value.lower())
    if found is None:
        return None
    attempt = int(found[1], 16)
    if attempt == 0 or value.lower() != task_execution_id(tenant, execution_id, task_id, attempt):
        raise AttemptNeverOpenedError(task_id, "taskExecutionId was not issued for this task")
    return attempt
