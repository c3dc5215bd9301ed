"""Schedules of the local cloud fire when EventBridge Scheduler would fire them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from ministack.services import eventbridge, scheduler

from local.cloud.emulator_schedules import SCHEDULED_TIME, ScheduledTimes, next_time

MADE: Final = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
KEY: Final = ("000000000000", "us-east-1", "group/name")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        ("cron(0 0 * * ? *)", "UTC", "2026-03-01T00:00", "2026-03-02T00:00"),
        ("cron(30 4 ? * 2-6 *)", "Europe/Oslo", "2026-07-03T12:00", "2026-07-06T02:30"),
        ("cron(0 9 29 2 ? *)", "UTC", "2026-03-01T00:00", "2028-02-29T09:00"),
        ("cron(0 9 31 2 ? *)", "UTC", "2026-03-01T00:00", None),
        # Clocks are put forward at 2 h: that day has no 2:30
        ("cron(30 2 * * ? *)", "Europe/Oslo", "2026-03-28T12:00", "2026-03-30T00:30"),
        # Clocks are put back at 3 h: the first of the two
        ("cron(30 2 * * ? *)", "Europe/Oslo", "2026-10-24T12:00", "2026-10-25T00:30"),
        ("cron(30 2 * * ? *)", "Europe/Oslo", "2026-10-25T00:30", "2026-10-26T01:30"),
        ("rate(5 minutes)", "UTC", "2026-03-01T12:00", "2026-03-01T12:00:30"),
        ("rate(5 minutes)", "UTC", "2026-03-01T12:00:30", "2026-03-01T12:05:30"),
        ("rate(1 hour)", "UTC", "2026-03-01T14:30", "2026-03-01T15:00:30"),
        ("at(2026-03-02T10:00:00)", "Europe/Oslo", "2026-03-01T12:00", "2026-03-02T09:00"),
        ("at(2026-03-02T10:00:00)", "Europe/Oslo", "2026-03-02T09:00", None),
    ],
)
def test_next_time_of_an_expression(expression: str, zone: str, after: str, expected: str | None) -> None:
    assert next_time(expression, zone, at(after), MADE) == (at(expected) if expected else None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The emulator's time, which a test sets; its schedules are forgotten at the end."""
    now = [MADE.timestamp()]
    monkeypatch.setattr(time, "time", lambda: now[0])
    scheduler.reset()
    yield now
    scheduler.reset()


def put(expression: str, **fields: Any) -> None:
    scheduler._schedules._data[KEY] = {
        "Arn": "arn",
        "Name": "name",
        "GroupName": "group",
        "ScheduleExpression": expression,
        "ScheduleExpressionTimezone": "UTC",
        "State": "ENABLED",
        "LastModificationDate": MADE.timestamp(),
        "Target": {"Arn": "arn:aws:sqs:us-east-1:000000000000:q", "Input": f'{{"at": "{SCHEDULED_TIME}"}}'},
        **fields,
    }


def fired(clock: list[float], monkeypatch: pytest.MonkeyPatch, minutes: float) -> list[str]:
    """Let time pass in steps of ten seconds, and return the inputs of the targets."""
    inputs: list[str] = []
    monkeypatch.setattr(eventbridge, "_invoke_target", lambda target, *_: inputs.append(target["Input"]))
    times = ScheduledTimes()
    for _ in range(int(minutes * 6)):
        times.fire_due()
        clock[0] += 10
    return inputs


def test_schedule_fires_once_at_each_of_its_times(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    put("cron(* * * * ? *)")

    assert fired(clock, monkeypatch, 3) == [f'{{"at": "2026-03-01T12:0{minute}:00Z"}}' for minute in (1, 2, 3)]


def test_rate_fires_at_once_and_then_after_each_interval(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    put("rate(2 minutes)")

    assert fired(clock, monkeypatch, 5) == [f'{{"at": "2026-03-01T12:0{minute}:30Z"}}' for minute in (0, 2, 4)]


def test_disabled_schedule_does_not_fire(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    put("cron(* * * * ? *)", State="DISABLED")

    assert fired(clock, monkeypatch, 3) == []


def test_time_that_was_missed_is_made_up_for_once(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    put("cron(0 * * * ? *)")
    clock[0] += timedelta(hours=5).total_seconds()

    assert len(fired(clock, monkeypatch, 1)) == 1


def test_one_off_schedule_fires_once_and_is_deleted(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    put("at(2026-03-01T12:01:00)", ActionAfterCompletion="DELETE")

    assert fired(clock, monkeypatch, 2) == ['{"at": "2026-03-01T12:01:00Z"}']
    assert scheduler._schedules._data == {}
