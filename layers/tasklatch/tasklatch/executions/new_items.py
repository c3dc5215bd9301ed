"""Items of new tasks: the tasks, their inputs, and their dependencies. All are without an expiry."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from tasklatch.domain.task import Task
from tasklatch.domain.task_definition import TaskDefinition
from tasklatch.dynamodb import keys
from tasklatch.dynamodb.items import Item, primary_key, to_item
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
            keys.LIST_KEY: {"S": keys.open_list(task.tenant, task.execution_id)},
            keys.LIST_SORT: {"S": keys.task_sk(task.task_id)},
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
            "taskId": {"S": definition.task_id},
            "remaining": {"N": str(len(definition.depends_on))},
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
            "taskId": {"S": definition.task_id},
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
        {**primary_key(pk, keys.dependent_sk(definition.task_id, parent_id)), "taskId": {"S": parent_id}}
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
    attributes: Item = {}
    if definition.input is not None:
        attributes[PAYLOAD] = {"S": definition.input}
    if definition.includes_attempt_id:
        attributes[INCLUDES_ATTEMPT_ID] = {"BOOL": True}
    if definition.kind is not None:
        attributes[KIND] = {"S": definition.kind}
    if definition.attempt_id_path:
        attributes[ATTEMPT_ID_PATH] = {"L": [{"S": key} for key in definition.attempt_id_path]}
    if definition.children is not None:
        attributes[CHILDREN] = {"M": to_item(asdict(definition.children))}
    if definition.depends_on:
        attributes[DEPENDS_ON] = {"L": [{"S": name} for name in definition.depends_on]}
    if indirect_names:
        attributes[REFERS_TO] = {"L": [{"S": name} for name in indirect_names]}
    return attributes
