"""Client that makes every call on an emulator and on the table value, and asserts that both responses are equal."""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tasklatch.dynamodb import keys
from tests.integration.emulators import intercepted
from tests.model_checking import memory_table
from tests.model_checking.memory_table import key_of, parts, whole
from tests.model_checking.simulated_cloud import Change, as_text

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from tests.model_checking.memory_table import Table


class Mirror:
    """The two tables.

    Attributes
    ----------
    table
        Current table value.
    compared
        Number of equal responses.
    changes
        Changes that the calls made to tasks and executions, in order.
    """

    def __init__(self, client: "DynamoDBClient") -> None:
        self.table: Table = {}
        self.compared = 0
        self.changes: list[Change] = []
        self._lock = threading.Lock()
        self.client = intercepted(client, self._both)

    def _both(self, operation: str, call: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        with self._lock:
            expected, code = self._here(operation, arguments)
            try:
                answer = call()
            except ClientError as error:
                got = error.response["Error"]["Code"]
                item = error.response.get("Item")
                assert (got, item) == (code, expected.get("Item")), f"{operation} {as_text(arguments)}"
                self.compared += 1
                raise
            assert code is None, f"only here: {code} to {operation} {as_text(arguments)}"
            assert _to_compare(operation, answer) == _to_compare(operation, expected), (
                f"{operation} {as_text(arguments)}"
            )
            self.compared += 1
            return answer

    def _here(self, operation: str, arguments: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
        served = []
        for part in parts(operation, arguments):
            item = memory_table.serve(self.table, *part)
            self._follow(item.table)
            served.append((item.answer, item.error))
        if len(served) == 1 and not operation.startswith("batch_"):
            return served[0]
        return whole(operation, arguments, served), None

    def _follow(self, table: "Table") -> None:
        """Store the table after a call, and record its changes, as the stream would."""
        for key, item in table.items():
            before = self.table.get(key)
            if item is not before and (key[1].startswith(keys.TASK_PREFIX) or key[1] == keys.EXECUTION_SK):
                self.changes.append(Change(before, item))
        self.table = table


def _to_compare(operation: str, answer: Mapping[str, Any]) -> Any:
    """Return the part of a response to compare, in normal order."""
    if operation == "batch_get_item":
        return sorted((item for items in answer["Responses"].values() for item in items), key=key_of)
    if operation == "batch_execute_statement":
        return [
            (
                response.get("Item"),
                response["Error"]["Code"] if "Error" in response else None,
                response.get("Error", {}).get("Item"),
            )
            for response in answer["Responses"]
        ]
    if operation in ("query", "scan"):
        return answer.get("Items"), answer["Count"], answer.get("LastEvaluatedKey")
    return answer.get("Item"), answer.get("Attributes")
