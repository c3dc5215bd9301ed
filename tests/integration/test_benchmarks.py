"""What the benchmarks measure is the service: its stand-in for DynamoDB gives verdicts as an emulator does."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pytest

from tasklatch.dynamodb import keys
from tests.benchmarks import alternatives
from tests.benchmarks.__main__ import missed
from tests.benchmarks.dynamodb_stand_in import running
from tests.benchmarks.measure import Figure
from tests.benchmarks.metered_service import STATUS_ROUTE, STATUSES_ROUTE
from tests.factories import a_task, api_event, call_api, fresh_name, stored_item
from tests.integration.emulators import Table, new_client

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TASKS: Final = ("one", "other", "third")
REPORTS: Final = (
    {"status": "IN_PROGRESS", "attempt": 1},
    {"status": "FAILED", "attempt": 1, "message": "no"},
    {"status": "COMPLETED", "attempt": 1, "output": {"rows": 3}},
    {"status": "FAILED"},
    {"status": "COMPLETED"},
)


@pytest.fixture(scope="module")
def stand_in() -> Iterator["DynamoDBClient"]:
    with running(service_ms=0) as url:
        yield new_client(url)


def outcomes(load: Callable[[str, Any], ModuleType], table: Table) -> list[Any]:
    """What reports on fresh tasks come to, one by one and in a batch, and the items that they leave."""
    table.put(*(stored_item(a_task(tenant=table.tenant, task_id=task_id)) for task_id in TASKS))
    handler = load("report_status", table.client).handler
    claims = {"scope": "tasklatch/report", "tenant": table.tenant}
    single = [
        call_api(
            handler,
            api_event(STATUS_ROUTE, path={"executionId": "nightly", "taskId": "one"}, body=report, claims=claims),
        )
        for report in REPORTS
    ]
    body = [{"taskId": task_id, **report} for report in REPORTS for task_id in ("other", "third", "none")]
    batch = call_api(
        handler, api_event(STATUSES_ROUTE, path={"executionId": "nightly"}, body={"statuses": body}, claims=claims)
    )
    stored = [table.item(keys.execution_pk(table.tenant, "nightly"), keys.task_sk(task_id)) for task_id in TASKS]
    return [
        *((reply.status, reply.body["verdict"], reply.body["task"]["version"]) for reply in single),
        *(
            (result["status"], result.get("verdict"), result.get("task", {}).get("version"))
            for result in batch.body["results"]
        ),
        *(sorted(item) for item in stored if item is not None),
    ]


def test_the_stand_in_gives_the_verdicts_of_an_emulator(
    stand_in: "DynamoDBClient",
    statements_table: Table,
    load: Callable[[str, Any], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given
    monkeypatch.setenv("TENANT_CLAIM", "tenant")
    measured_on = Table(stand_in, statements_table.settings, tenant=fresh_name())

    # when
    result = outcomes(load, measured_on)

    # then
    assert result == outcomes(load, statements_table)
    assert {verdict for _, verdict, _ in result[: len(REPORTS)]} == {"applied", "duplicate", "ignored_after_success"}


def test_what_the_service_keeps_right_the_alternatives_get_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    with running(service_ms=0) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        bench = alternatives.Bench(url)

        # when
        wrong_steps = {
            folder: [figure.value for figure in bench.endings(folder, title)]
            for folder, title in alternatives.HANDLERS.items()
        }

    # then
    assert wrong_steps == {
        alternatives.SERVICE: [0, 0],
        alternatives.PLAIN: [1, 2],
        alternatives.GUARDED: [0, 1],
        alternatives.IDEMPOTENT: [2, 1],
    }


def test_a_report_is_one_call_and_idempotency_is_three(monkeypatch: pytest.MonkeyPatch) -> None:
    # given
    with running(service_ms=0) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        bench = alternatives.Bench(url)

        # when
        calls = {
            folder: next(figure.value for figure in bench.traffic(folder, title) if figure.unit == "calls")
            for folder, title in alternatives.HANDLERS.items()
        }

    # then
    assert calls == {
        alternatives.SERVICE: 1,
        alternatives.PLAIN: 1,
        alternatives.GUARDED: 1,
        alternatives.IDEMPOTENT: 3,
    }


def test_a_goal_that_is_not_met_is_named() -> None:
    # given
    figures = [
        Figure("batch", "ten reports", 1.4, "x", goal=1.5),
        Figure("batch", "hundred reports", 4.2, "x", goal=4),
        Figure("batch", "a report", 7.1, "ms"),
    ]

    # when
    messages = missed(figures)

    # then
    assert messages == ["batch: hundred reports: 4.2 x, at most 4"]
