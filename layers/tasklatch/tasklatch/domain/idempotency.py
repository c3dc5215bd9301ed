"""What makes two requests the same one, sent again."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request with an Idempotency-Key.

    Attributes
    ----------
    fingerprint
        Of the operation and all that its body says: the same for the same request, however it is written down.
    """

    key: str
    fingerprint: str


def canonical_json(value: Any) -> str:
    """Write JSON so that it is the same text in whatever order an object's keys came."""
    # What JSON's own types cannot hold, a number of many digits, is told by how it is written.
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def canonical_text(text: str | None) -> str | None:
    """Write a JSON text that is kept so that it is the same in whatever order an object's keys came."""
    return canonical_json(json.loads(text)) if text is not None else None
