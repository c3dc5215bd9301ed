"""The id of one attempt, which a worker receives and sends back, and its decoding.

A ``taskExecutionId`` is a UUID of version 8 (RFC 9562, section 5.8). Its first three bytes are the attempt, the rest
is a digest of tenant, execution and task. So it needs no storage, a worker that sends it back unchanged is fenced
without a read, and an id of another task is distinguished from one in an unknown form. The digest is the same for all
attempts at a task: one pointer leads from any of their ids to the task.
"""

import re
from hashlib import sha256
from typing import Final

from tasklatch.domain.errors import AttemptNotOpenError

_UUID8: Final = re.compile(r"([0-9a-f]{6})([0-9a-f]{2}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})")


def task_execution_id(tenant: str, execution_id: str, task_id: str, attempt: int) -> str:
    """Return the id of one attempt: always the same for the same attempt."""
    return f"{attempt:06x}{attempt_id_suffix(tenant, execution_id, task_id)}"


def attempt_id_suffix(tenant: str, execution_id: str, task_id: str) -> str:
    """Return the part that the ids of all attempts at a task share: their last 30 characters."""
    digest = sha256(f"{tenant}\0{execution_id}\0{task_id}".encode()).hexdigest()
    variant = "89ab"[int(digest[8], 16) & 0b11]
    return f"{digest[:2]}-{digest[2:6]}-8{digest[9:12]}-{variant}{digest[12:15]}-{digest[15:27]}"


def parse_attempt_id(value: str) -> tuple[int, str] | None:
    """Split an id into the attempt and the part that all attempts at its task share; None if it has another form."""
    match = _UUID8.fullmatch(value.lower())
    return (int(match[1], 16), match[2]) if match else None


def decode_attempt(value: str, tenant: str, execution_id: str, task_id: str) -> int | None:
    """Return the attempt that an id names.

    Returns
    -------
    int or None
        The attempt; None if the id is not of the form that this service issues: a report with such an id is about
        the current attempt.

    Raises
    ------
    AttemptNotOpenError
        If the id is of that form but was not issued for this task.
    """
    parts = parse_attempt_id(value)
    if parts is None:
        return None
    attempt, suffix = parts
    if attempt == 0 or suffix != attempt_id_suffix(tenant, execution_id, task_id):
        raise AttemptNotOpenError("taskExecutionId was not issued for this task", task_id)
    return attempt
