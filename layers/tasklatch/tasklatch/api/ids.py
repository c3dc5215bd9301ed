"""Ids and numbers in a request: their formats and checks."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field

from tasklatch.domain.addressing import NEW_ID_PATTERN, PATH_PATTERN, fits_path, new_id_error
from tasklatch.domain.errors import IdNotInPathError, InvalidRequestError

MAX_ID_BYTES: Final = 900
"""A DynamoDB sort key holds 1,024 bytes, and the id is only a part of it."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
UUID_PATTERN: Final = r"^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"
EXECUTION_ID: Final = r"^[A-Za-z0-9._~:-]{1,128}$"
_NEW_EXECUTION_ID: Final = r"^(?!\.{1,2}$)[A-Za-z0-9._~:-]{1,128}$"
_LONGEST_ID: Final = 255


def _id_error(value: str) -> str | None:
    if _CONTROL.search(value):
        return "control characters are not allowed"
    if not 1 <= len(value) <= _LONGEST_ID:
        return f"must have 1 to {_LONGEST_ID} characters"
    if len(value.replace("%", "%25").replace("#", "%23").encode()) > MAX_ID_BYTES:
        return f"longer than {MAX_ID_BYTES} bytes in UTF-8 ('#' and '%' count three)"
    return None


def _check_id(value: str) -> str:
    message = _id_error(value)
    if message:
        raise ValueError(message)
    return value


def _check_new(value: str) -> str:
    message = new_id_error(value)
    if message:
        raise ValueError(message)
    return value


TaskId = Annotated[
    str,
    Field(min_length=1, max_length=_LONGEST_ID, json_schema_extra={"pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"}),
    AfterValidator(_check_id),
]
"""Id of a task that may exist."""

NewTaskId = Annotated[TaskId, Field(json_schema_extra={"pattern": NEW_ID_PATTERN}), AfterValidator(_check_new)]
"""Id of a task to create."""

PathParameter = Annotated[str, Field(min_length=1, max_length=_LONGEST_ID, json_schema_extra={"pattern": PATH_PATTERN})]
"""Id that fits into a path, for the API description; `check_path_ids` does the check."""


QUEUE_NAME: Final = r"^[A-Za-z0-9_-]{1,64}$"
QueueName = Annotated[str, Field(pattern=QUEUE_NAME)]
"""Name of a queue, as Amazon SQS has them, of at most 64 characters: it is stored with each task."""


def _check_uuid(value: Any) -> Any:
    # Python also accepts a UUID in braces, as a URN and without hyphens.
    if isinstance(value, str) and not re.fullmatch(UUID_PATTERN, value):
        raise ValueError("must be a UUID: 8-4-4-4-12 hexadecimal digits")
    return value


Uuid = Annotated[UUID, Field(strict=False), BeforeValidator(_check_uuid)]
ExecutionId = Annotated[str, Field(pattern=EXECUTION_ID)]
NewExecutionId = Annotated[
    str, Field(pattern=EXECUTION_ID, json_schema_extra={"pattern": _NEW_EXECUTION_ID}), AfterValidator(_check_new)
]

_PATTERNS: Final = {"executionId": EXECUTION_ID, "queue": QUEUE_NAME}


def is_valid_task_id(value: str) -> bool:
    """Return True if the value is a valid task id."""
    return _id_error(value) is None


def can_be_new_execution_id(value: str) -> bool:
    """Return True if an execution with this id can be created."""
    return re.fullmatch(_NEW_EXECUTION_ID, value) is not None


def round_to_millis(value: float | None) -> float | None:
    """Round seconds or a share to three decimals: DynamoDB cannot hold the smallest floats."""
    # Adding zero turns -0.0 into 0.0.
    return None if value is None else round(value, 3) + 0.0


def check_path_ids(ids: Mapping[str, str], body_route: str | None = None) -> None:
    """Check the ids in a path.

    Parameters
    ----------
    body_route
        Key of the operation that takes the id in the body, for the error.

    Raises
    ------
    InvalidRequestError
        If one of them is not a valid id.
    IdNotInPathError
        If decoding of the path may turn one of them into another id.
    """
    for name, value in ids.items():
        pattern = _PATTERNS.get(name)
        if pattern is not None:
            message = None if re.fullmatch(pattern, value) else f"must match {pattern}"
        else:
            message = _id_error(value)
        if message:
            field_error: dict[str, object] = {"loc": ["path", name], "msg": message, "type": "invalid_id"}
            raise InvalidRequestError(f"invalid {name} in path", [field_error])
        if pattern is None and not fits_path(value):
            raise IdNotInPathError(name, value, body_route)
