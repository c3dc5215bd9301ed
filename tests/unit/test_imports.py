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

DATACLASSES: Final = {"Task", "Report", "PendingReport"}


@cache
def loaded_by(function: str) -> set[str]:
    """The modules that are there once a function's handler has been imported, in a process of its own."""
    return set(after_import_of(function)["modules"])


@cache
def after_import_of(function: str) -> dict[str, list[str]]:
    """The modules that are there, and the dataclasses of this project in them."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            """
import json, sys, handler
dataclasses = [
    value.__name__
    for name, module in sys.modules.items()
    if name.startswith("tasklatch")
    for value in vars(module).values()
    if isinstance(value, type) and hasattr(value, "__dataclass_fields__") and value.__module__ == name
]
print(json.dumps({"modules": sorted(sys.modules), "dataclasses": dataclasses}))
""",
        ],
        cwd=FUNCTIONS / function,
        env={"PYTHONPATH": str(ROOT / "layers" / "tasklatch"), "BOTO_DISABLE_CRT": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded: dict[str, list[str]] = json.loads(done.stdout)
    return loaded


@pytest.mark.parametrize("function", NAMES)
def test_no_function_loads_what_it_does_not_use(function: str) -> None:
    loaded = loaded_by(function)

    assert "aws_lambda_powertools" in loaded
    assert loaded.isdisjoint(UNUSED)


def test_a_report_loads_nothing_of_what_follows_from_it() -> None:
    loaded = loaded_by("report_status")

    assert "tasklatch.ledger.ledger" in loaded
    assert loaded.isdisjoint(REACTIONS)


def test_values_that_a_report_loads_are_quickly_made_classes() -> None:
    assert set(after_import_of("report_status")["dataclasses"]) == DATACLASSES
