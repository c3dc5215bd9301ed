"""One write in DynamoDB's two languages: both must say the same."""

import re
from itertools import product
from typing import Any, Final

import pytest

from tasklatch.aws import keys
from tasklatch.aws.latch_expression import statement, update_item
from tasklatch.aws.task_item import item_of, task_of
from tasklatch.domain.latch import (
    Latch,
    latch_of,
    next_attempt_latch,
    reopen_latch,
    service_latch,
    unopened_failure_latch,
)
from tasklatch.domain.status import REPORTABLE, SEALED, TaskStatus
from tasklatch.domain.task import OnFailure, RetryPolicy, Task
from tests.factories import NOW, a_report, a_task

PK: Final = "EXEC#default#nightly"
DETAILS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"message": "m" * 2000, "label": "x", "output": "{}", "retry_after_seconds": 1.5},
)

LATCHES: Final = [
    *(
        latch_of(a_report(status, attempt=attempt, **details), now=NOW, receipt="r", version=version)
        for status, attempt, details, version in product(sorted(REPORTABLE), (1, 12), DETAILS, (None, 3))
    ),
    *(service_latch(a_task(), status, now=NOW, message="why") for status in sorted(SEALED)),
    service_latch(a_task(), TaskStatus.SCHEDULED, now=NOW),
    service_latch(a_task(), TaskStatus.TIMED_OUT, now=NOW),
    next_attempt_latch(a_task(TaskStatus.FAILED), now=NOW),
    reopen_latch(a_task(TaskStatus.CANCELED), now=NOW),
    unopened_failure_latch(a_task(TaskStatus.PENDING), now=NOW, message="why"),
]

Meaning = tuple[dict[str, Any], set[str], set[tuple[str, str, str]], dict[str, Any]]


def meaning_of_update(request: dict[str, Any]) -> Meaning:
    """What an UpdateItem request assigns, removes and needs, and the key it is about."""
    names, values = request["ExpressionAttributeNames"], request["ExpressionAttributeValues"]
    sets, _, removes = request["UpdateExpression"].removeprefix("SET ").partition(" REMOVE ")
    assigned: dict[str, Any] = {}
    for term in sets.split(", "):
        target, _, source = term.partition(" = ")
        assigned[names[target]] = values.get(source, "+1")
    conditions = set()
    for term in request["ConditionExpression"].split(" AND "):
        if term != "attribute_exists(#pk)":
            target, comparison, source = term.split(" ")
            conditions.add((names[target], comparison, str(values[source])))
    expressions = f"{request['UpdateExpression']} {request['ConditionExpression']}"
    used = set(re.findall(r"#\w+", expressions))
    assert used == set(names), "DynamoDB refuses names that are not used"
    assert set(re.findall(r":\w+", expressions)) == set(values), "and values"
    return assigned, {names[name] for name in removes.split(", ") if name}, conditions, request["Key"]


def meaning_of_statement(request: Any) -> Meaning:
    """The same of a PartiQL statement."""
    given = iter(request["Parameters"])
    head, _, tail = request["Statement"].partition(" WHERE ")
    assigned: dict[str, Any] = {}
    removed: set[str] = set()
    for verb, attribute, value in re.findall(r'(SET|REMOVE) "(\w+)"(?: = (\?|"version" \+ 1))?', head):
        if verb == "REMOVE":
            removed.add(attribute)
        else:
            assigned[attribute] = next(given) if value == "?" else "+1"
    key: dict[str, Any] = {}
    conditions = set()
    for attribute, comparison in re.findall(r'"(\w+)" (=|<|>=) \?', tail):
        if attribute in (keys.PK, keys.SK):
            key[attribute] = next(given)
        else:
            conditions.add((attribute, comparison, str(next(given))))
    assert next(given, None) is None, "every parameter has its place"
    return assigned, removed, conditions, key


@pytest.mark.parametrize("expires_at", [None, 1_900_000_000])
@pytest.mark.parametrize("latch", LATCHES, ids=[f"{latch.status}-{number}" for number, latch in enumerate(LATCHES)])
def test_both_languages_assign_remove_and_need_the_same(latch: Latch, expires_at: int | None) -> None:
    update = update_item(latch, "ledger", PK, expires_at)
    batched = statement(latch, "ledger", PK, expires_at)
    assert meaning_of_update(update) == meaning_of_statement(batched)
    assert update["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
    assert batched["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"


@pytest.mark.parametrize("latch", LATCHES, ids=[f"{latch.status}-{number}" for number, latch in enumerate(LATCHES)])
def test_condition_is_the_one_of_the_rules(latch: Latch) -> None:
    _, removed, conditions, _ = meaning_of_update(update_item(latch, "ledger", PK, None))
    expected = {
        ("precedence", ">=", str({"N": str(latch.lowest)})),
        ("precedence", "<", str({"N": str(latch.below)})),
    }
    if latch.version is not None:
        expected.add(("version", "=", str({"N": str(latch.version)})))
    assert conditions == expected
    assert (keys.LIST_KEY in removed) is latch.closes


def test_statement_fits_into_dynamodb() -> None:
    assert all(len(statement(latch, "t" * 255, PK, 1)["Statement"]) <= 8192 for latch in LATCHES)


FULL: Final = a_task(
    scheduled_at=1,
    started_at=2,
    ended_at=3,
    heartbeat_at=4,
    progress=0.125,
    message="ä\u0000",
    message_truncated=True,
    label="broken",
    retry_after_seconds=1.5,
    retry_policy=RetryPolicy(max_attempts=7, initial_seconds=0.001, multiplier=1.5, max_seconds=86_400, jitter=1),
    timeout_seconds=5,
    heartbeat_timeout_seconds=6,
    on_failure=OnFailure.CONTINUE,
    outcome="o",
    receipt="r",
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
    assert task_of(item_of(task)) == task
