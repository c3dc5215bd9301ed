"""Text of update expressions: rendered once for each shape, with placeholders where DynamoDB asks for them."""

from typing import Any, Final

import pytest
from moto.dynamodb.parsing.reserved_keywords import ReservedKeywords

from tasklatch.domain.conditional_write import write_for_report
from tasklatch.dynamodb.task_item import COLUMNS
from tasklatch.dynamodb.update_expression import RESERVED_WORDS, ItemUpdate
from tasklatch.dynamodb.write_expression import render_statement, render_update_item
from tests.factories import NOW, a_report

OTHER_ATTRIBUTES: Final = {
    "additions", "createdAt", "dataSetId", "definition", "deletedAt", "description", "done", "endedAt", "expiresAt",
    "externalId", "group", "listKey", "listSort", "metadata", "name", "payload", "pk", "reason", "remaining",
    "resolved", "sk", "workflowVersion",
}  # fmt: skip


def test_words_that_dynamodb_reserves_have_a_placeholder() -> None:
    reserved = {word.lower() for word in ReservedKeywords.get_reserved_keywords()}
    attributes = {column.attribute for column in COLUMNS.values()} | OTHER_ATTRIBUTES

    # DynamoDB takes neither of them in any case
    assert {attribute for attribute in attributes if attribute.lower() in reserved} <= RESERVED_WORDS
    assert {word.lower() for word in RESERVED_WORDS} <= reserved


def test_update_says_all_that_it_does() -> None:
    update = ItemUpdate(
        assigned={"status": {"S": "FAILED"}, "endedAt": {"N": "7"}},
        initial={"createdAt": {"N": "5"}},
        removed=["listKey"],
        conditions=[("precedence", ">=", {"N": "11"}), ("precedence", "<", {"N": "14"})],
        is_new_version=True,
    )

    assert update.expressions() == {
        "UpdateExpression": "SET #status = :v0, endedAt = :v1, createdAt = if_not_exists(createdAt, :v2), "
        "version = version + :v5 REMOVE listKey",
        "ConditionExpression": "attribute_exists(pk) AND precedence >= :v3 AND precedence < :v4",
        "ExpressionAttributeNames": {"#status": "status"},
        "ExpressionAttributeValues": {
            ":v0": {"S": "FAILED"},
            ":v1": {"N": "7"},
            ":v2": {"N": "5"},
            ":v3": {"N": "11"},
            ":v4": {"N": "14"},
            ":v5": {"N": "1"},
        },
    }


def test_what_is_empty_is_left_out() -> None:
    assert ItemUpdate(assigned={}, removed=["listKey"], must_exist=False).expressions() == {
        "UpdateExpression": "REMOVE listKey",
    }


def test_values_of_a_list_are_one_term() -> None:
    update = ItemUpdate(
        assigned={"x": {"N": "1"}}, conditions=[("status", "IN", {"S": "A"}), ("status", "IN", {"S": "B"})]
    )

    assert update.expressions()["ConditionExpression"] == "attribute_exists(pk) AND #status IN (:v1, :v2)"


@pytest.mark.parametrize("field", ["UpdateExpression", "ConditionExpression"])
def test_text_is_rendered_once_for_a_shape(field: str) -> None:
    requests: list[dict[str, Any]] = [
        render_update_item(write_for_report(a_report(attempt=attempt), now=NOW, request_id="r"), "ledger", "pk", None)
        for attempt in (1, 2)
    ]

    assert requests[0][field] is requests[1][field]
    assert requests[0]["ExpressionAttributeValues"] != requests[1]["ExpressionAttributeValues"]


def test_statement_is_rendered_once_for_a_shape_and_a_table() -> None:
    def statement(table: str, attempt: int) -> str:
        write = write_for_report(a_report(attempt=attempt), now=NOW, request_id="r")
        return render_statement(write.on_version(attempt), table, "pk", None)["Statement"]

    assert statement("ledger", 1) is statement("ledger", 2)
    assert statement("other", 1).startswith('UPDATE "other"')


def test_changed_expressions_do_not_change_those_of_the_next_request() -> None:
    update = ItemUpdate(assigned={"status": {"S": "FAILED"}})
    expected = update.expressions()

    changed = update.expressions()
    changed["ExpressionAttributeNames"]["#additions"] = "additions"
    changed["ExpressionAttributeValues"][":additions"] = {"N": "1"}

    assert update.expressions() == expected
