"""What names and numbers can look like in a request."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field

from tasklatch.domain.errors import InvalidRequestError

MAX_ID_BYTES: Final = 900
"""A DynamoDB sort key holds 1,024 bytes, and the id is not all of it."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
UUID_PATTERN: Final = r"^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"
EXECUTION_ID: Final = r"^[A-Za-z0-9._~:-]{1,128}$"
_LONGEST_ID: Final = 255


def _fault_in_id(value: str) -> str | None:
    if _CONTROL.search(value):
        return "control characters are not allowed"
    if not 1 <= len(value) <= _LONGEST_ID:
        return f"must have 1 to {_LONGEST_ID} characters"
    if len(value.replace("%", "%25").replace("#", "%23").encode()) > MAX_ID_BYTES:
        return f"longer than {MAX_ID_BYTES} bytes in UTF-8 ('#' and '%' count three)"
    return None


def _check_id(value: str) -> str:
    fault = _fault_in_id(value)
    if fault:
        raise ValueError(fault)
    return value


TaskId = Annotated[
    str,
    Field(min_length=1, max_length=_LONGEST_ID, json_schema_extra={"pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"}),
    AfterValidator(_check_id),
]


def _check_uuid(value: Any) -> Any:
    # Python takes a UUID in braces, as a URN and without hyphens too
    if isinstance(value, str) and not _WRITTEN_UUID.fullmatch(value):
        raise ValueError("must be a UUID: 8-4-4-4-12 hexadecimal digits")
    return value


Uuid = Annotated[UUID, Field(strict=False), BeforeValidator(_check_uuid)]
ExecutionId = Annotated[str, Field(pattern=EXECUTION_ID)]

_WRITTEN_UUID: Final = re.compile(UUID_PATTERN)
_PATH_EXECUTION_ID: Final = re.compile(EXECUTION_ID)


def can_be_task_id(value: str) -> bool:
    """Whether there can be a task of this name."""
    return _fault_in_id(value) is None


def to_thousandths(value: float | None) -> float | None:
    """Round what a caller gives as seconds or as a share: DynamoDB cannot hold the smallest floats."""
    # Adding zero takes the sign off a zero.
    return None if value is None else round(value, 3) + 0.0


def check_path_ids(ids: Mapping[str, str]) -> None:
    """Check the ids that stand in a path.

    Raises
    ------
    InvalidRequestError
        If one of them can be no id.
    """
    for name, value in ids.items():
        if name == "executionId":
            fault = None if _PATH_EXECUTION_ID.fullmatch(value) else f"must match {EXECUTION_ID}"
        else:
            fault = _fault_in_id(value)
        if fault:
            error: dict[str, object] = {"loc": ["path", name], "msg": fault, "type": "invalid_id"}
            raise InvalidRequestError(f"the path's {name} can be no id", [error])
