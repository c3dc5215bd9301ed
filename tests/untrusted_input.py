"""What tests of hostile input look at: the lines of the log, as a function writes them, and what must not be there."""

import contextlib
import io
import json
from dataclasses import dataclass, field
from typing import Any, Final, Self

import pytest

from tasklatch.runtime.observability import logger

MARKER: Final = "Zq7SecretZq7"
"""Stands in everything that must not come into the log."""

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
"""What carries secrets, in requests, in the table's items and in messages."""


def marked(value: Any, *, secret: bool = False) -> Any:
    """An event in which whatever is secret holds the marker, also inside of texts that are JSON themselves."""
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
    """What the functions write to their log from now on: lines of the logger, and of the metrics."""

    written: io.StringIO = field(default_factory=io.StringIO)

    @classmethod
    def capture(cls, monkeypatch: pytest.MonkeyPatch) -> Self:
        """Catch what is written, until the test ends."""
        lines = cls()
        monkeypatch.setattr(logger().registered_handler, "stream", lines.written)
        monkeypatch.setattr("sys.stdout", lines.written)
        return lines

    @property
    def text(self) -> str:
        return self.written.getvalue()

    @property
    def lines(self) -> list[str]:
        """The lines as whatever reads a log may cut them, at each character that ends a line in Unicode."""
        return self.text.splitlines()

    def objects(self) -> list[dict[str, Any]]:
        """The lines, each of which is one JSON object.

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
