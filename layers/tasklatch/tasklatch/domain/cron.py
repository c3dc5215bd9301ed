"""UNIX cron expressions, and the same times in the cron expressions of EventBridge Scheduler.

A UNIX expression has five fields. EventBridge Scheduler has a sixth for the year, numbers the days of the week from 1
(Sunday), and takes a restriction of one of the two day fields only; the other is ``?``. Values are written out as lists
and ranges, because steps and names are read in different ways.
"""

import calendar
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_MONTHS: Final = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS: Final = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}
_MONTH_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_TERM: Final = re.compile(r"(\*|(?P<first>[0-9A-Z]{1,3})(-(?P<last>[0-9A-Z]{1,3}))?)(/(?P<step>[0-9]{1,2}))?")


class InvalidCronError(ValueError):
    """A text that is not a cron expression, or one that EventBridge Scheduler cannot express."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    lowest: int
    highest: int
    names: dict[str, int]

    def parse(self, text: str) -> frozenset[int]:
        """Return the values of one field."""
        return frozenset(value for term in text.split(",") for value in self._term(term))

    def _term(self, text: str) -> range:
        match = _TERM.fullmatch(text)
        if match is None:
            raise self._error(text)
        step = int(match["step"] or 1)
        first = self.lowest if match["first"] is None else self._value(match["first"])
        # A step after a single value counts from it to the end, as in every cron that accepts it
        to_the_end = match["first"] is None or (match["last"] is None and match["step"] is not None)
        last = self.highest if to_the_end else self._value(match["last"] or match["first"])
        if step == 0 or last < first:
            raise self._error(text)
        return range(first, last + 1, step)

    def _value(self, text: str) -> int:
        value = self.names.get(text, -1) if not text.isdigit() else int(text)
        if not self.lowest <= value <= self.highest:
            raise self._error(text)
        return value

    def _error(self, text: str) -> InvalidCronError:
        return InvalidCronError(f"invalid {self.name}: {text[:20]!r}")


_FIELDS: Final = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of the month", 1, 31, {}),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _WEEKDAYS),
)
_ALL_DAYS: Final = frozenset(range(1, 32))
_ALL_WEEKDAYS: Final = frozenset(range(7))
_NO_DAY: Final[frozenset[int]] = frozenset()


def scheduler_expressions(text: str) -> tuple[str, ...]:
    """Return the expressions of EventBridge Scheduler that together have the times of a UNIX cron expression.

    Parameters
    ----------
    text
        Minute, hour, day of the month, month, day of the week.

    Returns
    -------
    tuple
        One expression; two if both day fields are restricted, as cron then fires on the days of either.

    Raises
    ------
    InvalidCronError
        If the text is no such expression, has no date, or needs days on which both day fields hold.
    """
    parts = text.upper().split()
    if len(parts) != len(_FIELDS):
        raise InvalidCronError(f"must have {len(_FIELDS)} fields: minute, hour, day of month, month, day of week")
    minutes, hours, days, months, weekdays = (field.parse(part) for field, part in zip(_FIELDS, parts, strict=True))
    time, month = f"{_list(minutes, 60)} {_list(hours, 24)}", _list(months, 12)
    by_date, by_weekday = _deciding_days(parts, days, frozenset(day % 7 for day in weekdays))
    expressions = []
    if by_date:
        expressions.append(f"cron({time} {_list(by_date, 31)} {month} ? *)")
    if by_weekday:
        expressions.append(f"cron({time} ? {month} {_list((day + 1 for day in by_weekday), 7)} *)")
    elif min(by_date) > max(_MONTH_DAYS[number - 1] for number in months):
        raise InvalidCronError("there is no such date in any year")
    return tuple(expressions)


def _deciding_days(
    parts: Sequence[str], days: frozenset[int], weekdays: frozenset[int]
) -> tuple[frozenset[int], frozenset[int]]:
    """Return the days of the month and the days of the week that decide; of a field that does not, no day."""
    every_day, every_weekday = days == _ALL_DAYS, weekdays == _ALL_WEEKDAYS
    if not (parts[2].startswith("*") or parts[4].startswith("*")):
        # Cron fires on the days of either
        return (_ALL_DAYS, _NO_DAY) if every_day or every_weekday else (days, weekdays)
    if every_weekday:
        return days, _NO_DAY
    if every_day:
        return _NO_DAY, weekdays
    raise InvalidCronError(
        "a day field with a step from '*' beside another restricted one means days on which both hold, which"
        " EventBridge Scheduler cannot express: restrict one day field"
    )


def _list(values: Iterable[int], count: int) -> str:
    """Return values as a list of single values and ranges; `*` if it has all of the `count` values."""
    ordered = sorted(values)
    if len(ordered) == count:
        return "*"
    runs: list[list[int]] = []
    for value in ordered:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
