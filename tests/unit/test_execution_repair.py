"""Repair of executions: what a later version of the service stored is left to that version."""

from typing import Any

import pytest

from tasklatch.domain.overdue import STREAM_MS
from tasklatch.domain.status import TaskStatus
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.dynamodb import keys
from tests.memory_client import a_memory_table
from tests.workflow_helpers import World


@pytest.fixture
def world() -> World:
    world = World(a_memory_table())
    world.create(TaskDefinition("one"), TaskDefinition("two"))
    return world


def store(world: World, sk: str, **attributes: Any) -> dict[str, Any]:
    """Store an item as a later version would, and return it."""
    item = {**(world.table.item(keys.execution_pk(world.tenant, "nightly"), sk) or {}), **attributes}
    world.table.put(item)
    return item


def reconcile(world: World) -> None:
    for _ in range(3):
        world.clock.now += STREAM_MS + 1
        world.reconciler.run([True] * 1_000)


def published(world: World) -> set[str]:
    """Return the ids of the tasks whose changes are on the bus."""
    entries = [entry for request in world.bus.requests("put_events") for entry in request["Entries"]]
    return {name for name in ("one", "two") for entry in entries if f'"{name}"' in entry["Detail"]}


def test_changes_that_were_lost_are_published(world: World) -> None:
    reconcile(world)

    assert published(world) == {"one", "two"}


def test_a_task_of_a_later_version_is_not_published(world: World) -> None:
    later = store(world, keys.task_sk("one"), form={"N": "3"})

    reconcile(world)

    assert published(world) == {"two"}
    assert world.table.item(later["pk"]["S"], later["sk"]["S"]) == later


def test_tasks_of_an_execution_whose_status_is_of_a_later_version_stay_open(world: World) -> None:
    store(world, keys.EXECUTION_SK, status={"S": "PAUSED"})

    reconcile(world)
    world.closer.cancel_open_tasks(world.tenant, "nightly")

    assert set(world.statuses().values()) == {TaskStatus.SCHEDULED}
