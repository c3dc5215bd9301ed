"""Schedules of the deployed service: what the clock starts, by the native contract and by Cognite's own client."""

from collections.abc import Callable, Iterator
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx
import pytest
from cognite.client import CogniteClient
from cognite.client.data_classes.data_modeling.query import NodeResultSetExpression, Select
from cognite.client.data_classes.workflows import (
    WorkflowDataModelingTriggerRule,
    WorkflowScheduledTriggerRule,
    WorkflowTriggerDataModelingQuery,
    WorkflowTriggerRule,
    WorkflowTriggerUpsert,
)
from cognite.client.exceptions import CogniteAPIError, CogniteNotFoundError

from local.cloud.stack import Stack
from tests.e2e.test_cognite import a_task, client_of, define, detailed
from tests.factories import fresh_name
from tests.polling import poll

SECONDS_TO_A_TIME: Final = 120
EVERY_MINUTE: Final = WorkflowScheduledTriggerRule("* * * * *", ZoneInfo("Asia/Kolkata"))


@pytest.fixture(scope="module")
def client(stack: Stack) -> CogniteClient:
    return client_of(stack, "operator")


@pytest.fixture
def upsert(client: CogniteClient) -> Iterator[Callable[..., Any]]:
    """Make triggers of a workflow of their own, and delete them at the end."""
    names = []

    def make(rule: WorkflowTriggerRule, **fields: Any) -> Any:
        name, workflow = fresh_name(), define(client, a_task("draw", data={"of": "${workflow.input.of}"}))
        names.append(name)
        return client.workflows.triggers.upsert(
            WorkflowTriggerUpsert(
                external_id=name, trigger_rule=rule, workflow_external_id=workflow, workflow_version="1", **fields
            )
        )

    yield make
    for name in names:
        client.workflows.triggers.delete(name)


def test_schedule_starts_executions_until_it_is_deleted(operator: httpx.Client) -> None:
    # given
    name = fresh_name()
    body = {"scheduleId": name, "everyMinutes": 1, "execution": {"name": name, "tasks": [{"taskId": "draw"}]}}
    assert operator.post("/v1/schedules", json=body).status_code == 201

    # when
    def history() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = operator.get(f"/v1/schedules/{name}/history").json()["items"]
        return items

    entry = poll(history, seconds=SECONDS_TO_A_TIME)[-1]

    # then
    assert entry["status"] == "started"
    execution = operator.get(f"/v1/executions/{entry['executionId']}").json()
    assert (execution["name"], execution["status"]) == (name, "RUNNING")
    assert operator.post(f"/v1/schedules/{name}/pause").json()["paused"] is True
    assert operator.delete(f"/v1/schedules/{name}").status_code == 204
    assert operator.get(f"/v1/schedules/{name}").status_code == 404


def test_trigger_of_cognites_client_runs_its_workflow(client: CogniteClient, upsert: Callable[..., Any]) -> None:
    # given
    trigger = upsert(EVERY_MINUTE, input={"of": "stars"}, metadata={"dome": "west"})

    # when
    [run] = poll(lambda: client.workflows.triggers.list_runs(trigger.external_id, limit=1), seconds=SECONDS_TO_A_TIME)

    # then
    assert (run.status, run.workflow_external_id, run.workflow_version) == (
        "success",
        trigger.workflow_external_id,
        "1",
    )
    execution = detailed(client, run.workflow_execution_id)
    assert execution.input == {"of": "stars", "version": "1"}
    assert execution.metadata == {"dome": "west"}


def test_trigger_of_cognites_client_is_listed_replaced_paused_and_deleted(
    client: CogniteClient, upsert: Callable[..., Any]
) -> None:
    # given
    trigger = upsert(WorkflowScheduledTriggerRule("0 0 1 1 *"), metadata={"a": "b"})
    name = trigger.external_id

    def shown() -> Any:
        return next((item for item in client.workflows.triggers.list(limit=None) if item.external_id == name), None)

    # then
    assert poll(shown).dump() == trigger.dump()
    replaced = client.workflows.triggers.upsert(trigger.as_write())
    assert replaced.created_time == trigger.created_time
    for _ in range(2):
        client.workflows.triggers.pause(name)
        assert shown().is_paused
    for _ in range(2):
        client.workflows.triggers.resume(name)
        assert not shown().is_paused
    assert list(client.workflows.triggers.list_runs(name)) == []
    client.workflows.triggers.delete([name])
    poll(lambda: shown() is None)
    client.workflows.triggers.upsert(trigger.as_write())


def test_trigger_on_data_changes_says_why_it_never_fires(client: CogniteClient, upsert: Callable[..., Any]) -> None:
    query = WorkflowTriggerDataModelingQuery(with_={"a": NodeResultSetExpression()}, select={"a": Select()})

    trigger = upsert(WorkflowDataModelingTriggerRule(query, batch_size=500, batch_timeout=300))

    assert trigger.trigger_rule.batch_size == 500
    [run] = client.workflows.triggers.list_runs(trigger.external_id)
    assert run.status == "failed"
    assert "do not fire here" in str(run.reason_for_failure)


def test_trigger_that_is_missing_is_refused_as_cognites_client_expects(client: CogniteClient) -> None:
    for change in (client.workflows.triggers.pause, client.workflows.triggers.resume):
        with pytest.raises(CogniteAPIError, match=r"Trigger not found\."):
            change("none")
    with pytest.raises(CogniteAPIError, match=r"Workflow trigger not found\."):
        client.workflows.triggers.list_runs("none")
    with pytest.raises((CogniteAPIError, CogniteNotFoundError), match="not found"):
        client.workflows.triggers.delete("none")
