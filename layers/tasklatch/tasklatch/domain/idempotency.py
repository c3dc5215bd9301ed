"""Fingerprints by which a repeated request is recognised."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request with an Idempotency-Key.

    Attributes
    ----------
    fingerprint
        Fingerprint of the operation and its body: the same for the same request, in any order of its JSON keys.
    """

    key: str
    fingerprint: str


def canonical_json(value: Any) -> str:
    """Return JSON text that does not depend on the order of the keys in objects."""
    # A number with more digits than JSON's own types can hold is identified by its text.
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def canonical_text(text: str | None) -> str | None:
    """Return a JSON text with the keys of its objects in canonical order; None for None."""
    return canonical_json(json.loads(text)) if text is not None else None
