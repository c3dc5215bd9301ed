"""Emulator patch: PartiQL statements put their changes on the table's stream."""

import copy
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from ministack.services import dynamodb

_STATEMENTS: Final = ("_partiql_insert", "_partiql_update", "_partiql_delete")

_in_statement: Final = ContextVar("_in_statement", default=False)

TableState = dict[str, Any]
Item = dict[str, Any]


class PartiqlStreamRecords:
    """Stream records of PartiQL statements.

    Fault of ministack 1.5: PartiQL statements put no record on the table's stream. This service creates tasks and
    records batches with such statements, and its consumers would miss those changes.
    """

    def __init__(self) -> None:
        self._set_item = dynamodb._set_item  # noqa: SLF001 - it has no other place for this
        self._remove_item = dynamodb._remove_item  # noqa: SLF001

    def install(self) -> None:
        """Patch the emulator."""
        for name in _STATEMENTS:
            setattr(dynamodb, name, _marked(getattr(dynamodb, name)))
        dynamodb._set_item = self.set_item  # noqa: SLF001
        dynamodb._remove_item = self.remove_item  # noqa: SLF001

    def set_item(self, table: TableState, hash_key: str, range_key: str, item: Item) -> Any:
        """Put an item; within a statement, put the change on the stream."""
        before = self._set_item(table, hash_key, range_key, item)
        _emit(table, "INSERT" if before is None else "MODIFY", before, item)
        return before

    def remove_item(self, table: TableState, hash_key: str, range_key: str) -> Any:
        """Remove an item; within a statement, put the change on the stream."""
        before = self._remove_item(table, hash_key, range_key)
        if before is not None:
            _emit(table, "REMOVE", before, None)
        return before


def _marked(statement: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        token = _in_statement.set(True)
        try:
            return statement(*args, **kwargs)
        finally:
            _in_statement.reset(token)

    return run


def _emit(table: TableState, event: str, before: Item | None, after: Item | None) -> None:
    if _in_statement.get():
        images = copy.deepcopy((before, after))
        dynamodb._emit_stream_event(table["TableName"], event, *images)  # noqa: SLF001
