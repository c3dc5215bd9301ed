"""One write in DynamoDB's two languages: both must say the same."""

import re
from itertools import product
from typing import Any, Final

import pytest

from tasklatch.domain.conditional_write import (
    ConditionalWrite,
    manual_retry_write,
    next_attempt_write,
    system_write,
    unopened_failure_write,
    write_for_report,
)
from tasklatch.domain.status import REPORTABLE, SEALED, TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy, Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.task_item import HEARTBEAT_MARK, task_from_item, task_to_item
from tasklatch.dynamodb.write_expression import render_statement, render_update_item
from tests.factories import NOW, a_report, a_task

PK: Final = "EXEC#default#nightly"
DETAILS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"message": "m" * 2000, "platform_status": "x", "output": "{}", "retry_after_seconds": 1.5},
)

LATCHES: Final = [
    *(
        write_for_report(a_report(status, attempt=attempt, **details), now=NOW, request_id="r", version=version)
        for status, attempt, details, version in product(sorted(REPORTABLE), (1, 12), DETAILS, (None, 3))
    ),
    *(system_write(a_task(), status, now=NOW, message="why") for status in sorted(SEALED)),
    system_write(a_task(), TaskStatus.SCHEDULED, now=NOW),
    system_write(a_task(), TaskStatus.TIMED_OUT, now=NOW),
    next_attempt_write(a_task(TaskStatus.FAILED), now=NOW),
    manual_retry_write(a_task(TaskStatus.CANCELED), now=NOW),
    unopened_failure_write(a_task(TaskStatus.PENDING), now=NOW, message="why"),
]

Meaning = tuple[dict[str, Any], set[str], set[tuple[str, str, str]], dict[str, Any]]


def meaning_of_update(request: dict[str, Any]) -> Meaning:
    """What an UpdateItem request assigns, removes and needs, and the key it is about."""
    names, values = request.get("ExpressionAttributeNames", {}), request["ExpressionAttributeValues"]
    sets, _, removes = request["UpdateExpression"].removeprefix("SET ").partition(" REMOVE ")
    assigned: dict[str, Any] = {}
    for term in sets.split(", "):
        target, _, source = term.partition(" = ")
        assigned[names.get(target, target)] = values.get(source, "+1")
    conditions = set()
    for term in request["ConditionExpression"].split(" AND "):
        if term not in ("attribute_exists(pk)", "attribute_not_exists(form)"):
            target, comparison, source = term.split(" ")
            conditions.add((names.get(target, target), comparison, str(values[source])))
    expressions = f"{request['UpdateExpression']} {request['ConditionExpression']}"
    used = set(re.findall(r"#\w+", expressions))
    assert used == set(names), "DynamoDB refuses names that are not used"
    assert set(re.findall(r":\w+", expressions)) == set(values), "and values"
    return assigned, {names.get(name, name) for name in removes.split(", ") if name}, conditions, request["Key"]


def meaning_of_statement(request: Any) -> Meaning:
    """The same of a PartiQL statement."""
    initial = iter(request["Parameters"])
    head, _, tail = request["Statement"].partition(" WHERE ")
    assigned: dict[str, Any] = {}
    removed: set[str] = set()
    for verb, attribute in re.findall(r'(SET|REMOVE) "(\w+)"', head):
        if verb == "REMOVE":
            removed.add(attribute)
        else:
            assigned[attribute] = next(initial)
    key: dict[str, Any] = {}
    conditions = set()
    for attribute, comparison in re.findall(r'"(\w+)" (=|<|>=) \?', tail):
        if attribute in (keys.PK, keys.SK):
            key[attribute] = next(initial)
        else:
            conditions.add((attribute, comparison, str(next(initial))))
    assert next(initial, None) is None, "every parameter has its place"
    return assigned, removed, conditions, key


@pytest.mark.parametrize("expires_at", [None, 1_900_000_000])
@pytest.mark.parametrize("write", LATCHES, ids=[f"{write.status}-{number}" for number, write in enumerate(LATCHES)])
def test_both_languages_assign_remove_and_need_the_same(write: ConditionalWrite, expires_at: int | None) -> None:
    on_version = write.on_version(3)
    update = render_update_item(on_version, "ledger", PK, expires_at)
    batched = render_statement(on_version, "ledger", PK, expires_at)
    assigned, *others = meaning_of_update(update)
    assert assigned["version"] == "+1"
    assert ({**assigned, "version": {"N": "4"}}, *others) == meaning_of_statement(batched)
    assert update["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
    assert batched["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"


@pytest.mark.parametrize("version", [None, 3])
@pytest.mark.parametrize("write", LATCHES, ids=[f"{write.status}-{number}" for number, write in enumerate(LATCHES)])
def test_whoever_has_not_read_the_version_leaves_every_form_but_the_first(
    write: ConditionalWrite, version: int | None
) -> None:
    update = render_update_item(write._replace(version=version), "ledger", PK, None)

    assert ("attribute_not_exists(form)" in update["ConditionExpression"]) is (version is None)


@pytest.mark.parametrize(
    "write", LATCHES, ids=[f"{conditional_write.status}-{number}" for number, conditional_write in enumerate(LATCHES)]
)
def test_condition_is_the_one_of_the_rules(write: ConditionalWrite) -> None:
    _, removed, conditions, _ = meaning_of_update(render_update_item(write, "ledger", PK, None))
    expected = {
        ("precedence", ">=", str({"N": str(write.precedence_from)})),
        ("precedence", "<", str({"N": str(write.max_precedence)})),
    }
    if write.version is not None:
        expected.add(("version", "=", str({"N": str(write.version)})))
    assert conditions == expected
    assert (keys.LIST_KEY in removed) is write.closes_task


@pytest.mark.parametrize(
    "write", LATCHES, ids=[f"{conditional_write.status}-{number}" for number, conditional_write in enumerate(LATCHES)]
)
def test_every_write_removes_the_mark_of_a_heartbeat(write: ConditionalWrite) -> None:
    _, removed, _, _ = meaning_of_update(render_update_item(write, "ledger", PK, None))
    assert HEARTBEAT_MARK in removed


def test_statement_fits_into_dynamodb() -> None:
    statements = [render_statement(write.on_version(3), "t" * 255, PK, 1)["Statement"] for write in LATCHES]
    assert all(len(statement) <= 8192 for statement in statements)


def test_statement_has_no_arithmetic_which_dynamodb_does_not_document_there() -> None:
    statements = [render_statement(write.on_version(3), "ledger", PK, 1)["Statement"] for write in LATCHES]
    values = {
        value
        for statement in statements
        for value in re.findall(r'SET "\w+" = (.*?)(?= SET| REMOVE| WHERE)', statement)
    }
    assert values == {"?"}


def test_statement_needs_the_version_that_was_read() -> None:
    write = write_for_report(a_report(attempt=1), now=NOW, request_id="r")
    with pytest.raises(ValueError, match="version"):
        render_statement(write, "ledger", PK, None)


FULL: Final = a_task(
    scheduled_at=1,
    started_at=2,
    ended_at=3,
    heartbeat_at=4,
    progress=0.125,
    message="ä\u0000",
    message_truncated=True,
    platform_status="broken",
    retry_after_seconds=1.5,
    retry_policy=RetryPolicy(max_attempts=7, initial_seconds=0.001, multiplier=1.5, max_seconds=86_400, jitter=1),
    timeout_seconds=5,
    heartbeat_timeout_seconds=6,
    on_failure=OnFailure.CONTINUE,
    outcome="o",
    request_id="r",
    output_attempt=0,
    output_fingerprint="f",
    checkpoint_attempt=2,
    checkpoint_fingerprint="c",
    checkpoint_sequence=2**53 - 1,
    decided_attempt=1,
    definition="d",
)


@pytest.mark.parametrize("task", [a_task(), FULL, *(a_task(status) for status in TaskStatus)])
def test_task_comes_back_from_its_item_as_it_was(task: Task) -> None:
    assert task_from_item(task_to_item(task)) == task
