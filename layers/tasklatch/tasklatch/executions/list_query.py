"""Queries on the index that lists a tenant's executions, newest first."""

from dataclasses import dataclass
from typing import Any, Final

from tasklatch.domain.execution import ExecutionFilter
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.cursor import decode_cursor, invalid_cursor
from tasklatch.dynamodb.items import Item, primary_key, to_attribute
from tasklatch.dynamodb.queries import between, list_query

_MAX_SORT_CHARACTERS: Final = len(keys.execution_list_sort(0, "")) + 128
"""Maximum length of an execution's sort key in a list, a time and an id, in characters."""


@dataclass(frozen=True, slots=True)
class ExecutionListQuery:
    """Query for the executions of a tenant, or of one group if the filter names only one.

    Attributes
    ----------
    created_after, created_before
        Milliseconds since the epoch; None for no limit.
    """

    tenant: str
    criteria: ExecutionFilter
    created_after: int | None
    created_before: int | None

    @property
    def scope(self) -> str:
        """Name of the list, in which its cursors are valid."""
        return f"{self._list_key} {self.criteria.name} {self._first} {self._last}"

    def arguments(self, table: str) -> dict[str, Any]:
        """Return the arguments of DynamoDB's Query."""
        return {**list_query(table, self._list_key, between(self._first, self._last)), "ScanIndexForward": False}

    def start_key(self, cursor: str) -> Item:
        """Return the key after which the page of a cursor starts.

        Raises
        ------
        InvalidRequestError
            If the cursor is invalid for this query.
        """
        position = decode_cursor(cursor, self.scope)
        if not self._first <= position <= self._last or len(position) > _MAX_SORT_CHARACTERS:
            raise invalid_cursor()
        return {
            **primary_key(
                keys.execution_pk(self.tenant, position.partition("#")[2]),
                keys.EXECUTION_SK if self.criteria.single_group is None else keys.GROUP_SK,
            ),
            keys.LIST_KEY: to_attribute(self._list_key),
            keys.LIST_SORT: to_attribute(position),
        }

    @property
    def _list_key(self) -> str:
        group = self.criteria.single_group
        return keys.execution_list(self.tenant) if group is None else keys.group_list(self.tenant, group)

    @property
    def _first(self) -> str:
        return keys.execution_list_sort(self.created_after or 0, "")

    @property
    def _last(self) -> str:
        before = keys.LONGEST_TIME if self.created_before is None else self.created_before
        return keys.execution_list_sort(before, "\U0010ffff")
