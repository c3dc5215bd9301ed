"""Lists and details, on both emulators: the items are put as the service would have left them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pytest

from tasklatch.domain.errors import InvalidRequestError, NotFoundError
from tasklatch.domain.execution import Execution, ExecutionFilter
from tasklatch.domain.history import HistoryEntry, change_entry, ignored_entry
from tasklatch.domain.report import Verdict
from tasklatch.domain.status import ExecutionStatus, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.execution_item import execution_to_item
from tasklatch.executions import reader as execution_reader
from tasklatch.executions.reader import ExecutionReader
from tasklatch.ledger.history import History
from tests.factories import NOW, a_report, a_task, fixed_clock, fresh_name, stored_item
from tests.integration.emulators import Table, counted_calls, make_backoff

HOUR: Final = 3_600_000


def reader_of(table: Table) -> ExecutionReader:
    return ExecutionReader(table.client, table.settings, fixed_clock, make_backoff())


def given_executions(table: Table, *statuses: ExecutionStatus) -> list[Execution]:
    """Executions an hour apart, the first the oldest."""
    executions = [
        Execution(
            tenant=table.tenant,
            execution_id=f"run-{number:03d}",
            status=status,
            version=1,
            created_at=NOW + number * HOUR,
            updated_at=NOW + number * HOUR,
            definition="0" * 16,
        )
        for number, status in enumerate(statuses)
    ]
    table.put(*map(execution_to_item, executions))
    return executions


def all_pages(lister: Any, *arguments: Any, limit: int, **filters: Any) -> list[Any]:
    """Read a list to its end, a page at a time."""
    result: list[Any] = []
    cursor: str | None = None
    for _ in range(100):
        page, cursor = lister(*arguments, limit=limit, cursor=cursor, **filters)
        assert len(page) <= limit
        result += page
        if cursor is None:
            return result
    raise AssertionError("the list does not end")


RUNNING, DONE = ExecutionStatus.RUNNING, ExecutionStatus.COMPLETED
ARE_DONE = ExecutionFilter(frozenset({DONE}))


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_executions_are_listed_newest_first_each_once(table: Table, limit: int) -> None:
    executions = given_executions(table, *[RUNNING] * 7)
    result = all_pages(reader_of(table).list_executions, table.tenant, limit=limit)
    assert result == executions[::-1]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_executions_are_found_by_status_and_time(table: Table, limit: int) -> None:
    # given
    executions = given_executions(table, RUNNING, DONE, DONE, RUNNING, DONE, RUNNING)

    # when
    result = all_pages(
        reader_of(table).list_executions,
        table.tenant,
        limit=limit,
        criteria=ARE_DONE,
        created_after=NOW + 2 * HOUR,
        created_before=NOW + 4 * HOUR,
    )

    # then
    assert result == [executions[4], executions[2]], "both ends belong to it"


def test_search_that_finds_little_stops_for_breath_and_can_be_gone_on_with(table: Table) -> None:
    # given
    executions = given_executions(table, DONE, *[RUNNING] * 30)

    # when
    page, cursor = reader_of(table).list_executions(table.tenant, limit=2, criteria=ARE_DONE)
    rest = all_pages(reader_of(table).list_executions, table.tenant, limit=2, criteria=ARE_DONE)

    # then
    assert page == []
    assert cursor is not None
    assert rest == executions[:1]


def test_executions_of_another_tenant_are_not_listed(table: Table) -> None:
    given_executions(table, RUNNING)
    assert reader_of(table).list_executions(fresh_name(), limit=10) == ([], None)


def given_tasks(table: Table, *statuses: TaskStatus) -> list[Task]:
    (execution,) = given_executions(table, RUNNING)
    tasks = [
        a_task(status, tenant=table.tenant, execution_id=execution.execution_id, task_id=f"task {number:03d}")
        for number, status in enumerate(statuses)
    ]
    table.put(*map(stored_item, tasks))
    # What lies beside the tasks is no task.
    pk = {"S": keys.execution_pk(table.tenant, execution.execution_id)}
    table.put(
        *({"pk": pk, "sk": {"S": sk}} for sk in (keys.input_sk("task 000"), keys.early_output_sk("task 000", 1, "f")))
    )
    return tasks


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_tasks_are_listed_by_id_each_once(table: Table, limit: int) -> None:
    tasks = given_tasks(table, *[TaskStatus.SCHEDULED, TaskStatus.FAILED] * 4)
    assert all_pages(reader_of(table).list_tasks, table.tenant, "run-000", limit=limit) == tasks
    failed = all_pages(reader_of(table).list_tasks, table.tenant, "run-000", limit=limit, status=TaskStatus.FAILED)
    assert failed == tasks[1::2]


def test_tasks_are_counted_by_status(table: Table) -> None:
    given_tasks(table, TaskStatus.PENDING, TaskStatus.FAILED, TaskStatus.PENDING)
    counts = reader_of(table).count_tasks(table.tenant, "run-000")
    assert counts == ({TaskStatus.PENDING: 2, TaskStatus.FAILED: 1}, None)


def test_tasks_of_a_large_execution_are_counted_part_by_part(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    # given two pages of 1 MB, of which a request counts one
    large = [
        stored_item(replace(task, message="m" * 390_000)) for task in given_tasks(table, *[TaskStatus.PENDING] * 3)
    ]
    for item in large:
        table.put(item)
    monkeypatch.setattr(execution_reader, "COUNTED_PAGES", 1)

    # when
    first, cursor = reader_of(table).count_tasks(table.tenant, "run-000")
    assert cursor is not None
    rest, end = reader_of(table).count_tasks(table.tenant, "run-000", cursor=cursor)

    # then
    assert 0 < sum(first.values()) < 3
    assert (sum(first.values()) + sum(rest.values()), end) == (3, None)
    with pytest.raises(InvalidRequestError):
        reader_of(table).count_tasks(table.tenant, "other", cursor=cursor)


def test_list_of_an_execution_that_is_not_there_is_not_found(table: Table) -> None:
    with pytest.raises(NotFoundError):
        reader_of(table).list_tasks(table.tenant, "run-000", limit=10)


@pytest.mark.parametrize("task_id", ["no such task", "task 000#1", ""])
def test_detail_of_a_task_that_is_not_there_is_not_found(table: Table, task_id: str) -> None:
    given_tasks(table, TaskStatus.PENDING)
    with pytest.raises(NotFoundError):
        reader_of(table).get_task_detail(table.tenant, "run-000", task_id)


def test_cursor_is_good_only_for_the_list_and_the_filter_it_came_from(table: Table) -> None:
    # given
    given_executions(table, *[RUNNING] * 3)
    given_tasks(table, *[TaskStatus.PENDING] * 3)
    reader = reader_of(table)
    _, of_executions = reader.list_executions(table.tenant, limit=1)
    _, of_tasks = reader.list_tasks(table.tenant, "run-000", limit=1)
    assert of_executions is not None
    assert of_tasks is not None

    # when / then
    for refused in (
        lambda: reader.list_executions(table.tenant, limit=1, cursor=of_tasks),
        lambda: reader.list_executions(table.tenant, limit=1, cursor=of_executions, criteria=ARE_DONE),
        lambda: reader.list_executions(table.tenant, limit=1, cursor=of_executions, created_before=NOW),
        lambda: reader.list_executions(fresh_name(), limit=1, cursor=of_executions),
        lambda: reader.list_tasks(table.tenant, "run-000", limit=1, cursor=of_executions),
        lambda: reader.list_tasks(table.tenant, "run-001", limit=1, cursor=of_tasks),
    ):
        with pytest.raises(InvalidRequestError):
            refused()


def given_history(table: Table) -> list[HistoryEntry]:
    first = a_task(TaskStatus.SCHEDULED, tenant=table.tenant, version=9)
    done = a_task(TaskStatus.COMPLETED, tenant=table.tenant, version=10, message="fine", request_id="request")
    late = a_report(TaskStatus.FAILED, attempt=1, message="late", platform_status="broken", output="{}")
    other = a_report(TaskStatus.FAILED)
    entries = [
        change_entry(first, None),
        change_entry(done, first),
        ignored_entry(late, Verdict.IGNORED_AFTER_SUCCESS, done, now=NOW, request_id="request"),
        ignored_entry(other, Verdict.IGNORED_AFTER_SUCCESS, done, now=NOW, request_id="another"),
    ]
    History(table.client, table.settings, make_backoff()).put([(done, entry) for entry in entries])
    return entries


def comparable(entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """What a list shows of entries: the fingerprint is only in the key."""
    return [entry._replace(fingerprint=None) for entry in entries]


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_history_is_listed_in_order_of_versions(table: Table, limit: int) -> None:
    # given
    entries = given_history(table)

    # when
    history = History(table.client, table.settings, make_backoff())
    result = all_pages(history.list_entries, table.tenant, "nightly", "resize", limit=limit)

    # then
    assert [entry.version for entry in result] == [9, 10, 10, 10]
    assert comparable(result[:2]) == comparable(entries[:2])
    assert sorted(comparable(result[2:]), key=str) == sorted(comparable(entries[2:]), key=str)


def test_history_written_again_is_the_same_history(table: Table) -> None:
    # given
    given_history(table)
    pk = keys.history_pk(table.tenant, "nightly", "resize")
    before = table.items(pk)

    # when
    given_history(table)

    # then
    assert table.items(pk) == before
    assert all(int(item["expiresAt"]["N"]) == int(item["at"]["N"]) // 1000 + 90 * 86_400 for item in before)


def test_cursor_of_another_history_is_refused(table: Table) -> None:
    given_history(table)
    history = History(table.client, table.settings, make_backoff())
    _, cursor = history.list_entries(table.tenant, "nightly", "resize", limit=1, cursor=None)
    with pytest.raises(InvalidRequestError):
        history.list_entries(table.tenant, "nightly", "another", limit=1, cursor=cursor)


def test_page_of_executions_costs_two_calls(table: Table) -> None:
    given_executions(table, *[RUNNING] * 25)
    with counted_calls(table.client) as calls:
        reader_of(table).list_executions(table.tenant, limit=25)
    assert calls["Query"] <= 2
    assert calls["BatchGetItem"] <= 2
