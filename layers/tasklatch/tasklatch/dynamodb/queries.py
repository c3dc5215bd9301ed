"""Arguments of DynamoDB's Query: items of one partition of the table or of an index, in the order of their sort keys.

Limit, direction and projection are the caller's to add.
"""

from typing import Any, NamedTuple

from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import to_item


class SortCondition(NamedTuple):
    """Condition on the sort keys of a query: an expression in which ``{}`` is the sort key, and its operands."""

    expression: str
    operands: dict[str, str]


def begins_with(prefix: str) -> SortCondition:
    """Return the condition that a sort key begins with a text."""
    return SortCondition("begins_with({}, :prefix)", {":prefix": prefix})


def between(first: str, last: str) -> SortCondition:
    """Return the condition that a sort key is in a range, both ends included."""
    return SortCondition("{} BETWEEN :first AND :last", {":first": first, ":last": last})


def greater_than(value: str) -> SortCondition:
    """Return the condition that a sort key follows a text."""
    return SortCondition("{} > :after", {":after": value})


def less_than(value: str) -> SortCondition:
    """Return the condition that a sort key precedes a text."""
    return SortCondition("{} < :before", {":before": value})


def at_most(value: str) -> SortCondition:
    """Return the condition that a sort key precedes a text or equals it."""
    return SortCondition("{} <= :until", {":until": value})


def at_least(value: str) -> SortCondition:
    """Return the condition that a sort key equals a text or follows it."""
    return SortCondition("{} >= :from", {":from": value})


def partition_query(table: str, pk: str, condition: SortCondition | None = None) -> dict[str, Any]:
    """Return the query for the items of a partition of the table, which are read consistently."""
    return {**_query(table, (keys.PK, ":pk", pk), keys.SK, condition), "ConsistentRead": True}


def list_query(table: str, list_key: str, condition: SortCondition | None = None) -> dict[str, Any]:
    """Return the query for the entries of a list in the index `lists`: their keys alone."""
    query = _query(table, (keys.LIST_KEY, ":key", list_key), keys.LIST_SORT, condition)
    return {**query, "IndexName": keys.LISTS_INDEX}


def due_query(table: str, list_key: str, condition: SortCondition | None = None) -> dict[str, Any]:
    """Return the query for the entries of a list in the index `due`: their keys alone."""
    return {**_query(table, (keys.DUE_KEY, ":key", list_key), keys.DUE_SORT, condition), "IndexName": keys.DUE_INDEX}


def work_query(table: str, list_key: str, condition: SortCondition | None = None) -> dict[str, Any]:
    """Return the query for the entries of a list in the index `work`: their keys alone."""
    query = _query(table, (keys.WORK_KEY, ":key", list_key), keys.WORK_SORT, condition)
    return {**query, "IndexName": keys.WORK_INDEX}


def _query(table: str, key: tuple[str, str, str], sort: str, condition: SortCondition | None) -> dict[str, Any]:
    """Return the query for one key: its attribute, placeholder and value. No attribute of a key is a reserved word."""
    attribute, placeholder, value = key
    expression, operands = condition or SortCondition("", {})
    terms = [f"{attribute} = {placeholder}", *([expression.format(sort)] if expression else [])]
    return {
        "TableName": table,
        "KeyConditionExpression": " AND ".join(terms),
        "ExpressionAttributeValues": to_item({placeholder: value, **operands}),
    }
