"""Emulator patch: fire schedules as EventBridge Scheduler documents it."""

import json
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from ministack.core.responses import set_request_account_id, set_request_region
from ministack.services import eventbridge, scheduler

SCHEDULED_TIME: Final = "<aws.scheduler.scheduled-time>"

_CRON: Final = re.compile(r"cron\(([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) \*\)")
_RATE: Final = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_AT: Final = re.compile(r"at\((.+)\)")
_SECONDS: Final = {"minute": 60, "hour": 3600, "day": 86_400}
_DAYS_TO_SEARCH: Final = 366 * 8 + 1


def next_time(expression: str, zone: str, after: datetime, created: datetime) -> datetime | None:
    """Return the first time of a schedule after another time, in UTC; None if there is none.

    Parameters
    ----------
    expression
        Lists, ranges and `*` in cron expressions; every year.
    created
        Creation of the schedule: a rate counts from there, and fires there first.

    Raises
    ------
    ValueError
        If the expression has another form.
    """
    if match := _CRON.fullmatch(expression):
        return _next_cron_time(match.groups(), ZoneInfo(zone), after)
    if match := _RATE.fullmatch(expression):
        interval = int(match[1]) * _SECONDS[match[2]]
        passed = (after - created).total_seconds()
        return created if passed < 0 else created + timedelta(seconds=(passed // interval + 1) * interval)
    if match := _AT.fullmatch(expression):
        at = datetime.fromisoformat(match[1]).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
        return at if at > after else None
    raise ValueError(f"unexpected schedule expression {expression!r}")


def _next_cron_time(fields: tuple[str, ...], zone: ZoneInfo, after: datetime) -> datetime | None:
    minutes, hours = (_values(text, 0, top) for text, top in zip(fields[:2], (59, 23), strict=True))
    days, months, weekdays = (_values(text, 1, top) for text, top in zip(fields[2:], (31, 12, 7), strict=True))
    day = after.astimezone(zone).date()
    for _ in range(_DAYS_TO_SEARCH):
        if day.day in days and day.month in months and day.isoweekday() % 7 + 1 in weekdays:
            local = (datetime(day.year, day.month, day.day, hour, minute) for hour in hours for minute in minutes)  # noqa: DTZ001 - its zone follows
            fitting = [at for at in _existing(local, zone) if at > after]
            if fitting:
                return min(fitting)
        day += timedelta(days=1)
    return None


def _existing(times: Iterable[datetime], zone: ZoneInfo) -> Iterable[datetime]:
    """Return times in UTC: one that daylight saving skips is skipped, one that comes twice is the first."""
    for local in times:
        at = local.replace(tzinfo=zone).astimezone(UTC)
        if at.astimezone(zone).replace(tzinfo=None) == local:
            yield at


def _values(text: str, lowest: int, highest: int) -> list[int]:
    if text in ("*", "?"):
        return list(range(lowest, highest + 1))
    terms = [[int(value) for value in term.split("-")] for term in text.split(",")]
    return sorted({value for term in terms for value in range(term[0], term[-1] + 1)})


class ScheduledTimes:
    """Recurring schedules in their time zone, with the time at which each fires in its input.

    Fault of ministack 1.5: it reads every expression in UTC, leaves context attributes such as the scheduled time in a
    target's input as they are, begins a cron schedule at its next sweep, and never fires at a time before that.
    """

    def __init__(self) -> None:
        self._fired: dict[Any, datetime] = {}

    def install(self) -> None:
        """Patch the emulator."""
        scheduler._tick_schedules = self.fire_due  # noqa: SLF001 - it has no other place for this

    def fire_due(self) -> None:
        """Fire each schedule whose time has come; several missed times are one."""
        now = datetime.fromtimestamp(time.time(), UTC)
        for key, schedule in list(scheduler._schedules._data.items()):  # noqa: SLF001
            changed = datetime.fromtimestamp(int(schedule["LastModificationDate"]), UTC)
            begin = changed - timedelta(seconds=1)
            zone = schedule["ScheduleExpressionTimezone"] or "UTC"
            after = max(self._fired.get(key, begin), begin)
            at = next_time(schedule["ScheduleExpression"], zone, after, changed)
            if at is not None and at <= now and schedule["State"] == "ENABLED":
                self._fired[key] = at if at > now - timedelta(minutes=1) else now
                _fire(key, schedule, at)


def _fire(key: tuple[str, str, str], schedule: dict[str, Any], at: datetime) -> None:
    account_id, region, _ = key
    set_request_account_id(account_id)
    set_request_region(region)
    target = schedule["Target"]
    text = target.get("Input", "").replace(SCHEDULED_TIME, f"{at:%Y-%m-%dT%H:%M:%SZ}")
    event = {"Source": "aws.scheduler", "DetailType": "Scheduled Event", "Detail": json.dumps({}), "Resources": []}
    eventbridge._invoke_target({**target, "Input": text}, {**event, "Time": at.timestamp()}, schedule)  # noqa: SLF001
    if schedule.get("ActionAfterCompletion") == "DELETE" and schedule["ScheduleExpression"].startswith("at("):
        scheduler._schedules._data.pop(key, None)  # noqa: SLF001
