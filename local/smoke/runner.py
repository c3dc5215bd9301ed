"""Run of all checks against a stack, with a line on each."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError
from rich.markup import escape
from websockets.exceptions import WebSocketException

from local.api_client import ApiClient, ApiError
from local.cloud.stack import LocalCloudError, Stack, StateDir
from local.replay.tables import result_console
from local.smoke import (
    access_checks,
    background_checks,
    platform_checks,
    report_checks,
    timer_checks,
    watch_checks,
    workflow_checks,
)
from local.smoke.check import Check, CheckFailedError, CheckSkippedError
from local.smoke.session import SmokeSession
from local.smoke.target import SmokeTarget, aws_target

CHECKS: Final = (
    *access_checks.CHECKS,
    *report_checks.CHECKS,
    *timer_checks.CHECKS,
    *workflow_checks.CHECKS,
    *watch_checks.CHECKS,
    *platform_checks.CHECKS,
    # Last, so that what the others left there is seen
    *background_checks.CHECKS,
)

OK: Final = "ok"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
_COLORS: Final = {OK: "green", FAILED: "red", SKIPPED: "yellow"}
_REQUEST_SECONDS: Final = 30.0
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"})
_BROKEN: Final = (ApiError, LocalCloudError, BotoCoreError, ClientError, WebSocketException, OSError)
_NOT_AS_DESCRIBED: Final = (AttributeError, LookupError, TypeError, ValueError)
_WRONG_USE: Final = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of one check.

    Attributes
    ----------
    state
        ``ok``, ``failed`` or ``skipped``.
    detail
        After a failure the cause and what to look at; after a skip the reason.
    """

    name: str
    state: str
    milliseconds: float
    detail: str

    def __str__(self) -> str:
        return f"{self.state:<8}{self.name:<17}{self.milliseconds:>6.0f} ms  {self.detail}"


def run_checks(
    session: SmokeSession, checks: Sequence[Check] = CHECKS, on_outcome: Callable[[Outcome], None] = lambda _: None
) -> list[Outcome]:
    """Run checks one after the other, and cancel what they created; a failed check does not stop the others.

    Parameters
    ----------
    on_outcome
        Called with each outcome as it comes.
    """
    outcomes = []
    try:
        for check in checks:
            outcome = run_check(session, check)
            on_outcome(outcome)
            outcomes.append(outcome)
    finally:
        session.clean_up()
    return outcomes


def run_check(session: SmokeSession, check: Check) -> Outcome:
    """Run one check; any error of it is a failure of the stack."""
    started = session.clock()
    try:
        state, detail = OK, check.run(session)
    except CheckSkippedError as reason:
        state, detail = SKIPPED, str(reason)
    except CheckFailedError as error:
        state, detail = FAILED, str(error)
    except _BROKEN as error:
        state, detail = _classify(error)
    except _NOT_AS_DESCRIBED as error:
        state, detail = FAILED, f"a response is not as described: {type(error).__name__} {error}"
    if state == FAILED:
        detail = f"{detail}. Look at: {check.hint}"
    return Outcome(check.name, state, (session.clock() - started) * 1000, detail)


def run_smoke(state_dir: StateDir, stack_name: str | None) -> int:
    """Run all checks against a stack and print a line on each.

    Returns
    -------
    int
        0 if no check failed, 1 if one did, 2 if the stack cannot be read.
    """
    try:
        target = aws_target(stack_name) if stack_name else SmokeTarget(Stack.load(state_dir))
    except (LocalCloudError, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return _WRONG_USE
    with ApiClient(target.stack, deadline_seconds=_REQUEST_SECONDS, access_tokens=target.access_tokens) as api:
        project = os.environ.get("TASKLATCH_PROJECT", "self-check")
        session = SmokeSession(api, target.stack, has_scoped_clients=target.has_scoped_clients, project=project)
        outcomes = run_checks(session, on_outcome=_print)
    counts = {state: sum(outcome.state == state for outcome in outcomes) for state in _COLORS}
    result_console().print(", ".join(f"{count} {state}" for state, count in counts.items()))
    return int(counts[FAILED] > 0)


def _classify(error: Exception) -> tuple[str, str]:
    """Return the state and the detail of a check that an error ended: what the caller may not do is skipped."""
    if isinstance(error, ClientError) and error.response["Error"]["Code"] in _DENIED:
        return SKIPPED, f"your AWS credentials do not allow {error.operation_name}"
    return FAILED, str(error)


def _print(outcome: Outcome) -> None:
    color = _COLORS[outcome.state]
    result_console().print(f"[{color}]{escape(str(outcome))}[/{color}]", soft_wrap=True)
