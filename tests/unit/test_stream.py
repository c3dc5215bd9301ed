"""Which records of the table's stream are changes, and what becomes of those that cannot be read."""

from dataclasses import replace
from typing import Any

import pytest

from tasklatch.domain.history import change_entry
from tasklatch.domain.report import Verdict
from tasklatch.domain.status import TaskStatus
from tasklatch.notifications.stream import parse_change, read_changes
from tests.factories import NOW, a_task, stream_record

BEFORE = a_task(TaskStatus.IN_PROGRESS, version=3)
AFTER = a_task(TaskStatus.COMPLETED, version=4, message="fine", request_id="request")


def test_change_has_the_task_before_and_after() -> None:
    change: Any = parse_change(stream_record(AFTER, BEFORE))
    assert (change.task, change.before) == (AFTER, BEFORE)


def test_creation_is_a_change_of_nothing_before() -> None:
    change: Any = parse_change(stream_record(BEFORE))
    assert (change.task, change.before) == (BEFORE, None)


def test_heartbeat_is_no_change() -> None:
    assert parse_change(stream_record(replace(BEFORE, heartbeat_at=NOW, progress=0.5), BEFORE)) is None


def test_removal_is_no_change() -> None:
    assert parse_change(stream_record(None, AFTER)) is None


@pytest.mark.parametrize("sk", ["INPUT#resize", "OUTPUT#resize#1#f", "1#f", "0000000003"])
def test_other_items_are_no_changes_of_tasks(sk: str) -> None:
    record = stream_record(AFTER, BEFORE)
    record["dynamodb"]["Keys"]["sk"]["S"] = sk
    assert parse_change(record) is None


def broken(**images: Any) -> dict[str, Any]:
    record = stream_record(AFTER, BEFORE, number="2")
    record["dynamodb"].update(images)
    return record


@pytest.mark.parametrize(
    "record",
    [
        broken(NewImage={}),
        broken(NewImage={"status": {"S": "COMPLETED"}}),
        broken(NewImage={**stream_record(AFTER)["dynamodb"]["NewImage"], "status": {"S": "EXPLODED"}}),
        broken(NewImage={**stream_record(AFTER)["dynamodb"]["NewImage"], "attempt": {"N": "many"}}),
        broken(NewImage={**stream_record(AFTER)["dynamodb"]["NewImage"], "attempt": {"S": "1"}}),
        broken(NewImage={**stream_record(AFTER)["dynamodb"]["NewImage"], "retryPolicy": {"M": {}}}),
        broken(NewImage=5),
        broken(Keys={}),
        broken(Keys={"pk": {"S": "a"}, "sk": {"N": "5"}}),
        broken(Keys={"pk": {"S": "a"}, "sk": {"S": 5}}),
    ],
    ids=range(10),
)
def test_record_that_cannot_be_read_is_reported_alone(record: dict[str, Any]) -> None:
    # given
    first, last = stream_record(BEFORE, number="1"), stream_record(AFTER, BEFORE, number="3")

    # when
    changes, unreadable = read_changes([first, record, last])

    # then
    assert list(changes) == ["1", "3"]
    assert list(unreadable) == ["2"]
    assert unreadable["2"].partition(": ")[0].endswith("Error")


def test_changes_come_in_the_order_of_the_stream() -> None:
    records = [stream_record(a_task(version=version), number=f"{version}") for version in (5, 6, 7)]
    assert list(read_changes(records)[0]) == ["5", "6", "7"]


def test_redelivery_makes_the_same_entry_again() -> None:
    entries = []
    for _ in range(2):
        change: Any = parse_change(stream_record(AFTER, BEFORE))
        entries.append(change_entry(change.task, change.before))
    first, second = entries
    assert first == second
    assert (first.version, first.verdict, first.status) == (4, Verdict.APPLIED, TaskStatus.COMPLETED)
    assert (first.previous_status, first.request_id, first.message) == (TaskStatus.IN_PROGRESS, "request", "fine")
    assert first.at == AFTER.updated_at
