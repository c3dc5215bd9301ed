"""Translation between Forge's contract and the domain: execution ids of scans, and responses."""

import base64
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from tasklatch.api.ids import can_be_new_execution_id
from tasklatch.domain.errors import NotFoundError
from tasklatch.domain.execution import Execution
from tasklatch.domain.report import Verdict
from tasklatch.domain.results import ReportResult
from tasklatch.domain.retry import decide_retry
from tasklatch.platforms.forge.models import ScanResponse, StatusUpdateResponse

_ENCODED: Final = "scan:"
_DIGEST: Final = "scan~"
_LONGEST_EXECUTION_ID: Final = 128


def execution_id_for_scan(scan_id: Any) -> str:
    """Return the execution id of a scan: always the same for one scan, and never shared by two.

    A scan id that is a valid execution id is used unchanged. Any other, and one that begins with ``scan:`` or
    ``scan~``, becomes ``scan:`` and its base64url form or, if that is too long, ``scan~`` and its hexadecimal SHA-256.

    Raises
    ------
    NotFoundError
        If the scan id is not text, or empty: no scan can have it.
    """
    if not isinstance(scan_id, str) or not scan_id:
        raise NotFoundError("execution", "that is no text")
    if can_be_new_execution_id(scan_id) and not scan_id.startswith((_ENCODED, _DIGEST)):
        return scan_id
    raw = scan_id.encode()
    encoded = _ENCODED + base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return encoded if len(encoded) <= _LONGEST_EXECUTION_ID else _DIGEST + sha256(raw).hexdigest()


_IGNORED: Final[Mapping[Verdict, str]] = {
    Verdict.DUPLICATE: "No change: the attempt has this status, or a later one, already",
    Verdict.IGNORED_AFTER_SUCCESS: "Recorded and ignored: the task has succeeded already",
    Verdict.STALE_ATTEMPT: "Recorded and ignored: the attempt is no longer the current one",
    Verdict.SEALED: "Recorded and ignored: the task is closed",
}


def status_update_response(result: ReportResult) -> StatusUpdateResponse:
    """Return the response to a report; after a failure, its message gives the retry decision and the reason."""
    message = _IGNORED.get(result.verdict)
    if message is None:
        decision = decide_retry(result.task)
        message = f"Task status updated: {decision.reason}" if decision else "Task status updated"
    return {"status": "ACCEPTED", "message": message}


def scan_response(scan_id: str, execution: Execution, tasks: int) -> ScanResponse:
    """Return the response to a registration."""
    noun = "task is" if tasks == 1 else "tasks are"
    return {
        "status": "ACCEPTED",
        "message": f"{tasks} {noun} registered",
        "scanId": scan_id,
        "executionId": execution.execution_id,
    }
