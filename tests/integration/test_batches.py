"""Batches of reports: their order, their cost, and that what goes wrong concerns only the reports it is about."""

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from tasklatch.domain.errors import (
    AttemptNotOpenError,
    NotFoundError,
    ServiceBusyError,
    TasklatchError,
    UnexpectedError,
)
from tasklatch.domain.history import MAX_IGNORED_ENTRIES
from tasklatch.domain.report import Report, Verdict
from tasklatch.domain.results import ReportResult
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task import Task
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.ledger.history import History
from tasklatch.ledger.ledger import Ledger
from tests.factories import (
    Context,
    FakeTime,
    a_report,
    a_task,
    api_event,
    call_api,
    fixed_clock,
    fresh_name,
    stored_item,
)
from tests.integration.emulators import Table, counted_calls, intercepted, make_backoff

ROUTE: Final = "POST /v1/executions/{executionId}/statuses"
Load = Callable[[str, Any], ModuleType]


def given_tasks(table: Table, count: int, status: TaskStatus = TaskStatus.IN_PROGRESS, attempt: int = 1) -> list[str]:
    task_ids = [f"task-{index:03d}" for index in range(count)]
    table.put(*(stored_item(a_task(status, attempt, tenant=table.tenant, task_id=task_id)) for task_id in task_ids))
    return task_ids


def record_all(
    table: Table, reports: list[Report], client: Any = None, time_left: FakeTime | None = None
) -> list[ReportResult | TasklatchError]:
    ledger = Ledger(client or table.client, table.settings, fixed_clock, make_backoff(time_left))
    return ledger.record_all(table.tenant, "nightly", reports, fresh_name())


def stored(table: Table, task_id: str) -> Task:
    item = table.item(keys.execution_pk(table.tenant, "nightly"), keys.task_sk(task_id))
    assert item is not None
    return task_from_item(item)


def outcomes(results: list[ReportResult | TasklatchError]) -> list[Verdict | type[TasklatchError]]:
    return [result.verdict if isinstance(result, ReportResult) else type(result) for result in results]


def test_hundred_reports_on_hundred_tasks_cost_a_read_and_four_calls(statements_table: Table) -> None:
    # given
    table = statements_table
    task_ids = given_tasks(table, 100)

    # when
    with counted_calls(table.client) as calls:
        results = record_all(table, [a_report(task_id=task_id, attempt=1) for task_id in task_ids])

    # then
    assert outcomes(results) == [Verdict.APPLIED] * 100
    assert calls.pop("BatchGetItem") <= 4, "one, and what the table leaves unprocessed"
    assert calls == {"BatchExecuteStatement": 4}
    assert {stored(table, task_id).status for task_id in task_ids} == {TaskStatus.COMPLETED}


def test_reports_that_name_no_attempt_cost_the_same(statements_table: Table) -> None:
    # given
    table = statements_table
    task_ids = given_tasks(table, 100)

    # when
    with counted_calls(table.client) as calls:
        results = record_all(table, [a_report(TaskStatus.FAILED, task_id) for task_id in task_ids])

    # then
    assert outcomes(results) == [Verdict.APPLIED] * 100
    assert calls["BatchExecuteStatement"] == 4
    assert calls["BatchGetItem"] <= 4, "one, and what the table leaves unprocessed"


def test_hundred_reports_on_one_task_are_taken_in_order(statements_table: Table) -> None:
    # given
    table = statements_table
    (task_id,) = given_tasks(table, 1)
    reports = [a_report(TaskStatus.FAILED, task_id, attempt=1, message=f"{number}") for number in range(99)]

    # when
    results = record_all(table, [*reports, a_report(task_id=task_id, attempt=1)])

    # then
    assert outcomes(results) == [Verdict.APPLIED, *[Verdict.DUPLICATE] * 98, Verdict.APPLIED]
    assert stored(table, task_id).version == 5
    first = results[0]
    assert isinstance(first, ReportResult)
    assert first.task.message == "0"


def test_order_on_each_task_holds_when_tasks_are_mixed(statements_table: Table) -> None:
    # given
    table = statements_table
    item, other = given_tasks(table, 2, TaskStatus.SCHEDULED)

    # when
    results = record_all(
        table,
        [
            a_report(TaskStatus.IN_PROGRESS, item),
            a_report(task_id=other),
            a_report(TaskStatus.FAILED, item, message="first"),
            a_report(TaskStatus.FAILED, other),
            a_report(TaskStatus.FAILED, item, message="second"),
            a_report(task_id=item),
        ],
    )

    # then
    assert outcomes(results) == [
        Verdict.APPLIED,
        Verdict.APPLIED,
        Verdict.APPLIED,
        Verdict.IGNORED_AFTER_SUCCESS,
        Verdict.DUPLICATE,
        Verdict.APPLIED,
    ]


def test_errors_concern_only_their_own_report(statements_table: Table) -> None:
    # given
    table = statements_table
    item, other = given_tasks(table, 2)

    # when
    results = record_all(
        table,
        [
            a_report(task_id=item, attempt=1, output='{"a":1}'),
            a_report(TaskStatus.FAILED, "no such task", attempt=1),
            a_report(TaskStatus.FAILED, "nor this"),
            a_report(TaskStatus.FAILED, other, attempt=7),
            a_report(TaskStatus.FAILED, other, attempt=1),
        ],
    )

    # then
    assert outcomes(results) == [
        Verdict.APPLIED,
        NotFoundError,
        NotFoundError,
        AttemptNotOpenError,
        Verdict.APPLIED,
    ]
    assert stored(table, item).output_fingerprint is not None


def test_empty_batch_needs_no_call(statements_table: Table) -> None:
    with counted_calls(statements_table.client) as calls:
        assert record_all(statements_table, []) == []
    assert not calls


def test_bad_items_do_not_spoil_the_rest_of_a_request(statements_table: Table, load: Load) -> None:
    # given
    table = statements_table
    module = load("report_status", table.client)
    table.put(stored_item(a_task(execution_id=table.tenant, task_id="good")))
    statuses: list[Any] = [
        {"taskId": "good", "status": "FAILED", "attempt": 1},
        5,
        {"taskId": "good", "status": "EXPLODED"},
        {"taskId": "good", "status": "COMPLETED", "surprise": True},
        {"status": "COMPLETED"},
        {"taskId": "bad\u0000id", "status": "COMPLETED"},
        {"taskId": "good", "status": "COMPLETED", "output": {"text": "x" * 103_000}},
        {"taskId": "good", "status": "COMPLETED", "taskExecutionId": "00000100-0000-8000-8000-000000000000"},
        {"taskId": "missing", "status": "COMPLETED"},
        {"taskId": "good", "status": "COMPLETED", "attempt": 1},
    ]

    # when
    reply = call_api(
        module.handler,
        api_event(ROUTE, path={"executionId": table.tenant}, body={"statuses": statuses}),
    )

    # then
    assert reply.status == 200
    results = reply.body["results"]
    assert [result["index"] for result in results] == list(range(10))
    assert [item["status"] for item in results] == [200, 422, 422, 422, 422, 422, 413, 409, 404, 200]
    assert [results[0]["verdict"], results[-1]["verdict"]] == ["applied", "applied"]
    assert results[0]["retry"]["willRetry"] is True
    assert all(element["problem"]["request_id"] == reply.headers["x-request-id"] for element in results[1:-1])


class Statements:
    """Answers for the table to the statements that speak about `task_id`, the first `times` times (None: always)."""

    def __init__(self, task_id: str, code: str, times: int | None) -> None:
        self.key = {"S": keys.task_sk(task_id)}
        self.code = code
        self.left = times
        self.lock = threading.Lock()

    def __call__(self, operation: str, call: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if operation != "batch_execute_statement":
            return call()
        with self.lock:
            refused = [
                index for index, statement in enumerate(arguments["Statements"]) if self.key in statement["Parameters"]
            ]
            if not refused or self.left == 0:
                return call()
            if self.left is not None:
                self.left -= 1
        stored = [item for index, item in enumerate(arguments["Statements"]) if index not in refused]
        arguments["Statements"][:] = stored
        responses = call()["Responses"] if stored else []
        for index in refused:
            responses.insert(index, {"Error": {"Code": self.code, "Message": "slow down"}})
        return {"Responses": responses}


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_refused_statements_are_sent_again(statements_table: Table, code: str) -> None:
    # given
    table = statements_table
    task_ids = given_tasks(table, 30)
    client = intercepted(table.client, Statements(task_ids[7], code, 3))

    # when
    results = record_all(table, [a_report(task_id=task_id, attempt=1) for task_id in task_ids], client)

    # then
    assert outcomes(results) == [Verdict.APPLIED] * 30
    assert {stored(table, task_id).version for task_id in task_ids} == {4}


def test_only_the_reports_that_the_table_never_took_are_busy(statements_table: Table) -> None:
    # given
    table = statements_table
    task_ids = given_tasks(table, 30)
    time_left = FakeTime(left_ms=8_000)
    client = intercepted(table.client, Statements(task_ids[7], "ThrottlingError", None))

    # when
    results = record_all(table, [a_report(task_id=task_id, attempt=1) for task_id in task_ids], client, time_left)

    # then
    expected: list[Verdict | type[TasklatchError]] = [Verdict.APPLIED] * 30
    expected[7] = ServiceBusyError
    assert outcomes(results) == expected
    assert stored(table, task_ids[7]).status is TaskStatus.IN_PROGRESS
    assert time_left.left_ms >= 1_000


def test_busy_item_is_503_within_the_answer_and_says_when_to_come_again(statements_table: Table, load: Load) -> None:
    # given
    table = statements_table
    module = load("report_status", intercepted(table.client, Statements("stuck", "ThrottlingError", None)))
    for task_id in ("stuck", "free"):
        table.put(stored_item(a_task(execution_id=table.tenant, task_id=task_id)))
    statuses = [{"taskId": task_id, "status": "COMPLETED"} for task_id in ("stuck", "free")]

    # when: with hardly any time left, so that next to nothing is waited for
    reply = call_api(
        module.handler,
        api_event(ROUTE, path={"executionId": table.tenant}, body={"statuses": statuses}),
        Context(remaining_ms=4_501),
    )

    # then
    assert reply.status == 200
    stuck, free = reply.body["results"]
    assert (stuck["status"], stuck["problem"]["type"]) == (503, "urn:tasklatch:problem:busy")
    assert (free["status"], free["verdict"]) == (200, "applied")
    assert int(reply.headers["retry-after"]) >= 1


def test_a_statement_that_is_refused_is_the_error_of_its_report_alone(
    statements_table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    # given
    table = statements_table
    task_ids = given_tasks(table, 30)
    client = intercepted(table.client, Statements(task_ids[7], "ValidationError", None))

    # when
    results = record_all(table, [a_report(task_id=task_id, attempt=1) for task_id in task_ids], client)

    # then
    expected: list[Verdict | type[TasklatchError]] = [Verdict.APPLIED] * 30
    expected[7] = UnexpectedError
    assert outcomes(results) == expected
    assert "UnhandledErrors" in capsys.readouterr().out


class RefusesCallsWith:
    """Refuses every whole call with a statement about a task, as DynamoDB may refuse a call that it cannot read."""

    def __init__(self, task_id: str) -> None:
        self.key = {"S": keys.task_sk(task_id)}

    def __call__(self, operation: str, call: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if operation == "batch_execute_statement" and any(
            self.key in statement["Parameters"] for statement in arguments["Statements"]
        ):
            raise ClientError({"Error": {"Code": "ValidationException", "Message": "no statement"}}, operation)
        return call()


def test_a_call_that_is_refused_for_one_statement_fails_no_other_report(statements_table: Table) -> None:
    # given
    table = statements_table
    task_ids = given_tasks(table, 30)
    client = intercepted(table.client, RefusesCallsWith(task_ids[7]))

    # when
    results = record_all(table, [a_report(task_id=task_id, attempt=1) for task_id in task_ids], client)

    # then
    expected: list[Verdict | type[TasklatchError]] = [Verdict.APPLIED] * 30
    expected[7] = UnexpectedError
    assert outcomes(results) == expected


def test_reports_that_are_ignored_cost_no_write_of_a_task(statements_table: Table) -> None:
    # given
    table = statements_table
    task_ids = given_tasks(table, 100, TaskStatus.COMPLETED)

    # when
    with counted_calls(table.client) as calls:
        results = record_all(
            table, [a_report(TaskStatus.FAILED, task_id, attempt=1, output="{}") for task_id in task_ids]
        )

    # then
    assert outcomes(results) == [Verdict.IGNORED_AFTER_SUCCESS] * 100
    assert calls["BatchExecuteStatement"] == 0
    outputs = [table.items(keys.output_pk(table.tenant, "nightly", task_id)) for task_id in task_ids[:3]]
    assert outputs == [[]] * 3, "and leave no output"


def test_ignored_reports_of_a_batch_are_stored_up_to_the_limit_of_each_task(statements_table: Table) -> None:
    # given
    table = statements_table
    full, other = given_tasks(table, 2, TaskStatus.COMPLETED)
    late = [a_report(TaskStatus.FAILED, full, attempt=1, message=str(number)) for number in range(MAX_IGNORED_ENTRIES)]
    record_all(table, late)

    # when
    results = record_all(table, [a_report(TaskStatus.FAILED, name, attempt=1, message="new") for name in (full, other)])

    # then
    assert outcomes(results) == [Verdict.IGNORED_AFTER_SUCCESS] * 2
    assert [isinstance(result, ReportResult) and result.is_stored for result in results] == [False, True]
    assert len(table.items(keys.history_pk(table.tenant, "nightly", full))) == MAX_IGNORED_ENTRIES


@pytest.mark.parametrize(
    ("moved", "verdict"),
    [(TaskStatus.IN_PROGRESS, Verdict.APPLIED), (TaskStatus.COMPLETED, Verdict.IGNORED_AFTER_SUCCESS)],
)
def test_a_report_whose_task_moved_after_the_read_is_decided_on_what_it_became(
    statements_table: Table, moved: TaskStatus, verdict: Verdict
) -> None:
    # given
    table = statements_table
    (task_id,) = given_tasks(table, 1)
    overtaking = [a_task(moved, 1, tenant=table.tenant, task_id=task_id, version=9)]

    def around(operation: str, call: Callable[[], Any], _: dict[str, Any]) -> Any:
        if operation == "batch_execute_statement" and overtaking:
            table.put(stored_item(overtaking.pop()))
        return call()

    # when
    report = a_report(TaskStatus.FAILED, task_id, attempt=1)
    (result,) = record_all(table, [report], intercepted(table.client, around))

    # then
    assert isinstance(result, ReportResult)
    assert result.verdict is verdict
    assert stored(table, task_id).version == (10 if verdict is Verdict.APPLIED else 9)


class LosesBatchAnswers:
    """Performs the first call of an operation, then loses its answer."""

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.lost = False

    def __call__(self, operation: str, call: Callable[[], Any], _: dict[str, Any]) -> Any:
        answer = call()
        if operation == self.operation and not self.lost:
            self.lost = True
            raise ReadTimeoutError(endpoint_url="http://localhost")
        return answer


@pytest.mark.parametrize("attempt", [None, 1])
def test_batch_whose_answer_was_lost_is_applied_once(statements_table: Table, attempt: int | None) -> None:
    # given
    table = statements_table
    task_ids = given_tasks(table, 10)
    client = intercepted(table.client, LosesBatchAnswers("batch_execute_statement"))

    # when
    results = record_all(table, [a_report(TaskStatus.FAILED, task_id, attempt=attempt) for task_id in task_ids], client)

    # then
    assert outcomes(results) == [Verdict.APPLIED] * 10
    assert {stored(table, task_id).version for task_id in task_ids} == {4}
    history = History(table.client, table.settings, make_backoff())
    for task_id in task_ids:
        assert history.list_entries(table.tenant, "nightly", task_id, limit=10, cursor=None) == ([], None)


class LeavesUnprocessed:
    """Takes only the first of what an operation is given, `times` times."""

    def __init__(self, operation: str, field: str, times: int) -> None:
        self.operation = operation
        self.field = field
        self.left = times

    def __call__(self, operation: str, call: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        if operation != self.operation or not self.left:
            return call()
        self.left -= 1
        ((table, requested),) = arguments["RequestItems"].items()
        expected = requested["Keys"] if operation == "batch_get_item" else requested
        rest = expected[1:]
        del expected[1:]
        answer = call()
        if rest:
            answer[self.field] = {table: {**requested, "Keys": rest} if operation == "batch_get_item" else rest}
        return answer


@pytest.mark.parametrize(
    ("operation", "field"), [("batch_get_item", "UnprocessedKeys"), ("batch_write_item", "UnprocessedItems")]
)
def test_what_the_table_leaves_unprocessed_is_sent_again(statements_table: Table, operation: str, field: str) -> None:
    # given
    table = statements_table
    task_ids = given_tasks(table, 5)
    client = intercepted(table.client, LeavesUnprocessed(operation, field, 3))

    # when
    reports = [a_report(TaskStatus.FAILED, task_id, output="{}") for task_id in task_ids]
    results = record_all(table, reports, client)

    # then
    assert outcomes(results) == [Verdict.APPLIED] * 5
    for report in reports:
        pk = keys.output_pk(table.tenant, "nightly", report.task_id)
        assert table.item(pk, keys.output_sk(0, report.fingerprint)) is not None


class Refuses:
    def __init__(self, operation: str) -> None:
        self.operation = operation

    def __call__(self, operation: str, call: Callable[[], Any], _: dict[str, Any]) -> Any:
        if operation == self.operation:
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, operation)
        return call()


@pytest.mark.parametrize(
    ("operation", "concerned"),
    [
        ("batch_get_item", {"plain", "with output", "unnamed", "ignored"}),
        ("batch_write_item", {"with output", "ignored"}),
        ("batch_execute_statement", {"plain", "with output", "unnamed"}),
    ],
)
def test_part_of_the_table_that_is_busy_concerns_only_who_needs_it(
    statements_table: Table, operation: str, concerned: set[str]
) -> None:
    # given
    table = statements_table
    reports = {
        "plain": a_report(task_id="plain", attempt=1),
        "with output": a_report(task_id="with output", attempt=1, output="{}"),
        "unnamed": a_report(TaskStatus.FAILED, "unnamed"),
        "ignored": a_report(TaskStatus.FAILED, "ignored", attempt=1),
    }
    for name in reports:
        status = TaskStatus.COMPLETED if name == "ignored" else TaskStatus.IN_PROGRESS
        table.put(stored_item(a_task(status, tenant=table.tenant, task_id=name)))

    # when
    results = record_all(table, list(reports.values()), intercepted(table.client, Refuses(operation)))

    # then
    busy = {name for name, result in zip(reports, results, strict=True) if isinstance(result, ServiceBusyError)}
    assert busy == concerned
    assert stored(table, "with output").status is (
        TaskStatus.IN_PROGRESS if "with output" in concerned else TaskStatus.COMPLETED
    ), "a report whose output could not be kept is not applied"


def test_report_without_attempt_is_overtaken_within_a_batch_and_still_taken(statements_table: Table) -> None:
    # given
    table = statements_table
    (task_id,) = given_tasks(table, 1)
    overtaking = [a_task(TaskStatus.SCHEDULED, 2, tenant=table.tenant, task_id=task_id, version=5)]

    def around(operation: str, call: Callable[[], Any], _: dict[str, Any]) -> Any:
        if operation == "batch_execute_statement" and overtaking:
            table.put(stored_item(overtaking.pop()))
        return call()

    # when
    (result,) = record_all(table, [a_report(TaskStatus.FAILED, task_id)], intercepted(table.client, around))

    # then
    assert isinstance(result, ReportResult)
    assert (result.verdict, result.task.attempt, result.task.version) == (Verdict.APPLIED, 2, 6)
