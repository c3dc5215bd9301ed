"""Emulator patch: a filter for an absent attribute also matches if the part around the attribute is absent."""

from typing import Any

from ministack.services import lambda_svc


class FiltersOfAbsentAttributes:
    """Filters with ``{"exists": false}`` on an attribute whose surroundings are absent too.

    Fault of ministack 1.5: such a filter matches only if the part around the attribute exists. An attribute in a
    stream's record has a part of its own, ``{"N": ...}``, that is never there without it. So a mapping with such a
    filter delivers no record at all.
    """

    def __init__(self) -> None:
        self._match = lambda_svc._match_esm_filter  # noqa: SLF001 - it has no other place for this

    def install(self) -> None:
        """Patch the emulator."""
        lambda_svc._match_esm_filter = self.match  # noqa: SLF001

    def match(self, record: dict[str, Any], pattern: dict[str, Any]) -> bool:
        """Return True if a pattern matches a record."""
        matched: bool = self._match(_with_parts(record, pattern), pattern)
        return matched


def _with_parts(record: dict[str, Any], pattern: dict[str, Any]) -> dict[str, Any]:
    """Return a record with an empty part wherever a pattern looks into one that is absent."""
    parts = {
        name: _with_parts(record.get(name, {}), part)
        for name, part in pattern.items()
        if isinstance(part, dict) and isinstance(record.get(name, {}), dict)
    }
    return {**record, **parts}
