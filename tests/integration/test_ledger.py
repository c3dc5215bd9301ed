"""The single writer, on both emulators."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from tasklatch.domain.conditional_write import next_attempt_write
from tasklatch.domain.errors import AttemptNotOpenError, NotFoundError, ServiceBusyError
from tasklatch.domain.history import MAX_IGNORED_ENTRIES
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.status import COMPLETED_PRECEDENCE, REPORTABLE, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.ledger.history import History
from tasklatch.ledger.ledger import Ledger
from tasklatch.ledger.payloads import Payloads
from tests.factories import NOW, FakeTime, a_report, a_task, fixed_clock, fresh_name, stored_item
from tests.integration.emulators import Table, counted_calls, intercepted, make_backoff

DAY_SECONDS = 86_400


def ledger_of(table: Table, client: Any = None, time_left: FakeTime | None = None) -> Ledger:
    return Ledger(client or table.client, table.settings, fixed_clock, make_backoff(time_left))


def given_task(table: Table, status: TaskStatus = TaskStatus.IN_PROGRESS, attempt: int = 1, **fields: Any) -> Task:
    task = a_task(status, attempt, tenant=table.tenant, **fields)
    table.put(stored_item(task))
    return task


def stored(table: Table, task: Task) -> dict[str, Any]:
    item = table.item(keys.execution_pk(task.tenant, task.execution_id), keys.task_sk(task.task_id))
    assert item is not None
    return item


def record(table: Table, report: Report, **how: Any) -> Any:
    return ledger_of(table, **how).record(table.tenant, "nightly", report, fresh_name())


def ignored(table: Table) -> list[Any]:
    history = History(table.client, table.settings, make_backoff())
    return list(history.list_entries(table.tenant, "nightly", "resize", limit=100, cursor=None)[0])


def test_success_is_stored_before_it_is_answered(table: Table) -> None:
    # given
    before = given_task(table, platform_status="resizing", failure_reason=None, message="half way")

    # when
    recorded = record(table, a_report(attempt=1))

    # then
    assert recorded.verdict is Verdict.APPLIED
    item = stored(table, before)
    assert task_from_item(item) == recorded.task
    assert recorded.task.status is TaskStatus.COMPLETED
    assert recorded.task.precedence == COMPLETED_PRECEDENCE
    assert recorded.task.version == before.version + 1
    assert recorded.task.ended_at == recorded.task.updated_at == NOW
    assert recorded.task.message is None, "what the earlier status said is no longer true"


def test_closing_write_takes_the_task_off_the_open_list_and_renews_its_expiry(table: Table) -> None:
    # given
    task = given_task(table)
    assert keys.LIST_KEY in stored(table, task)

    # when
    record(table, a_report(TaskStatus.FAILED, attempt=1))
    after_failure = stored(table, task)
    record(table, a_report(TaskStatus.COMPLETED, attempt=1))
    after_success = stored(table, task)

    # then
    assert keys.LIST_KEY in after_failure, "a failure can be followed by another attempt"
    assert keys.LIST_KEY not in after_success
    assert keys.LIST_SORT not in after_success
    assert int(after_success["expiresAt"]["N"]) == NOW // 1000 + table.settings.retention_days * DAY_SECONDS


def test_failure_after_success_changes_nothing_and_is_kept_in_history(table: Table) -> None:
    # given
    task = given_task(table)
    record(table, a_report(attempt=1))
    after_success = stored(table, task)

    # when
    recorded = record(table, a_report(TaskStatus.FAILED, attempt=1, message="too late"))

    # then
    assert recorded.verdict is Verdict.IGNORED_AFTER_SUCCESS
    assert recorded.task.status is TaskStatus.COMPLETED
    assert stored(table, task) == after_success
    (entry,) = ignored(table)
    assert (entry.verdict, entry.status, entry.attempt) == (recorded.verdict, TaskStatus.FAILED, 1)
    assert (entry.message, entry.version) == ("too late", recorded.task.version)


def test_success_of_an_older_attempt_rescues_the_task(table: Table) -> None:
    # given
    given_task(table, TaskStatus.SCHEDULED, attempt=2)

    # when
    recorded = record(table, a_report(attempt=1))

    # then
    assert recorded.verdict is Verdict.APPLIED
    assert (recorded.task.status, recorded.task.attempt) == (TaskStatus.COMPLETED, 2)


def test_failure_of_an_older_attempt_is_stale(table: Table) -> None:
    # given
    task = given_task(table, TaskStatus.SCHEDULED, attempt=2)
    before = stored(table, task)

    # when
    recorded = record(table, a_report(TaskStatus.FAILED, attempt=1))

    # then
    assert recorded.verdict is Verdict.STALE_ATTEMPT
    assert stored(table, task) == before


def test_identical_repeat_gets_the_first_answer_as_a_duplicate(table: Table) -> None:
    # given
    given_task(table)
    report = a_report(TaskStatus.FAILED, attempt=1, message="disk full", output='{"a":1}')
    first = record(table, report)

    # when
    second = record(table, report)

    # then
    assert (first.verdict, second.verdict) == (Verdict.APPLIED, Verdict.DUPLICATE)
    assert second.task == first.task


def test_repeat_of_a_failure_is_a_duplicate_also_when_the_next_attempt_is_open(table: Table) -> None:
    # given
    report = a_report(TaskStatus.FAILED, attempt=1, message="disk full")
    given_task(table, TaskStatus.SCHEDULED, attempt=2, outcome=report.fingerprint)

    # when
    recorded = record(table, report)

    # then
    assert recorded.verdict is Verdict.DUPLICATE


@pytest.mark.parametrize("status", [TaskStatus.IN_PROGRESS, TaskStatus.FAILED, TaskStatus.COMPLETED])
def test_attempt_that_was_never_opened_is_refused(table: Table, status: TaskStatus) -> None:
    # given
    task = given_task(table)
    before = stored(table, task)

    # when
    with pytest.raises(AttemptNotOpenError):
        record(table, a_report(status, attempt=2))

    # then
    assert stored(table, task) == before
    assert ignored(table) == []


@pytest.mark.parametrize("attempt", [None, 1])
def test_unknown_task_is_not_found(table: Table, attempt: int | None) -> None:
    with pytest.raises(NotFoundError):
        record(table, a_report(TaskStatus.FAILED, attempt=attempt))
    assert table.items(keys.execution_pk(table.tenant, "nightly")) == []


@pytest.mark.parametrize("output", [None, '{"pages":3}'])
@pytest.mark.parametrize("attempt", [None, 1])
@pytest.mark.parametrize("status", sorted(REPORTABLE))
def test_report_on_a_task_that_waits_is_refused_and_nothing_is_written(
    table: Table, status: TaskStatus, attempt: int | None, output: str | None
) -> None:
    # given
    task = given_task(table, TaskStatus.PENDING)
    before = stored(table, task)

    # when
    with pytest.raises(AttemptNotOpenError, match="attempt 1 is not open: the task waits"):
        record(table, a_report(status, attempt=attempt, output=output))

    # then
    assert table.items(keys.execution_pk(table.tenant, "nightly")) == [before]
    assert ignored(table) == []


@pytest.mark.parametrize(("attempt", "names"), [(1, None), (1, 1), (2, None), (2, 2), (1, 2)])
def test_heartbeat_of_an_attempt_that_is_not_open_is_refused_and_nothing_is_written(
    table: Table, attempt: int, names: int | None
) -> None:
    # given
    task = given_task(table, TaskStatus.PENDING, attempt)
    before = stored(table, task)

    # when
    with pytest.raises(AttemptNotOpenError):
        ledger_of(table).heartbeat(table.tenant, "nightly", "resize", names, 0.5)

    # then
    assert stored(table, task) == before


def test_late_success_counts_while_the_task_waits_again(table: Table) -> None:
    given_task(table, TaskStatus.PENDING, attempt=2)
    recorded = record(table, a_report(attempt=1, output='{"pages":3}'))
    assert (recorded.verdict, recorded.task.status) == (Verdict.APPLIED, TaskStatus.COMPLETED)


def test_output_is_kept_beside_the_task_and_read_back(table: Table) -> None:
    # given
    given_task(table)

    # when
    recorded = record(table, a_report(attempt=1, output='{"pages":[1,2]}'))

    # then
    assert Payloads(table.client, table.settings, make_backoff()).get_output(recorded.task) == '{"pages":[1,2]}'
    assert "pages" not in str(stored(table, recorded.task))


@pytest.mark.parametrize(
    ("report", "prepared", "expected"),
    [
        pytest.param(a_report(TaskStatus.FAILED, attempt=1), TaskStatus.IN_PROGRESS, ["UpdateItem"], id="failure"),
        pytest.param(a_report(TaskStatus.IN_PROGRESS, attempt=1), TaskStatus.SCHEDULED, ["UpdateItem"], id="progress"),
        pytest.param(a_report(attempt=1), TaskStatus.IN_PROGRESS, ["UpdateItem"], id="success"),
        pytest.param(a_report(), TaskStatus.IN_PROGRESS, ["UpdateItem"], id="success that names no attempt"),
        pytest.param(
            a_report(attempt=1, output="{}"),
            TaskStatus.IN_PROGRESS,
            ["BatchWriteItem", "GetItem", "UpdateItem"],
            id="success with output",
        ),
        pytest.param(
            a_report(TaskStatus.FAILED), TaskStatus.IN_PROGRESS, ["GetItem", "UpdateItem"], id="no attempt named"
        ),
        pytest.param(
            a_report(TaskStatus.FAILED, attempt=1),
            TaskStatus.COMPLETED,
            ["BatchWriteItem", "Query", "UpdateItem"],
            id="ignored",
        ),
    ],
)
def test_report_costs_no_more_calls_than_it_must(
    table: Table, report: Report, prepared: TaskStatus, expected: list[str]
) -> None:
    # given
    given_task(table, prepared)

    # when
    with counted_calls(table.client) as calls:
        record(table, report)

    # then
    assert sorted(calls.elements()) == expected


def size_of(value: dict[str, Any]) -> int:
    """Bytes of an attribute value as DynamoDB's documentation counts them."""
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(str(content).encode())
        case "N":
            digits = str(content).lstrip("-0").replace(".", "").strip("0")
            return (len(digits) + 1) // 2 + 1 + str(content).startswith("-")
        case "M":
            return 3 + sum(len(name.encode()) + size_of(item) + 1 for name, item in content.items())
        case "BOOL":
            return 1
    raise AssertionError(f"no rule for {kind}")


def test_typical_task_fits_one_write_unit(table: Table) -> None:
    # given
    execution_id, task_id = fresh_name(), f"crawl-{fresh_name()}"
    task = a_task(
        TaskStatus.SCHEDULED,
        attempt=2,
        tenant="a" * 32,
        execution_id=execution_id,
        task_id=task_id,
        scheduled_at=NOW,
        started_at=NOW,
        heartbeat_at=NOW,
        progress=0.25,
        timeout_seconds=3600,
        heartbeat_timeout_seconds=60,
        definition="0123456789ab",
    )
    table.put(stored_item(task))
    report = a_report(
        TaskStatus.FAILED,
        task_id,
        attempt=2,
        message="connection reset by the source while page 17 of 40 was fetched",
        output="{}",
        retry_after_seconds=30.0,
    )

    # when
    ledger_of(table).record("a" * 32, execution_id, report, "KZ8yHh7ADoEEPfQ=")

    # then
    item = table.item(keys.execution_pk("a" * 32, execution_id), keys.task_sk(task_id))
    assert item is not None
    assert sum(len(name.encode()) + size_of(value) for name, value in item.items()) < 1024


class LosesAnswers:
    """Performs the call, then loses the answer to the first `times` calls of an operation."""

    def __init__(self, operation: str, times: int = 1, then: Callable[[], None] = lambda: None) -> None:
        self.operation = operation
        self.left = times
        self.then = then

    def __call__(self, operation: str, call: Callable[[], Any], _: dict[str, Any]) -> Any:
        answer: Any = None
        refused: ClientError | None = None
        try:
            answer = call()
        except ClientError as error:
            refused = error
        if operation == self.operation and self.left:
            self.left -= 1
            self.then()
            raise ReadTimeoutError(endpoint_url="http://localhost")
        if refused is not None:
            raise refused
        return answer


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    "report",
    [
        a_report(attempt=1),
        a_report(TaskStatus.FAILED, attempt=1),
        a_report(TaskStatus.FAILED),
        a_report(TaskStatus.IN_PROGRESS, attempt=1),
    ],
    ids=["success", "failure", "no attempt named", "progress"],
)
def test_write_whose_answer_was_lost_is_applied_once(table: Table, report: Report, times: int) -> None:
    # given
    task = given_task(table, TaskStatus.SCHEDULED)
    client = intercepted(table.client, LosesAnswers("update_item", times))

    # when
    recorded = record(table, report, client=client)

    # then
    assert recorded.verdict is Verdict.APPLIED
    assert recorded.task.version == task.version + 1
    assert task_from_item(stored(table, task)) == recorded.task
    assert ignored(table) == []


def test_failure_that_names_no_attempt_is_not_counted_again_on_the_attempt_that_it_led_to(table: Table) -> None:
    # given: the write took effect, its answer was lost, and the next attempt was opened before it is sent again
    task = given_task(table)

    def open_next() -> None:
        failed = task_from_item(stored(table, task))
        ledger_of(table).write(table.tenant, "nightly", next_attempt_write(failed, now=NOW))

    client = intercepted(table.client, LosesAnswers("update_item", then=open_next))

    # when
    recorded = record(table, a_report(TaskStatus.FAILED), client=client)

    # then
    assert recorded.verdict is Verdict.DUPLICATE
    assert (recorded.task.status, recorded.task.attempt) == (TaskStatus.SCHEDULED, 2)
    assert task_from_item(stored(table, task)) == recorded.task


def test_lost_answer_to_an_ignored_report_keeps_its_verdict(table: Table) -> None:
    # given
    given_task(table, TaskStatus.COMPLETED)
    client = intercepted(table.client, LosesAnswers("batch_write_item"))

    # when
    recorded = record(table, a_report(TaskStatus.FAILED, attempt=1), client=client)

    # then
    assert recorded.verdict is Verdict.IGNORED_AFTER_SUCCESS
    assert len(ignored(table)) == 1


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "slow down"}}, "UpdateItem")


class Refuses:
    """Refuses the first `times` calls of an operation; every one where `times` is None."""

    def __init__(self, operation: str, code: str, times: int | None) -> None:
        self.operation = operation
        self.code = code
        self.left = times
        self.calls = 0

    def __call__(self, operation: str, call: Callable[[], Any], _: dict[str, Any]) -> Any:
        if operation == self.operation:
            self.calls += 1
            if self.left is None or self.left >= self.calls:
                raise refused(self.code)
        return call()


@pytest.mark.parametrize(
    "code",
    [
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "TransactionConflictException",
        "InternalServerError",
        "RequestLimitExceeded",
    ],
)
def test_throttled_write_goes_through_once_the_table_takes_it(table: Table, code: str) -> None:
    # given
    given_task(table)
    throttle = Refuses("update_item", code, 3)

    # when
    recorded = record(table, a_report(attempt=1), client=intercepted(table.client, throttle))

    # then
    assert recorded.verdict is Verdict.APPLIED
    assert throttle.calls == 4


@pytest.mark.parametrize("operation", ["update_item", "batch_write_item", "get_item"])
def test_endless_throttling_ends_as_busy_in_time_and_nothing_is_acknowledged(table: Table, operation: str) -> None:
    # given
    task = given_task(table)
    time_left = FakeTime(left_ms=5_000)
    client = intercepted(table.client, Refuses(operation, "ThrottlingException", None))

    # when
    with pytest.raises(ServiceBusyError):
        record(table, a_report(TaskStatus.FAILED, output="{}"), client=client, time_left=time_left)

    # then
    assert time_left.left_ms >= 1_000, "a second is kept for the answer"
    assert len(time_left.slept) > 3
    assert task_from_item(stored(table, task)) == task


def test_other_refusals_are_not_waited_out(table: Table) -> None:
    # given
    given_task(table)
    throttle = Refuses("update_item", "ValidationException", None)

    # when / then
    with pytest.raises(ClientError):
        record(table, a_report(attempt=1), client=intercepted(table.client, throttle))
    assert throttle.calls == 1


def test_ignored_reports_of_one_version_are_stored_up_to_a_limit(table: Table) -> None:
    # given
    before = given_task(table, TaskStatus.COMPLETED)
    late = [
        a_report(TaskStatus.FAILED, before.task_id, attempt=1, message=str(number))
        for number in range(MAX_IGNORED_ENTRIES + 2)
    ]
    for report in late[:MAX_IGNORED_ENTRIES]:
        assert record(table, report).is_stored

    # when
    beyond = [record(table, report) for report in late[MAX_IGNORED_ENTRIES:]]

    # then
    assert [result.verdict for result in beyond] == [Verdict.IGNORED_AFTER_SUCCESS] * 2, "the verdict is the same"
    assert [result.is_stored for result in beyond] == [False, False]
    entries = table.items(keys.history_pk(table.tenant, "nightly", before.task_id))
    assert len(entries) == MAX_IGNORED_ENTRIES


def test_outputs_of_reports_that_are_ignored_are_not_stored(table: Table) -> None:
    # given
    before = given_task(table, TaskStatus.COMPLETED)

    # when
    results = [
        record(table, a_report(TaskStatus.FAILED, before.task_id, attempt=1, output=f'{{"n":{number}}}'))
        for number in range(3)
    ]

    # then
    assert [result.verdict for result in results] == [Verdict.IGNORED_AFTER_SUCCESS] * 3
    assert table.items(keys.output_pk(table.tenant, "nightly", before.task_id)) == []


def test_no_output_is_stored_for_a_task_that_does_not_exist_or_is_not_open(table: Table) -> None:
    # given
    waiting = given_task(table, TaskStatus.PENDING)

    # when
    for task_id, error in ((waiting.task_id, AttemptNotOpenError), ("no such task", NotFoundError)):
        for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.IN_PROGRESS):
            for attempt in (None, 1):
                with pytest.raises(error):
                    record(table, a_report(status, task_id, attempt=attempt, output="{}"))

    # then
    for task_id in (waiting.task_id, "no such task"):
        assert table.items(keys.output_pk(table.tenant, "nightly", task_id)) == []


def test_output_that_version_0_1_stored_is_read(table: Table) -> None:
    # given
    task = given_task(table, TaskStatus.COMPLETED, output_attempt=1, output_fingerprint="f", ended_at=NOW)
    pk, sk = keys.execution_pk(table.tenant, "nightly"), keys.early_output_sk(task.task_id, 1, "f")
    table.put({"pk": {"S": pk}, "sk": {"S": sk}, "payload": {"S": '{"pages":[1,2]}'}})
    payloads = Payloads(table.client, table.settings, make_backoff())

    # when
    (detail,) = payloads.get_details(table.tenant, "nightly", [task])

    # then
    assert payloads.get_output(task) == detail.output == '{"pages":[1,2]}'


class MovesOn:
    """Writes another state of the task just before the first `times` conditional writes."""

    def __init__(self, table: Table, *states: Task) -> None:
        self.table = table
        self.states = list(states)

    def __call__(self, operation: str, call: Callable[[], Any], _: dict[str, Any]) -> Any:
        if operation == "update_item" and self.states:
            self.table.put(stored_item(self.states.pop(0)))
        return call()


def test_report_without_attempt_speaks_about_the_attempt_that_is_current_when_it_is_written(table: Table) -> None:
    # given
    read = given_task(table, TaskStatus.IN_PROGRESS, attempt=1, version=3)
    states = [
        a_task(TaskStatus.IN_PROGRESS, 1, tenant=table.tenant, version=4),
        a_task(TaskStatus.SCHEDULED, 2, tenant=table.tenant, version=5),
    ]

    # when
    recorded = record(table, a_report(TaskStatus.FAILED), client=intercepted(table.client, MovesOn(table, *states)))

    # then
    assert recorded.verdict is Verdict.APPLIED
    assert (recorded.task.attempt, recorded.task.version) == (2, 6)
    assert task_from_item(stored(table, read)) == recorded.task


def test_report_without_attempt_that_loses_against_a_success_is_ignored(table: Table) -> None:
    # given
    given_task(table)
    won = a_task(TaskStatus.COMPLETED, 1, tenant=table.tenant, version=4)

    # when
    recorded = record(table, a_report(TaskStatus.FAILED), client=intercepted(table.client, MovesOn(table, won)))

    # then
    assert recorded.verdict is Verdict.IGNORED_AFTER_SUCCESS
    assert recorded.task == won


@pytest.mark.parametrize(
    ("status", "attempt", "names", "goes_on"),
    [
        (TaskStatus.PENDING, 2, 1, False),
        (TaskStatus.SCHEDULED, 1, None, True),
        (TaskStatus.IN_PROGRESS, 2, 2, True),
        (TaskStatus.IN_PROGRESS, 2, 1, False),
        (TaskStatus.FAILED, 1, 1, False),
        (TaskStatus.TIMED_OUT, 1, 1, False),
        (TaskStatus.COMPLETED, 1, None, False),
        (TaskStatus.CANCELED, 1, 1, False),
    ],
)
def test_heartbeat_tells_whether_to_go_on(
    table: Table, status: TaskStatus, attempt: int, names: int | None, goes_on: bool
) -> None:
    # given
    before = given_task(table, status, attempt)

    # when
    result = ledger_of(table).heartbeat(table.tenant, "nightly", "resize", names, 0.5)

    # then
    assert result.should_continue is goes_on
    assert (result.reason is None) is goes_on
    after = task_from_item(stored(table, before))
    assert after == result.task
    assert (after.version, after.status, after.precedence) == (before.version, before.status, before.precedence)
    assert (after.heartbeat_at, after.progress) == ((NOW, 0.5) if goes_on else (None, None))


def test_heartbeat_of_an_unknown_task_is_not_found_and_makes_none(table: Table) -> None:
    with pytest.raises(NotFoundError):
        ledger_of(table).heartbeat(table.tenant, "nightly", "resize", None, None)
    assert table.items(keys.execution_pk(table.tenant, "nightly")) == []


def test_tenants_are_apart(table: Table) -> None:
    # given
    task = given_task(table)

    # when / then
    with pytest.raises(NotFoundError):
        ledger_of(table).record(fresh_name(), "nightly", a_report(attempt=1), fresh_name())
    assert task_from_item(stored(table, task)) == task
