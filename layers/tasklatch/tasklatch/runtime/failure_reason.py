"""Reasons that go along with messages and records that no attempt can process."""

from typing import Final

_LONGEST: Final = 500
"""In characters."""


def failure_reason(error: Exception) -> str:
    """Return an error as a reason: its type and its text, which may be cut."""
    return f"{type(error).__name__}: {error}"[:_LONGEST]
