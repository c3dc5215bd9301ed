"""Recurring times in requests: cron expressions and time zones."""

from functools import cache
from importlib.resources import files
from typing import Annotated

import tzdata
from pydantic import AfterValidator, Field

from tasklatch.domain.cron import scheduler_expressions


@cache
def _zones() -> frozenset[str]:
    # The package's own list: that of the machine holds more, which EventBridge Scheduler may not know
    return frozenset((files(tzdata) / "zones").read_text(encoding="utf-8").split())


def _check_cron(value: str) -> str:
    scheduler_expressions(value)
    return value


def _check_zone(value: str) -> str:
    if value not in _zones():
        raise ValueError("must be a time zone of the IANA database, such as Europe/Oslo")
    return value


CronExpression = Annotated[str, Field(min_length=9, max_length=255), AfterValidator(_check_cron)]
"""UNIX cron expression of five fields."""

TimeZone = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_check_zone)]
"""Name of a time zone."""
