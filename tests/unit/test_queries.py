"""Queries of partitions and lists, as DynamoDB takes them."""

import pytest

from tasklatch.dynamodb.queries import (
    SortCondition,
    at_most,
    begins_with,
    between,
    due_query,
    greater_than,
    less_than,
    list_query,
    partition_query,
)


def test_partition_is_read_whole_and_consistently() -> None:
    assert partition_query("ledger", "EXEC#t#e") == {
        "TableName": "ledger",
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": "EXEC#t#e"}},
        "ConsistentRead": True,
    }


@pytest.mark.parametrize(
    ("condition", "expression", "values"),
    [
        (begins_with("TASK#"), "begins_with(sk, :prefix)", {":prefix": {"S": "TASK#"}}),
        (between("a", "b"), "sk BETWEEN :first AND :last", {":first": {"S": "a"}, ":last": {"S": "b"}}),
        (greater_than("a"), "sk > :after", {":after": {"S": "a"}}),
        (less_than("a"), "sk < :before", {":before": {"S": "a"}}),
        (at_most("a"), "sk <= :until", {":until": {"S": "a"}}),
    ],
)
def test_condition_on_the_sort_key_brings_its_operands(
    condition: SortCondition, expression: str, values: dict[str, dict[str, str]]
) -> None:
    query = partition_query("ledger", "p", condition)

    assert query["KeyConditionExpression"] == f"pk = :pk AND {expression}"
    assert query["ExpressionAttributeValues"] == {":pk": {"S": "p"}, **values}


def test_list_is_read_from_its_index_by_the_index_keys() -> None:
    lists, due = list_query("ledger", "OPEN#t#e", begins_with("x")), due_query("ledger", "DUE#3", at_most("x"))

    assert (lists["IndexName"], lists["KeyConditionExpression"]) == (
        "lists",
        "listKey = :key AND begins_with(listSort, :prefix)",
    )
    assert (due["IndexName"], due["KeyConditionExpression"]) == ("due", "dueKey = :key AND dueSort <= :until")
    assert "ConsistentRead" not in lists | due  # DynamoDB refuses it for a global index
