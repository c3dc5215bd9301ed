"""What reports, retries and whole task lives cost: calls and units, counted by the rules that DynamoDB bills by."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import pytest

from tasklatch.domain.overdue import LOST_CHANGE_MS
from tasklatch.dynamodb import keys
from tasklatch.runtime.settings import get_settings
from tests.benchmarks.metered_service import Service, metered_service
from tests.benchmarks.metering import item_size
from tests.factories import a_task, fresh_name, stored_item
from tests.integration.emulators import Table, create_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

HISTORY: Final = "batch_write_item"


@pytest.fixture
def service(statements_table: Table, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The service, on a tenant of its own, with all that it uses counted."""
    monkeypatch.setenv("TENANT_CLAIM", "tenant")
    with metered_service(statements_table.client, "ledger") as metered:
        metered.claims = {"tenant": statements_table.tenant}
        yield metered


def create(service: Service, count: int) -> list[str]:
    task_ids = [f"task-{number}" for number in range(count)]
    service.create("nightly", *({"taskId": task_id} for task_id in task_ids))
    return task_ids


def test_a_report_is_one_call_and_one_write_unit(service: Service) -> None:
    # given
    task_id, _ = create(service, 2)

    # when
    with service.used() as used:
        service.report_only("nightly", task_id, "IN_PROGRESS", attempt=1)

    # then
    assert used.calls == {"update_item": 1}
    assert (used.write_units, used.index_units, used.read_units) == (1, 0, 0)


def test_a_report_on_a_claimed_task_is_one_call_and_one_write_unit(service: Service) -> None:
    # given
    service.create("nightly", {"taskId": "task", "queue": "work"}, {"taskId": "other"})
    [item] = service.claim("work", claimId="mine")

    # when
    with service.used() as used:
        service.report_only("nightly", item["taskId"], "FAILED", taskExecutionId=item["taskExecutionId"])

    # then
    assert used.calls == {"update_item": 1}
    assert (used.write_units, used.index_units, used.read_units) == (1, 0, 0)


@pytest.mark.parametrize(("claim", "records"), [({}, 0), ({"claimId": "mine"}, 1)])
def test_what_a_claim_costs(service: Service, claim: dict[str, str], records: int) -> None:
    # given: tasks of one execution
    count = 3
    tasks = [{"taskId": f"task-{number}", "queue": "work", "input": {"n": number}} for number in range(count)]
    service.create("nightly", *tasks)

    # when
    with service.used() as used:
        items = service.claim("work", max=10, **claim)

    # then: four shards are read, and three tasks with their inputs; the index loses three entries
    assert len(items) == count
    calls = {"query": 4, "batch_get_item": 2, "batch_execute_statement": 1, "get_item": records, "put_item": records}
    assert +used.calls == +Counter(calls)
    assert (used.write_units, used.index_units) == (count + records, count)
    assert used.read_units == 4 * 0.5 + 2 * count + records


def test_a_claim_that_finds_nothing_reads_two_units(service: Service) -> None:
    # when
    with service.used() as used:
        items = service.claim("work")

    # then
    assert items == []
    assert used.calls == {"query": 4}
    assert (used.write_units, used.index_units, used.read_units) == (0, 0, 2)


@pytest.mark.parametrize(("queue", "more"), [(None, 0), ("work", 2)])
def test_a_task_that_a_queue_hands_out_costs_two_units_of_the_index_more(
    service: Service, queue: str | None, more: int
) -> None:
    # given
    fields = {} if queue is None else {"queue": queue}

    # when
    with service.used() as used:
        service.create("nightly", {"taskId": "task", **fields})
        service.report("nightly", "task", "COMPLETED", attempt=1)

    # then: it is put into the list when it is scheduled, and taken out by what follows
    the_task, the_execution = 2, 2
    assert used.index_units == the_task + the_execution + more


def test_a_success_also_leaves_the_list_of_open_tasks(service: Service) -> None:
    # given
    task_id, _ = create(service, 2)

    # when
    with service.used() as used:
        service.report_only("nightly", task_id, "COMPLETED", attempt=1)

    # then
    assert used.calls == {"update_item": 1}
    assert (used.write_units, used.index_units, used.read_units) == (1, 1, 0)


@pytest.mark.parametrize(("status", "counted"), [("COMPLETED", 0), ("FAILED", 1)])
def test_a_report_that_changes_nothing_costs_its_entry_in_the_history_besides(
    service: Service, status: str, counted: int
) -> None:
    # given
    task_id, _ = create(service, 2)
    service.report("nightly", task_id, "COMPLETED", attempt=1)

    # when
    with service.used() as used:
        service.report("nightly", task_id, status, attempt=1)

    # then: one that is not the deciding report again is counted first, so that what is stored has an end
    assert +used.calls == +Counter({"update_item": 1, "query": counted, HISTORY: 1})
    assert (used.write_units, used.index_units, used.read_units) == (2, 0, counted)
    assert used.invocations == {"report_status": 1}


def test_an_applied_report_costs_its_entry_in_the_history_and_one_event(service: Service) -> None:
    # given
    task_id, _ = create(service, 2)

    # when
    with service.used() as used:
        service.report("nightly", task_id, "IN_PROGRESS", attempt=1)

    # then
    assert used.calls == {"update_item": 1, HISTORY: 1, "query": 1}
    assert (used.write_units, used.index_units) == (2, 0)
    assert used.events == 1
    assert used.invocations == {"report_status": 1, "notifier": 1}


def test_a_heartbeat_is_one_write_unit_and_wakes_no_other_function(service: Service) -> None:
    # given
    service.create("nightly", {"taskId": "task", "heartbeatTimeoutSeconds": 60, "timeoutSeconds": 600})
    service.report("nightly", "task", "IN_PROGRESS", attempt=1)

    # when
    with service.used() as used:
        for _ in range(3):
            service.heartbeat("nightly", "task", attempt=1)

    # then
    assert used.calls == {"update_item": 3}
    assert (used.write_units, used.index_units, used.read_units) == (3, 0, 0)
    assert used.invocations == {"report_status": 3}


def test_a_report_after_a_heartbeat_is_followed(service: Service) -> None:
    # given
    service.create("nightly", {"taskId": "task", "heartbeatTimeoutSeconds": 60}, {"taskId": "other"})
    service.report("nightly", "task", "IN_PROGRESS", attempt=1)
    service.heartbeat("nightly", "task", attempt=1)

    # when
    with service.used() as used:
        service.report("nightly", "task", "FAILED", attempt=1)

    # then
    assert used.events == 1
    assert used.invocations == {"report_status": 1, "notifier": 1, "retry_scheduler": 1}


def test_what_follows_a_success_costs_one_write_unit_and_reads_one_open_task(service: Service) -> None:
    # given
    task_id, *_ = create(service, 10)
    service.report_only("nightly", task_id, "COMPLETED", attempt=1)

    # when
    with service.used() as used:
        service.settle()

    # then
    assert (used.write_units, used.index_units, used.read_units) == (1, 0, 2.5)
    assert used.calls == {HISTORY: 1, "query": 2, "batch_get_item": 1}
    assert used.queue_requests == 0
    assert used.invocations == {"notifier": 1}


def test_a_retry_costs_four_write_units_and_three_queue_requests(service: Service) -> None:
    # given
    task_id, _ = create(service, 2)

    # when
    with service.used() as used:
        service.report("nightly", task_id, "FAILED", attempt=1)
        fired = service.fire_timers()

    # then
    assert fired == 1
    assert (used.write_units, used.index_units) == (4, 0)
    assert used.events == 2
    assert used.queue_requests == 3
    assert used.invocations == {"report_status": 1, "notifier": 2, "retry_scheduler": 1, "retry_dispatcher": 1}


def test_a_task_s_whole_life_costs_eight_write_units_and_two_of_the_index(service: Service) -> None:
    # given
    count = 10

    # when
    with service.used() as used:
        for task_id in create(service, count):
            service.report("nightly", task_id, "IN_PROGRESS", attempt=1)
            service.report("nightly", task_id, "COMPLETED", attempt=1)

    # then: each is put, scheduled, begun and completed, and each of these is kept in its history
    the_execution = (2, 2)
    assert (used.write_units - the_execution[0], used.index_units - the_execution[1]) == (8 * count, 2 * count)


@pytest.mark.parametrize("status", ["IN_PROGRESS", "COMPLETED"])
def test_a_report_costs_the_same_in_an_execution_of_any_size(
    service: Service, statements_table: Table, status: str
) -> None:
    # given
    few = create(service, 10)
    with service.used() as in_small:
        service.report("nightly", few[0], status, attempt=1)
    more = (a_task(tenant=statements_table.tenant, task_id=f"task-{number}") for number in range(10, 400))
    statements_table.put(*map(stored_item, more))

    # when
    with service.used() as in_large:
        service.report("nightly", few[1], status, attempt=1)

    # then
    assert in_large == in_small


def test_the_longest_message_costs_one_write_unit_more(service: Service, statements_table: Table) -> None:
    # given
    task_id, _ = create(service, 2)

    # when
    with service.used() as used:
        service.report_only("nightly", task_id, "IN_PROGRESS", attempt=1, message="x" * 1024)

    # then
    stored = statements_table.item(keys.execution_pk(statements_table.tenant, "nightly"), keys.task_sk(task_id))
    assert stored is not None
    assert 1024 < item_size(stored) <= 2048
    assert used.write_units == 2


def test_hundred_reports_are_a_read_and_four_calls_and_hundred_units_of_each(service: Service) -> None:
    # given
    task_ids = create(service, 100)

    # when
    with service.used() as used:
        service.report_all("nightly", [{"taskId": name, "status": "IN_PROGRESS", "attempt": 1} for name in task_ids])

    # then
    assert used.calls == {"batch_get_item": 1, "batch_execute_statement": 4}
    assert (used.write_units, used.index_units, used.read_units) == (100, 0, 100)


def test_hundred_reports_that_change_nothing_cost_no_failed_write(service: Service) -> None:
    # given
    task_ids = create(service, 100)
    reports = [{"taskId": name, "status": "COMPLETED", "attempt": 1} for name in task_ids]
    service.report_all("nightly", reports)

    # when
    with service.used() as used:
        service.report_all("nightly", reports)

    # then
    assert used.calls == {"batch_get_item": 1, HISTORY: 4}
    assert (used.write_units, used.index_units, used.read_units) == (100, 0, 100)


HOUR_MS: Final = 3_600_000
PATIENT: Final = {"maxAttempts": 2, "initialSeconds": 3_600, "maxSeconds": 3_600, "jitter": 0}


def test_a_long_timer_costs_its_entry_on_the_list_and_its_removal(service: Service) -> None:
    # given
    service.create("nightly", {"taskId": "patient", "retryPolicy": PATIENT}, {"taskId": "other"})
    service.report_only("nightly", "patient", "FAILED", attempt=1)

    # when
    with service.used() as scheduled:
        service.settle()
    service.clock.now += HOUR_MS - 60_000
    with service.used() as swept:
        summary = service.run_on_schedule("timer_sweeper")

    # then: beside the entry in the history, one write puts it on the list, and one takes it off
    assert (scheduled.write_units, scheduled.index_units, scheduled.queue_requests) == (2, 1, 0)
    assert summary == {"sent": 1, "left": 0, "faults": 0}
    assert (swept.write_units, swept.index_units, swept.queue_requests) == (1, 1, 1)
    assert swept.calls == {"query": keys.SHARDS, "batch_get_item": 1, "update_item": 1}


def test_a_success_before_a_long_timer_also_takes_it_off_the_list(service: Service) -> None:
    # given
    service.create("nightly", {"taskId": "patient", "retryPolicy": PATIENT}, {"taskId": "other"})
    service.report("nightly", "patient", "FAILED", attempt=1)

    # when
    with service.used() as used:
        service.report_only("nightly", "patient", "COMPLETED", attempt=1)

    # then: one call and one write unit; it leaves the list of open tasks too
    assert used.calls == {"update_item": 1}
    assert (used.write_units, used.index_units) == (1, 2)


@pytest.fixture
def alone(ministack: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The service on a table of its own, because sweeps and the reconciler go through all of it."""
    name = f"ledger-{fresh_name()}"
    create_table(ministack, name)
    monkeypatch.setenv("TABLE_NAME", name)
    get_settings.cache_clear()
    with metered_service(ministack, name) as metered:
        metered.finish_update()
        yield metered
    ministack.delete_table(TableName=name)
    get_settings.cache_clear()


def test_an_idle_stack_reads_each_shard_and_writes_nothing(alone: Service) -> None:
    # given
    for function in ("timer_sweeper", "reconciler"):
        # when
        with alone.used() as used:
            alone.run_on_schedule(function)

        # then
        assert used.calls["query"] == keys.SHARDS
        assert (used.write_units, used.index_units) == (0, 0)
        assert used.read_units <= keys.SHARDS / 2 + 2


def test_the_reconciler_costs_what_runs_and_not_what_has_ended(alone: Service) -> None:
    # given
    create(alone, 10)
    with alone.used() as before:
        alone.run_on_schedule("reconciler")
    for number in range(20):
        alone.create(f"over-{number}", {"taskId": "only"})
        alone.report(f"over-{number}", "only", "COMPLETED", attempt=1)
    alone.clock.now += LOST_CHANGE_MS + 1
    alone.run_on_schedule("reconciler")

    # when: all that ended has been seen to be done
    with alone.used() as after:
        alone.run_on_schedule("reconciler")

    # then: the execution, its open tasks and, once they have waited for a while, their entries in the history
    assert (before.read_units, before.write_units) == (22.0, 2)
    assert (after.read_units, after.write_units) == (32.0, 2)
    assert after.index_units == 0
