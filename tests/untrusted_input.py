"""Log lines as a function writes them, and the secrets that must not be in them, for tests of hostile input."""

import contextlib
import io
import json
from dataclasses import dataclass, field
from typing import Any, Final, Self

import pytest

from tasklatch.runtime.observability import logger

MARKER: Final = "Zq7SecretZq7"
"""Marker that stands in everything secret; it must not be in the log."""

SECRET_FIELDS: Final = frozenset(
    {
        "authorization",
        "clientSecret",
        "connectionId",
        "input",
        "label",
        "message",
        "metadata",
        "name",
        "nonce",
        "output",
        "payload",
        "reason",
        "receiptHandle",
        "resolved",
        "taskMetadata",
        "ticket",
    }
)
"""Fields that carry secrets, in requests, in the table's items and in messages."""


def marked(value: Any, *, secret: bool = False) -> Any:
    """Return an event with the marker in every secret field, also inside of texts that are JSON themselves."""
    if isinstance(value, dict):
        return {name: marked(item, secret=secret or name in SECRET_FIELDS) for name, item in value.items()}
    if isinstance(value, list):
        return [marked(element, secret=secret) for element in value]
    if not isinstance(value, str):
        return value
    if value.startswith(("{", "[")):
        try:
            return json.dumps(marked(json.loads(value), secret=secret))
        except json.JSONDecodeError:
            return value
    return f"{value}{MARKER}" if secret else value


@dataclass
class LogLines:
    """Log output of the functions from now on: lines of the logger, and of the metrics."""

    written: io.StringIO = field(default_factory=io.StringIO)

    @classmethod
    def capture(cls, monkeypatch: pytest.MonkeyPatch) -> Self:
        """Capture the output, until the test ends."""
        lines = cls()
        monkeypatch.setattr(logger.registered_handler, "stream", lines.written)
        monkeypatch.setattr("sys.stdout", lines.written)
        return lines

    @property
    def text(self) -> str:
        return self.written.getvalue()

    @property
    def lines(self) -> list[str]:
        """Return the lines as a log reader may split them, at each character that ends a line in Unicode."""
        return self.text.splitlines()

    def objects(self) -> list[dict[str, Any]]:
        """Return the lines, each of which is one JSON object.

        Raises
        ------
        json.JSONDecodeError
            If one is not.
        """
        return [json.loads(line) for line in self.lines]

    @property
    def metric_lines(self) -> int:
        with contextlib.suppress(json.JSONDecodeError):
            return sum("_aws" in line for line in self.objects())
        return 0
