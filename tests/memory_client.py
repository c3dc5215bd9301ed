"""DynamoDB client over a table in memory, for unit tests that need neither an emulator nor its processes."""

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any

from botocore.exceptions import ClientError

from tests.factories import fresh_name
from tests.integration.emulators import Table
from tests.model_checking import memory_table
from tests.workflow_helpers import SETTINGS


class MemoryClient:
    """Client whose calls take effect one after the other, on a table that only it has."""

    def __init__(self) -> None:
        self.table: memory_table.Table = {}
        self._lock = Lock()

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return partial(self._call, operation)

    def _call(self, operation: str, **request: Any) -> Any:
        with self._lock:
            served = [self._serve(part, arguments) for part, arguments in memory_table.parts(operation, request)]
        if operation.startswith("batch_"):
            return memory_table.whole(operation, request, [(part.answer, part.error) for part in served])
        [result] = served
        if result.error is not None:
            response: Any = {"Error": {"Code": result.error, "Message": "refused"}, **result.answer}
            raise ClientError(response, operation)
        return dict(result.answer)

    def _serve(self, operation: str, request: memory_table.Request) -> memory_table.Served:
        served = memory_table.serve(self.table, operation, request)
        self.table = served.table
        return served


class MemoryTable(Table):
    """Table of a client in memory."""

    def items(self, pk: str) -> list[dict[str, Any]]:
        client: Any = self.client
        return [dict(item) for (of, _), item in sorted(client.table.items()) if of == pk]


def a_memory_table() -> MemoryTable:
    """Return an empty table."""
    client: Any = MemoryClient()
    return MemoryTable(client, SETTINGS, fresh_name())
