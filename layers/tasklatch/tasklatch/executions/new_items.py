"""Items of new tasks: the tasks, their inputs, and their dependencies. All are without an expiry."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from tasklatch.domain.task import Task
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item, primary_key, to_attribute, to_item
from tasklatch.dynamodb.task_item import task_to_item
from tasklatch.ledger.payloads import (
    ATTEMPT_ID_PATH,
    CHILDREN,
    DEPENDS_ON,
    INCLUDES_ATTEMPT_ID,
    KIND,
    PAYLOAD,
    REFERS_TO,
)


def task_items(tasks: Iterable[Task]) -> list[Item]:
    """Return the items of open tasks, listed in the index of open tasks."""
    return [
        {
            **task_to_item(task),
            keys.LIST_KEY: to_attribute(keys.open_list(task.tenant, task.execution_id)),
            keys.LIST_SORT: to_attribute(keys.task_sk(task.task_id)),
        }
        for task in tasks
    ]


def counter_items(pk: str, definitions: Iterable[TaskDefinition]) -> list[Item]:
    """Return one counter item for each task with dependencies: the number of dependencies that remain.

    Parameters
    ----------
    pk
        Partition key of the execution.
    """
    return [
        {
            **primary_key(pk, keys.waits_sk(definition.task_id)),
            **to_item({"taskId": definition.task_id, "remaining": len(definition.depends_on)}),
        }
        for definition in definitions
        if definition.depends_on
    ]


def dependency_items(pk: str, definitions: Iterable[TaskDefinition]) -> list[Item]:
    """Return one item for each pair of a dependency and its dependent.

    Parameters
    ----------
    pk
        Partition key of the execution.
    """
    return [
        {
            **primary_key(pk, keys.dependent_sk(name, definition.task_id)),
            "taskId": to_attribute(definition.task_id),
        }
        for definition in definitions
        for name in definition.depends_on
    ]


def child_items(pk: str, definitions: Iterable[TaskDefinition], parent_id: str) -> list[Item]:
    """Return one item for each child, by which the parent waits for it.

    Parameters
    ----------
    pk
        Partition key of the execution.
    """
    return [
        {**primary_key(pk, keys.dependent_sk(definition.task_id, parent_id)), **to_item({"taskId": parent_id})}
        for definition in definitions
    ]


def input_items(
    pk: str, definitions: Iterable[TaskDefinition], indirect_names: Mapping[str, Sequence[str]]
) -> list[Item]:
    """Return the input items of tasks; none for a task about which there is nothing to store.

    Parameters
    ----------
    pk
        Partition key of the execution.
    indirect_names
        By task, the names that its input refers to besides its own dependencies.
    """
    items: list[Item] = []
    for definition in definitions:
        attributes = _input_attributes(definition, indirect_names.get(definition.task_id, ()))
        if attributes:
            items.append({**primary_key(pk, keys.input_sk(definition.task_id)), **attributes})
    return items


def _input_attributes(definition: TaskDefinition, indirect_names: Sequence[str]) -> Item:
    return to_item(
        {
            PAYLOAD: definition.input,
            INCLUDES_ATTEMPT_ID: definition.includes_attempt_id or None,
            KIND: definition.kind,
            ATTEMPT_ID_PATH: definition.attempt_id_path or None,
            CHILDREN: asdict(definition.children) if definition.children is not None else None,
            DEPENDS_ON: definition.depends_on or None,
            REFERS_TO: indirect_names or None,
        }
    )
