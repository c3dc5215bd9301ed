"""Lists of schedules of the local cloud, in pages."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ministack.services import scheduler

from local.cloud.emulator_schedule_pages import SchedulePages

GROUP = "group-of-pages"


@pytest.fixture
def schedules() -> Iterator[list[str]]:
    names = [f"timer-{number:03}" for number in range(250)]
    stored = {
        f"{GROUP}/{name}": {
            "Arn": name,
            "Name": name,
            "GroupName": GROUP,
            "State": "ENABLED",
            "CreationDate": 0,
            "LastModificationDate": 0,
            "Target": {"Arn": "queue"},
        }
        for name in names
    }
    for key, schedule in stored.items():
        scheduler._schedules[key] = schedule
    yield names
    for key in stored:
        scheduler._schedules.pop(key, None)


def test_pages_lead_to_every_schedule_once(schedules: list[str]) -> None:
    # given
    patch, query, listed = SchedulePages(), {"ScheduleGroup": GROUP, "MaxResults": "100"}, []

    # when
    while True:
        _, _, body = patch.list_page(query)
        page: dict[str, Any] = json.loads(body)
        listed += [schedule["Name"] for schedule in page["Schedules"]]
        if "NextToken" not in page:
            break
        query["NextToken"] = page["NextToken"]

    # then
    assert listed == schedules
