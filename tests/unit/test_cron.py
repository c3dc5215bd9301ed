"""UNIX cron expressions and their times at EventBridge Scheduler, compared by two evaluators that share nothing."""

from datetime import UTC, datetime
from itertools import islice
from typing import Final

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st

from local.cloud.emulator_schedules import next_time
from tasklatch.domain.cron import InvalidCronError, scheduler_expressions

MONTHS: Final = ("JAN", "feb", "Mar", "DEC")
WEEKDAYS: Final = ("SUN", "mon", "Sat")
TIMES: Final = 12
RANGES: Final = ((0, 59), (0, 23), (1, 31), (1, 12))
LONGEST_EXPRESSION: Final = 256
"""Characters of an expression that EventBridge Scheduler accepts, by its API reference."""


def terms(lowest: int, highest: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    number = st.integers(lowest, highest)
    bounds = st.tuples(number, number).map(sorted)
    spans = st.one_of(st.just("*"), bounds.map(lambda pair: f"{pair[0]}-{pair[1]}"))
    # A step after a range of one value is one value here and in Debian's cron, and counts to the end in the other
    ranges = spans.filter(lambda text: text == "*" or len(set(text.split("-"))) > 1)
    stepped = st.tuples(ranges, st.integers(1, highest)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    single = st.one_of(number.map(str), *([st.sampled_from(names)] if names else []))
    return st.one_of(single, spans, stepped)


def fields(lowest: int, highest: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    return st.one_of(st.just("*"), st.lists(terms(lowest, highest, names), min_size=1, max_size=4).map(",".join))


EXPRESSIONS: Final = st.tuples(
    fields(0, 59), fields(0, 23), fields(1, 31), fields(1, 12, MONTHS), fields(0, 7, WEEKDAYS)
).map(" ".join)
STARTS: Final = st.datetimes(datetime(2024, 1, 1), datetime(2032, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def scheduler_times(expressions: tuple[str, ...], start: datetime, count: int) -> list[datetime]:
    """The next times of schedules together: what falls on the same time starts one execution."""
    times: list[datetime] = []
    while len(times) < count:
        following = [next_time(expression, "UTC", start, start) for expression in expressions]
        dates = [at for at in following if at is not None]
        if not dates:
            break
        start = min(dates)
        times.append(start)
    return times


@settings(deadline=None)
@given(EXPRESSIONS, STARTS)
def test_scheduler_fires_when_cron_does(text: str, start: datetime) -> None:
    try:
        expressions = scheduler_expressions(text)
    except InvalidCronError as refusal:
        reason = str(refusal)
        expressions = ()
    if not expressions:
        assert "no such date" in reason or "cannot express" in reason
        return

    assert all(len(expression) <= LONGEST_EXPRESSION for expression in expressions)
    assert scheduler_times(expressions, start, TIMES) == list(islice(CronSim(text, start), TIMES))


@given(st.text(alphabet="0123456789*/,-?LW#JANSUmon ", max_size=30))
def test_what_cron_refuses_is_refused(text: str) -> None:
    try:
        CronSim(text, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError:
        with pytest.raises(InvalidCronError):
            scheduler_expressions(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", ("cron(* * * * ? *)",)),
        ("*/15 9-17 * * 1-5", ("cron(0,15,30,45 9-17 ? * 2-6 *)",)),
        ("0 0 * * 0", ("cron(0 0 ? * 1 *)",)),
        ("0 0 * * 7", ("cron(0 0 ? * 1 *)",)),
        ("0 0 * * fri-SAT", ("cron(0 0 ? * 6-7 *)",)),
        ("0 0 1 jan,Jul *", ("cron(0 0 1 1,7 ? *)",)),
        ("30 4 1,15 * 5", ("cron(30 4 1,15 * ? *)", "cron(30 4 ? * 6 *)")),
        ("0 0 1-31 * 1", ("cron(0 0 * * ? *)",)),
        ("0 0 1 * 0-6", ("cron(0 0 * * ? *)",)),
        ("0 0 */2 * *", ("cron(0 0 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31 * ? *)",)),
        ("5/20 0 * * *", ("cron(5,25,45 0 * * ? *)",)),
        ("0 0 29 2 *", ("cron(0 0 29 2 ? *)",)),
        ("7-7/5 0 * * *", ("cron(7 0 * * ? *)",)),
    ],
)
def test_expression_of_cron_is_written_in_that_of_the_scheduler(text: str, expected: tuple[str, ...]) -> None:
    assert scheduler_expressions(text) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "5 fields"),
        ("@daily", "5 fields"),
        ("0 0 * * * *", "5 fields"),
        ("60 * * * *", "invalid minute"),
        ("* 24 * * *", "invalid hour"),
        ("* * 0 * *", "invalid day of the month"),
        ("* * * 13 *", "invalid month"),
        ("* * * MON *", "invalid month"),
        ("* * * * 8", "invalid day of the week"),
        ("5-1 * * * *", "invalid minute"),
        ("*/0 * * * *", "invalid minute"),
        ("1,,2 * * * *", "invalid minute"),
        ("* * ? * 1", "invalid day of the month"),
        ("* * L * *", "invalid day of the month"),
        ("٣ * * * *", "invalid minute"),
        ("0 0 31 2,4 *", "no such date"),
        ("0 0 */2 * 1", "cannot express"),
        ("0 0 13 * */2", "cannot express"),
    ],
)
def test_expression_that_is_none_is_refused_with_the_reason(text: str, word: str) -> None:
    with pytest.raises(InvalidCronError, match=word):
        scheduler_expressions(text)


def test_the_longest_expression_is_one_that_the_scheduler_accepts() -> None:
    # given the values that make the longest lists: pairs with a gap of one
    pairs = [",".join(str(value) for value in range(low, top + 1) if value % 3) for low, top in RANGES]

    # then
    [expression] = scheduler_expressions(" ".join([*pairs, "*"]))
    assert 200 < len(expression) <= LONGEST_EXPRESSION
