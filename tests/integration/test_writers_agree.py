"""The single writer, the batch writer and the rules in plain Python are held to the same outcomes."""

from dataclasses import replace
from itertools import product
from typing import Any, Final

import pytest

from tasklatch.domain.amendment import amendment_write
from tasklatch.domain.conditional_write import write_for_report
from tasklatch.domain.errors import AttemptNotOpenError, TasklatchError
from tasklatch.domain.failure import FailureReason
from tasklatch.domain.report import Report, Verdict, make_report
from tasklatch.domain.results import ReportResult
from tasklatch.domain.status import REPORTABLE, TaskStatus
from tasklatch.domain.task import Task
from tasklatch.domain.verdict import decide_verdict
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.task_item import task_from_item
from tasklatch.ledger.ledger import Ledger
from tests.factories import a_report, a_task, fixed_clock, stored_item
from tests.integration.emulators import Table, make_backoff

EARLIER: Final = a_report(TaskStatus.FAILED, attempt=1, message="disk full")
ATTEMPTS: Final = (None, 1, 2, 3)

# What a report can carry besides its status and attempt.
DETAILS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {
        "message": "disk full",
        "failure_reason": FailureReason.RATE_LIMITED,
        "retry_after_seconds": 12.5,
        "platform_status": "broken",
        "output": '{"pages":3}',
    },
)

CHECKPOINTS: Final = [
    replace(a_report(TaskStatus.IN_PROGRESS, attempt=attempt, output=output), sequence=sequence)
    for attempt, output, sequence in product((None, 2), ('{"pages":1}', '{"pages":2}'), (None, 4, 6))
]
WITH_CHECKPOINT: Final = {
    f"{status} at attempt 2, with a checkpoint": a_task(
        status, 2, checkpoint_attempt=2, checkpoint_fingerprint=CHECKPOINTS[0].fingerprint, checkpoint_sequence=5
    )
    for status in (TaskStatus.IN_PROGRESS, TaskStatus.TIMED_OUT, TaskStatus.FAILED, TaskStatus.COMPLETED)
}
STATES: Final = WITH_CHECKPOINT | {
    f"{status} at attempt {attempt}": a_task(
        status,
        attempt,
        outcome=EARLIER.fingerprint,
        message="an earlier message",
        message_truncated=True,
        failure_reason=FailureReason.RATE_LIMITED,
        retry_after_seconds=3.0,
        platform_status="earlier",
        progress=0.5,
        ended_at=1,
    )
    for status, attempt in [*product(TaskStatus, [2]), (TaskStatus.PENDING, 1), (TaskStatus.CANCELED, 1)]
}

REPORTS: Final = [
    make_report("resize", status, attempt=attempt, **details)
    for status, attempt, details in product(sorted(REPORTABLE), ATTEMPTS, DETAILS)
] + [EARLIER, *CHECKPOINTS]


def expected_verdict(task: Task, report: Report) -> Verdict | type[TasklatchError]:
    """What the rules say, with no store in between."""
    includes_attempt_id = report.attempt is not None or report.status is TaskStatus.COMPLETED
    current = {} if includes_attempt_id else {"attempt": task.attempt, "version": task.version}
    write = write_for_report(report, now=0, request_id="a", **current)
    if write.allows(task) or amendment_write(report, task, now=0, request_id="a") is not None:
        return Verdict.APPLIED
    try:
        return decide_verdict(write, task)
    except AttemptNotOpenError:
        return AttemptNotOpenError


def verdict_of(result: ReportResult | TasklatchError) -> Verdict | type[TasklatchError]:
    return result.verdict if isinstance(result, ReportResult) else type(result)


def one_by_one(
    ledger: Ledger, tenant: str, execution_id: str, reports: list[Report]
) -> list[ReportResult | TasklatchError]:
    results: list[ReportResult | TasklatchError] = []
    for index, report in enumerate(reports):
        try:
            results.append(ledger.record(tenant, execution_id, report, f"request#{index}"))
        except TasklatchError as error:
            results.append(error)
    return results


def left_behind(table: Table, execution_id: str, task_ids: list[str]) -> list[dict[str, Any]]:
    """Every item under an execution and its histories, but for the partition key that tells two executions apart."""
    items = table.items(keys.execution_pk(table.tenant, execution_id))
    for task_id in task_ids:
        items += table.items(keys.history_pk(table.tenant, execution_id, task_id))
    apart = {keys.PK, keys.LIST_KEY, "executionId"}
    return [{name: value for name, value in item.items() if name not in apart} for item in items]


@pytest.mark.parametrize("state", STATES)
def test_single_and_batch_writer_agree_with_the_rules(statements_table: Table, state: str) -> None:
    # given the same tasks in two executions, one for each report
    table, before = statements_table, STATES[state]
    task_ids = [f"task-{index:03d}" for index in range(len(REPORTS))]
    reports = [_renamed(report, task_id) for report, task_id in zip(REPORTS, task_ids, strict=True)]
    for execution_id in ("singly", "together"):
        table.put(*(stored_item(_moved(before, table.tenant, execution_id, task_id)) for task_id in task_ids))
    ledger = Ledger(table.client, table.settings, fixed_clock, make_backoff())

    # when
    singly = one_by_one(ledger, table.tenant, "singly", reports)
    together = ledger.record_all(table.tenant, "together", reports, "request")

    # then
    expected = [expected_verdict(before, report) for report in REPORTS]
    assert [verdict_of(result) for result in singly] == expected
    assert [verdict_of(result) for result in together] == expected
    assert left_behind(table, "singly", task_ids) == left_behind(table, "together", task_ids)
    written = {item[keys.SK]["S"]: item for item in table.items(keys.execution_pk(table.tenant, "together"))}
    for result, task_id in zip(together, task_ids, strict=True):
        if isinstance(result, ReportResult):
            assert task_from_item(written[keys.task_sk(task_id)]) == result.task


def test_generated_table_covers_every_verdict() -> None:
    outcomes = {expected_verdict(task, report) for task, report in product(STATES.values(), REPORTS)}
    assert outcomes == {*Verdict, AttemptNotOpenError}


def test_one_after_another_in_a_batch_is_as_one_after_another_alone(statements_table: Table) -> None:
    # given
    table = statements_table
    before = a_task(TaskStatus.SCHEDULED, 2, task_id="task", outcome=EARLIER.fingerprint)
    reports = [_renamed(report, "task") for report in sorted(REPORTS, key=lambda report: report.fingerprint)]
    for execution_id in ("singly", "together"):
        table.put(stored_item(_moved(before, table.tenant, execution_id, "task")))
    ledger = Ledger(table.client, table.settings, fixed_clock, make_backoff())

    # when
    singly = one_by_one(ledger, table.tenant, "singly", reports)
    together = ledger.record_all(table.tenant, "together", reports, "request")

    # then
    assert [verdict_of(result) for result in together] == [verdict_of(result) for result in singly]
    assert left_behind(table, "singly", ["task"]) == left_behind(table, "together", ["task"])


def _renamed(report: Report, task_id: str) -> Report:
    return replace(report, task_id=task_id)


def _moved(task: Task, tenant: str, execution_id: str, task_id: str) -> Task:
    return replace(task, tenant=tenant, execution_id=execution_id, task_id=task_id)
