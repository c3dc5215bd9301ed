"""The explorer's table responds as an emulator does: to every call, with the same item or error."""

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasklatch.domain.conditional_write import (
    ConditionalWrite,
    manual_retry_write,
    next_attempt_write,
    system_write,
    write_for_report,
)
from tasklatch.domain.report import make_report
from tasklatch.domain.status import REPORTABLE, TaskStatus
from tasklatch.dynamodb import write_expression
from tests.factories import NOW, a_task, fresh_name, stored_item
from tests.model_checking import memory_table
from tests.model_checking.expressions import Bindings, condition, statement, update
from tests.model_checking.mirror import Mirror

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PROVES: Final = "TASKLATCH_PROVE" in os.environ
TASKS: Final = ("a", "b")
statuses: Final = st.sampled_from(list(TaskStatus))
attempts: Final = st.integers(1, 3)


@st.composite
def latches(draw: st.DrawFn) -> ConditionalWrite:
    """Draw any write that the service can make on a task."""
    kind = draw(st.sampled_from(["report", "current", "service", "next", "reopen"]))
    task_id = draw(st.sampled_from((*TASKS, "nobody")))
    met = a_task(
        draw(statuses.filter(lambda status: kind != "reopen" or status is not TaskStatus.COMPLETED)),
        draw(attempts),
        task_id=task_id,
        version=draw(st.integers(1, 6)),
    )
    if kind in ("report", "current"):
        report = make_report(
            task_id,
            draw(st.sampled_from(sorted(REPORTABLE))),
            attempt=draw(attempts) if kind == "report" else None,
            message=draw(st.none() | st.just("ünusual")),
            output=draw(st.none() | st.just("{}")),
            retry_after_seconds=draw(st.none() | st.just(2.5)),
        )
        names = {} if kind == "report" else {"attempt": met.attempt, "version": met.version}
        return write_for_report(report, now=NOW, request_id="receipt", **names)
    if kind == "next":
        return next_attempt_write(met, now=NOW)
    if kind == "reopen":
        return manual_retry_write(met, now=NOW)
    return system_write(met, draw(statuses), now=NOW, message="why")


@settings(
    max_examples=300 if PROVES else 40,
    derandomize=not PROVES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    stand=st.tuples(statuses, attempts), writes=st.lists(st.tuples(latches(), st.booleans()), min_size=1, max_size=6)
)
def test_every_write_of_the_service_is_answered_alike(
    ministack: "DynamoDBClient", stand: tuple[TaskStatus, int], writes: list[tuple[ConditionalWrite, bool]]
) -> None:
    # given
    mirror = Mirror(ministack)
    pk = f"EXEC#{fresh_name()}#nightly"
    for task_id in TASKS:
        item: Any = stored_item(a_task(*stand, task_id=task_id)) | {"pk": {"S": pk}}
        mirror.client.put_item(TableName="ledger", Item=item)

    # when
    for write, in_a_batch in writes:
        if in_a_batch:
            on_version = write if write.version is not None else write.on_version(3)
            written: Any = write_expression.render_statement(on_version, "ledger", pk, None)
            mirror.client.batch_execute_statement(Statements=[written])
        else:
            _write(mirror, write, pk)

    # then
    query: Any = {
        "TableName": "ledger",
        "KeyConditionExpression": "#pk = :pk AND begins_with(#sk, :prefix)",
        "ExpressionAttributeNames": {"#pk": "pk", "#sk": "sk"},
        "ExpressionAttributeValues": {":pk": {"S": pk}, ":prefix": {"S": "TASK#"}},
        "ConsistentRead": True,
    }
    assert len(mirror.client.query(**query)["Items"]) == len(TASKS)
    assert mirror.compared == len(TASKS) + len(writes) + 1


def _write(mirror: Mirror, write: ConditionalWrite, pk: str) -> None:
    # A failed condition is a response too; the mirror has compared both.
    with suppress(ClientError):
        mirror.client.update_item(**write_expression.render_update_item(write, "ledger", pk, None))


def test_batch_is_not_one_moment() -> None:
    # given
    puts = {
        "RequestItems": {"ledger": [{"PutRequest": {"Item": {"pk": {"S": "p"}, "sk": {"S": name}}}} for name in "ab"]}
    }

    # then
    assert [part[1]["Item"]["sk"]["S"] for part in memory_table.parts("batch_write_item", puts)] == ["a", "b"]


@pytest.mark.parametrize(
    "text", ["size(a) > :b", "a = :a AND", "contains(a, :b)", "a == :b", "NOT a = :b", "attribute_exists(a, b)"]
)
def test_condition_that_is_not_understood_is_refused_and_never_guessed(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        condition(text)({}, Bindings({}, {":a": {"S": "x"}, ":b": {"S": "x"}}))


@pytest.mark.parametrize("text", ["DELETE a :b", "SET a = list_append(a, :b)", "SET a"])
def test_update_that_is_not_understood_is_refused_and_never_guessed(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        update(text).apply({}, Bindings({}, {":b": {"S": "x"}}))


@pytest.mark.parametrize(
    "text",
    [
        'SELECT * FROM "ledger"',
        'UPDATE "ledger" SET "a" = size(?) WHERE "pk" = ?',
        'UPDATE "t" SET "a" = ? WHERE "b" IN ?',
    ],
)
def test_statement_that_is_not_understood_is_refused_and_never_guessed(text: str) -> None:
    with pytest.raises(ValueError, match="not understood"):
        statement(text, [{"S": "x"}, {"S": "y"}])
