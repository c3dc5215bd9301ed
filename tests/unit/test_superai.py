"""SuperAI's words: which of them drive the latch, and what a record of each is."""

from typing import Any, Final

import pytest

from tasklatch.domain.conditional_write import write_for_report
from tasklatch.domain.errors import UnknownTasksError
from tasklatch.domain.report import Report
from tasklatch.domain.status import COMPLETED_PRECEDENCE, SEALED, ExecutionStatus, TaskStatus
from tasklatch.platforms.superai import models, translation
from tests.factories import NOW, a_task


def reports(*words: str | None) -> list[Report]:
    items = [{"task_name": "extract", "status": word} for word in words]
    return models.TaskStatuses.model_validate({"statuses": items}).reports(NOW, "request")


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("running", TaskStatus.IN_PROGRESS),
        ("in_progress", TaskStatus.IN_PROGRESS),
        ("completed", TaskStatus.COMPLETED),
        ("failed", TaskStatus.FAILED),
        ("skipped", TaskStatus.SKIPPED),
        ("cancelled", TaskStatus.CANCELED),
    ],
)
def test_known_status_is_applied_and_stored(word: str, status: TaskStatus) -> None:
    (report,) = reports(word)
    assert (report.status, report.platform_status, report.is_informational) == (status, word, False)


@pytest.mark.parametrize("word", ["queued", "awaiting_input", "COMPLETED", "läuft", "", None])
def test_any_other_status_is_informational(word: str | None) -> None:
    (report,) = reports(word)
    assert report.is_informational
    assert report.platform_status == (word or None)


@pytest.mark.parametrize("status", [status for status in TaskStatus if status is not TaskStatus.PENDING])
@pytest.mark.parametrize("attempt", [1, 7])
def test_informational_status_changes_no_task(status: TaskStatus, attempt: int) -> None:
    task = a_task(status, attempt)
    (report,) = reports("awaiting_input")
    assert not write_for_report(report, now=NOW, request_id="r", attempt=attempt, version=task.version).allows(task)


@pytest.mark.parametrize("word", ["skipped", "cancelled"])
def test_seal_covers_what_is_open_and_never_a_success(word: str) -> None:
    (report,) = reports(word)
    write = write_for_report(report, now=NOW, request_id="r", attempt=1, version=3)
    open_to_it = {status for status in TaskStatus if write.allows(a_task(status))}
    assert write.max_precedence == COMPLETED_PRECEDENCE
    assert open_to_it == set(TaskStatus) - SEALED - {TaskStatus.PENDING, TaskStatus.COMPLETED}


def test_each_update_makes_a_record_of_its_own_in_order() -> None:
    # given the same word a hundred times, and later once more
    first, later = reports(*["running"] * 100), reports("running")
    views = [translation.task_status_view(item, models.TaskStatusItem(task_name="a"), a_task(), NOW) for item in first]

    records = [report.record or "" for report in first]
    assert records == sorted(set(records))
    assert len({view["id"] for view in views}) == 100
    assert {report.fingerprint for report in first} == {later[0].fingerprint}, "said twice, it is the same report"


def test_each_unknown_name_is_listed_once() -> None:
    names = ["a", "x", "b", "y", "x"]
    body = models.TaskStatuses.model_validate({"statuses": [{"task_name": name} for name in names]})
    with pytest.raises(UnknownTasksError, match='"x", "y"') as refused:
        translation.check_names(body, ["a", "b"])
    assert refused.value.names == ["x", "y"]


def test_every_status_has_a_superai_status() -> None:
    assert set(models.EXECUTION_STATUS) == set(ExecutionStatus)
    assert set(translation.PROCESSING_STATUS) == set(TaskStatus)


CLEARED: Final[list[tuple[dict[str, Any], str]]] = [
    ({"task_name": "a", "status": None}, "running"),
    ({"task_name": "a"}, "running"),
    ({"task_name": "a", "status": "odd"}, "odd"),
]


@pytest.mark.parametrize(("body", "status"), CLEARED)
def test_record_shows_the_reported_status_or_that_of_the_task(body: dict[str, Any], status: str) -> None:
    item = models.TaskStatusItem.model_validate(body)
    assert translation.task_status_view(item.report("r"), item, a_task(), NOW)["status"] == status
