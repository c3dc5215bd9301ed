"""What a cold start loads: each package that a function imports and does not need makes its first answer late."""

import json
import subprocess
import sys
from functools import cache
from typing import Final

import pytest

from local.handlers import FUNCTIONS, ROOT

NAMES: Final = sorted(path.parent.name for path in FUNCTIONS.glob("*/handler.py"))
UNUSED: Final = (
    "aws_lambda_powertools.event_handler",
    "aws_lambda_powertools.utilities.parser",
)
REACTIONS: Final = (
    "tasklatch.notifications.publisher",
    "tasklatch.notifications.event_bus",
    "tasklatch.executions.creation",
    "tasklatch.executions.reader",
    "tasklatch.notifications.websockets",
    "tasklatch.retries.timer_scheduler",
    "tasklatch.workflow.advancer",
    "tasklatch.api.v1.executions",
    "local.openapi",
)


@cache
def loaded_by(function: str) -> set[str]:
    """The modules that are there once a function's handler has been imported, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "import json, sys, handler; print(json.dumps(sorted(sys.modules)))"],
        cwd=FUNCTIONS / function,
        env={"PYTHONPATH": str(ROOT / "layers" / "tasklatch"), "BOTO_DISABLE_CRT": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("function", NAMES)
def test_no_function_loads_what_it_does_not_use(function: str) -> None:
    loaded = loaded_by(function)

    assert "aws_lambda_powertools" in loaded
    assert loaded.isdisjoint(UNUSED)


def test_a_report_loads_nothing_of_what_follows_from_it() -> None:
    loaded = loaded_by("report_status")

    assert "tasklatch.ledger.ledger" in loaded
    assert loaded.isdisjoint(REACTIONS)
